"""What one client may use is bounded: connections, heads, bodies, streams, memory."""

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.api.serving import Api, unix_client
from tests.volumes.world import World
from volplug.api.access import make_token
from volplug.connections import Bounds
from volplug.handlers.control.access import Admit, admit_local
from volplug.handlers.control.errors import malformed_answer
from volplug.handlers.control.handler import ControlHandler
from volplug.handlers.control.routes import ControlRoutes
from volplug.handlers.control.stream import Waiting
from volplug.server import SocketServer, UnixSocket

pytestmark = pytest.mark.api

_STREAM = b"GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
_POST = b"POST /v1/volumes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
_VERSION = b"GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def bounded(
    world: World,
    path: Path,
    bounds: Bounds,
    waiting: int = 10,
    keep_alive_s: float = 30,
    body_s: float = 10,
    admit: Admit = admit_local,
) -> AsyncIterator[Api]:
    """Serve with other limits."""
    unix = await asyncio.to_thread(UnixSocket.bind, path, "VOLPLUG_CONTROL_SOCKET")
    routes = ControlRoutes(world.service, Waiting(waiting), keep_alive_s=keep_alive_s)
    server = SocketServer(ControlHandler(routes, admit, body_s), bounds, malformed_answer)
    await server.start(unix)
    try:
        async with unix_client(path) as client:
            yield client
    finally:
        await server.stop()
        await asyncio.to_thread(unix.close)


@pytest.fixture
def path(directory: Path) -> Path:
    return directory / "c.sock"


async def sent(path: Path, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(data)
    return reader, writer


async def test_a_slow_head_ends_its_connection(world: World, path: Path) -> None:
    async with bounded(world, path, Bounds(head_s=0.1)) as client:
        reader, writer = await sent(path, _VERSION[:20])
        assert await reader.read() == b""
        writer.close()
        assert (await client.get("/v1/version")).status == 200


async def test_a_head_of_many_headers_that_does_not_end_ends_its_connection(world: World, path: Path) -> None:
    async with bounded(world, path, Bounds()) as client:
        reader, writer = await sent(path, _VERSION[:-2])
        for _ in range(50):
            if not writer.is_closing():
                writer.write(b"X: " + b"x" * 1000 + b"\r\n")
            await client.get("/v1/version")  # meanwhile it reads the other connection, too
        assert reader.at_eof()
        writer.close()


async def test_a_slow_body_is_answered(world: World, path: Path) -> None:
    head = _POST + b"Content-Length: 9\r\n\r\n{"
    async with bounded(world, path, Bounds(), body_s=0.05):
        reader, writer = await sent(path, head)
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()
    assert world.cloud.calls == []


@pytest.mark.parametrize(
    "data",
    [
        b"GET /v1/version HTTP/1.1\r\nHost: x\r\nX: " + b"x" * (10 << 20),
        b"GET /" + b"x" * (10 << 20),
        b"GET /v1/version HTTP/1.1\r\n" + b"X: x\r\n" * (1 << 20),
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /v1/version HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        _POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["header", "path", "headers", "tls", "length", "two-lengths"],
)
async def test_a_head_that_cannot_be_read_is_answered_in_the_shape_of_errors(
    world: World, path: Path, data: bytes
) -> None:
    async with bounded(world, path, Bounds()) as client:
        reader, writer = await sent(path, data)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.split()[1] == b"400"
        assert b"application/json" in head
        assert b'"code":"invalid-request"' in await reader.readuntil(b"}")
        writer.close()
        assert (await client.get("/v1/version")).status == 200


async def test_a_token_in_a_head_that_cannot_be_read_is_not_repeated(world: World, path: Path) -> None:
    token, _ = make_token("admin", "deployer")
    head = f"GET /v1/version HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\x01\r\n\r\n"
    async with bounded(world, path, Bounds()):
        reader, writer = await sent(path, head.encode())
        answer = await reader.read()
        writer.close()
    assert b"malformed" in answer
    assert token.encode() not in answer


async def test_a_large_body_is_refused_before_it_is_read(world: World, path: Path) -> None:
    async with bounded(world, path, Bounds()) as client:
        reader, writer = await sent(
            path,
            _POST + b"Content-Length: 10485760\r\n\r\n" + b" " * (1 << 20),
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.close()
        assert (await client.get("/v1/version")).status == 200


async def test_more_streams_than_permitted_are_refused_and_others_still_answered(
    world: World, path: Path
) -> None:
    async with bounded(world, path, Bounds(), waiting=2) as client:
        streams = [await sent(path, _STREAM) for _ in range(2)]
        for reader, _ in streams:
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        answer = await client.get("/v1/events", Accept="text/event-stream")
        assert (answer.status, answer.json["code"]) == (503, "too-many-waiting")
        assert (await client.get("/v1/version")).status == 200
        for _, writer in streams:
            writer.close()
        reader, writer = await sent(path, _STREAM)  # accepted after the ends of the others
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_a_thousand_clients_and_a_thousand_streams_take_little_memory(world: World, path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    await world.service.start()
    async with bounded(world, path, Bounds(connections=1200), waiting=1000) as client:
        await client.get("/v1/version")
        before = _resident_bytes()
        streams = [await sent(path, _STREAM) for _ in range(1000)]
        for reader, _ in streams:
            await reader.readuntil(b"\r\n\r\n")
        clients = [await sent(path, _VERSION) for _ in range(1000)]
        for reader, _ in clients:
            assert (await reader.readline() or b"HTTP/1.1 200 OK").startswith(b"HTTP/1.1 200 ")
        assert (await client.get("/v1/version")).status == 200
        for number in range(2):
            await world.create(f"volume-{number}")
        for reader, _ in streams:
            await reader.readuntil(b"volume-1")
        assert _resident_bytes() - before < 100 << 20
        for _, writer in (*streams, *clients):
            writer.close()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")
