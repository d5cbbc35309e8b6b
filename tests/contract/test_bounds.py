"""The resources of one client are bounded, so that it takes none from others."""

import asyncio
import contextlib
import json
import socket
import zlib
from dataclasses import replace

import pytest

from tests.contract.conftest import World
from tests.dockerd import Dockerd

pytestmark = pytest.mark.contract

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_LIST = b"POST /VolumeDriver.List HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
_CREATE = "POST /VolumeDriver.Create HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def strict_world(world: World) -> World:
    """Shorten the deadlines so that a test can wait for them; used before the socket is served."""
    world.bounds = replace(world.bounds, head_s=0.2)
    world.body_s = 0.05
    return world


async def connect(world: World, sent: bytes = b"") -> Streams:
    """Connect and send everything before the server reads, as another process does."""
    return await asyncio.open_unix_connection(sock=begun_connection(world, sent))


async def connect_and_call(world: World) -> Streams:
    """Connect, and assert that a call is answered."""
    reader, writer = await connect(world, _LIST)
    assert (await reader.readuntil(b"]}")).startswith(b"HTTP/1.1 200 OK")
    return reader, writer


def begun_connection(world: World, sent: bytes) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    client.connect(str(world.socket))
    assert client.send(sent) == len(sent)
    return client


@pytest.mark.parametrize("before", [[], [_LIST], [_LIST[:9], _LIST[9:]]])
@pytest.mark.parametrize("begun", [b"P", b"POST /VolumeDriver.List HTTP/1.1\r\nHost: x\r\n"])
async def test_an_incomplete_head_closes_its_connection(
    strict_world: World, dockerd: Dockerd, before: list[bytes], begun: bytes
) -> None:
    reader, writer = await connect(strict_world, before[0] if before else begun)
    for sent in before[1:]:
        await dockerd.ok("List")  # by then the first part has been read
        writer.write(sent)
    if before:
        await reader.readuntil(b"]}")
        writer.write(begun)
    assert await reader.read() == b""
    writer.close()
    assert await dockerd.ok("List") == {"Volumes": []}


async def test_a_head_that_came_in_two_parts_leaves_its_connection_open(
    strict_world: World, dockerd: Dockerd
) -> None:
    reader, writer = await connect(strict_world, _LIST[:10])
    for _ in range(10):  # until the first part is read
        await asyncio.sleep(0)
    writer.write(_LIST[10:])
    await reader.readuntil(b"]}")
    unfinished, other = await connect(strict_world, b"P")
    assert await unfinished.read() == b""  # by then the first head's time is over, too
    writer.write(_LIST)
    assert (await reader.readuntil(b"]}")).startswith(b"HTTP/1.1 200 OK")
    for each in (writer, other):
        each.close()


async def test_an_idle_connection_stays_open(strict_world: World, dockerd: Dockerd) -> None:
    reader, writer = await connect(strict_world)
    unfinished, other = await connect(strict_world, b"P")
    assert await unfinished.read() == b""  # by then the idle one is older than a head may be
    writer.write(_LIST)
    assert (await reader.readuntil(b"]}")).startswith(b"HTTP/1.1 200 OK")
    for each in (writer, other):
        each.close()


async def test_an_incomplete_body_is_answered_and_creates_nothing(
    strict_world: World, dockerd: Dockerd
) -> None:
    reader, writer = await connect(strict_world, f"{_CREATE}Content-Length: 100\r\n\r\n{{".encode())
    answered = await reader.readuntil(b"}")
    assert answered.endswith(b'{"Err":"the request did not arrive within 0 s."}')
    writer.close()
    assert await dockerd.ok("List") == {"Volumes": []}


class TestManyConnections:
    """Three at most, one of which waits for a Mount."""

    @pytest.fixture
    def world(self, world: World) -> World:
        world.bounds = replace(world.bounds, connections=3)
        return world

    async def test_the_longest_idle_connection_is_closed_for_a_new_one(
        self, world: World, dockerd: Dockerd
    ) -> None:
        await dockerd.ok("List")
        oldest, younger = await connect_and_call(world), await connect_and_call(world)
        await dockerd.ok("List")
        newest = await connect_and_call(world)
        assert await oldest[0].read() == b""
        for reader, writer in (younger, newest):
            writer.write(_LIST)
            assert (await reader.readuntil(b"]}")).startswith(b"HTTP/1.1 200 OK")
        for _, writer in (oldest, younger, newest):
            writer.close()

    async def test_of_a_burst_only_the_allowed_connections_stay(self, world: World, dockerd: Dockerd) -> None:
        begun = [begun_connection(world, b"") for _ in range(10)]
        burst = [await asyncio.open_unix_connection(sock=each) for each in begun]
        await dockerd.ok("List")
        await dockerd.ok("List")  # by then the ends have been read here
        assert [reader.at_eof() for reader, _ in burst] == [True] * 8 + [False] * 2
        for _, writer in burst:
            writer.close()

    async def test_a_connection_whose_client_reads_no_answers_is_closed_for_a_new_one(
        self, world: World, dockerd: Dockerd
    ) -> None:
        for number in range(100):
            await dockerd.ok("Create", Name=f"volume-{number}")
        client = begun_connection(world, b"")  # a stream of asyncio would read ahead
        await asyncio.get_running_loop().sock_sendall(client, _LIST * 400)
        for _ in range(400):  # until its answers fill the socket
            await dockerd.ok("Get", Name="volume-1")
        others = [await connect(world) for _ in range(2)]
        assert (await dockerd.ok("Get", Name="volume-1"))["Volume"]["Name"] == "volume-1"
        client.close()
        for _, writer in others:
            writer.close()

    async def test_a_connection_with_a_call_in_progress_is_never_closed(
        self, world: World, dockerd: Dockerd
    ) -> None:
        await dockerd.ok("Create", Name="db")
        attaching = world.driver.hold("attach")
        body = b'{"Name": "db", "ID": "a"}'
        await dockerd.send("/VolumeDriver.Mount", body)
        await attaching.reached.wait()
        quiet = [await connect(world) for _ in range(4)]
        assert [await reader.read() for reader, _ in quiet[:2]] == [b"", b""]
        attaching.opened.set()
        mounted = await dockerd.receive()
        assert mounted is not None
        assert mounted.json == {"Mountpoint": "/mounts/db/data"}
        for _, writer in quiet:
            writer.close()


async def test_unread_answers_hold_back_the_calls_after_them(world: World, dockerd: Dockerd) -> None:
    for number in range(100):
        await dockerd.ok("Create", Name=f"volume-{number}")
    asked = 400
    world.calls.clear()
    client = begun_connection(world, b"")  # a stream of asyncio would read ahead
    await asyncio.get_running_loop().sock_sendall(client, _LIST * asked)
    for _ in range(asked):  # time enough to answer all
        await dockerd.ok("Get", Name="volume-1")
    assert world.calls.count("/VolumeDriver.List") < asked / 2
    reader, writer = await asyncio.open_unix_connection(sock=client, limit=2**20)
    for _ in range(asked):
        answer = await reader.readuntil(b"]}")
        assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["Volumes"]) == 100
    writer.close()
    assert world.calls.count("/VolumeDriver.List") == asked


@pytest.mark.parametrize(
    "head",
    ["CONNECT * HTTP/1.1", "POST /VolumeDriver.List HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket"],
)
async def test_a_request_for_another_protocol_is_answered_and_its_connection_closed(
    world: World, dockerd: Dockerd, head: str
) -> None:
    reader, writer = await connect(world, f"{head}\r\nHost: x\r\nContent-Length: 200000\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 ")
    writer.write(b"x" * 200_000)
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()


_GZIP = zlib.compress(b'{"Name": "x"}')


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        (f"Content-Encoding: gzip\r\nContent-Length: {len(_GZIP)}", _GZIP, 500),
        ("Content-Encoding: deflate\r\nContent-Length: 4", b"\x00\xff\x00\xff", 500),
        ("Transfer-Encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked", b"2\r\n{}garbage", 400),
        ("Content-Length: 100", b'{"Name"', None),
    ],
)
async def test_a_damaged_body_is_refused_or_dropped_in_one_line(
    strict_world: World,
    dockerd: Dockerd,
    caplog: pytest.LogCaptureFixture,
    head: str,
    body: bytes,
    status: int | None,
    at_once: bool,
) -> None:
    reader, writer = await connect(strict_world, f"{_CREATE}{head}\r\n\r\n".encode() + body * at_once)
    if not at_once:
        await dockerd.ok("List")  # by then the body is waited for
        writer.write(body)
    if status is not None:
        assert int((await reader.readline()).split()[1]) == (status if at_once else 500)
    writer.close()
    assert await dockerd.ok("List") == {"Volumes": []}
    assert [record for record in caplog.records if record.exc_info] == []
