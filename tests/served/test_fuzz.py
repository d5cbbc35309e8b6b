"""Requests that no engine sends, thousands of them, seeded: answered or dropped, and nothing else happens."""

import asyncio
import contextlib
import json
import os
import random
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine

pytestmark = [pytest.mark.loop, pytest.mark.contract]

_CLIENTS = 16
_VERBS = ("Create", "Remove", "Mount", "Unmount", "Path", "Get", "List", "Capabilities")
_PATHS = (*(f"/VolumeDriver.{verb}" for verb in _VERBS), "/Plugin.Activate", "/", "/%00", "*", "/x" * 3000)
_METHODS = ("POST",) * 12 + ("GET", "PUT", "CONNECT", "post", "", "P" * 5000)
_VERSIONS = ("HTTP/1.1",) * 12 + ("HTTP/1.0", "HTTP/2.0", "HTTP/9", "", "RTSP/1.0")
# None of them may be created, so that a request that is taken for sound leaves nothing behind.
_NAMES: tuple[object, ...] = (
    *("", "..", "a/b", "x" * 200, "y" * 100_000, "\u00fc", "\ud800", "-", "a\nb"),
    *(7, None, [], {"a": 1}),
)
_KEYS = ("size", "fs", "mkfs-opts", "mount-opts", "label", "nope", "", "k" * 70_000, "SIZE", "help", "\udfff")
_VALUES: tuple[object, ...] = (
    *("8MiB", "-1", "9" * 5000, "-L " * 2000, "'" * 4000, "\\" * 4096, "", "v" * 60_000, "1e99"),
    *(7, None, {}),
)
_HEADERS = (
    *(f"Content-Encoding: {each}" for each in ("gzip", "deflate", "br")),
    *(f"Content-Length: {each}" for each in ("5", "-1", "9" * 20)),
    *(f"Transfer-Encoding: {each}" for each in ("chunked", "gzip, chunked")),
    *("Expect: 100-continue", "Upgrade: websocket\r\nConnection: upgrade", "Connection: close"),
    *("Content-Type: \xff\xfe", f"X: {'x' * 9000}", "X", ": y", " folded"),
    "\r\n".join(f"H{number}: v" for number in range(200)),
)


def _body(dice: random.Random) -> bytes:
    match dice.randrange(8):
        case 0:
            return b""
        case 1:
            return dice.randbytes(dice.choice([1, 100, 10_000]))
        case 2:
            return dice.choice([b"[", b'{"a":', b"{", b'"', b"1e9"]) * dice.choice([1, 1000, 40_000])
        case 3:
            return b"x" * dice.choice([70_000, 140_000, 2_000_000])
    body: dict[str, object] = {"Name": dice.choice(_NAMES), "ID": dice.choice(_NAMES)}
    body["Opts"] = {dice.choice(_KEYS): dice.choice(_VALUES) for _ in range(dice.randrange(4))}
    for key in dice.sample(sorted(body), dice.randrange(2)):
        body[key] = dice.choice([None, [], 7, "text", {"size": 7}])
    return json.dumps(body, ensure_ascii=dice.random() < 0.9).encode(errors="surrogatepass")


def _request(dice: random.Random) -> bytes:
    """One request: some of it odd, the bytes of some turned, some cut off."""
    body = _body(dice)
    lines = [f"{dice.choice(_METHODS)} {dice.choice(_PATHS)} {dice.choice(_VERSIONS)}", "Host: x"]
    lines += [f"Content-Length: {len(body)}"] if dice.random() < 0.8 else []
    lines += dice.sample(_HEADERS, dice.choice([0, 0, 0, 1, 1, 2]))
    sent = bytearray("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
    for _ in range(dice.choice([0, 0, 0, 1, 5])):
        sent[dice.randrange(len(sent))] = dice.randrange(256)
    return bytes(sent[: dice.randrange(len(sent))] if dice.random() < 0.2 else sent) * dice.choice(
        [1] * 9 + [40]
    )


async def _send(socket: Path, dice: random.Random) -> None:
    """Send one and leave: at once, or after all answers."""
    with contextlib.suppress(ConnectionError):
        reader, writer = await asyncio.open_unix_connection(str(socket))
        try:
            writer.write(_request(dice))
            if dice.random() < 0.5:
                writer.write_eof()
                answers = await reader.read()
                assert not answers or answers.startswith(b"HTTP/"), answers[:100]
        finally:
            writer.transport.abort()  # a close would wait for a peer that waits for us to read


@pytest.mark.parametrize(
    "number", [2000, pytest.param(200_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
async def test_whatever_is_sent_is_answered_or_dropped_without_a_trace(
    machine: LocalMachine, number: int
) -> None:
    with VolplugProcess(machine) as volplug:
        socket = machine.directory / "p.sock"
        files = Path(f"/proc/{volplug.pid}/fd")
        async with Dockerd(socket) as dockerd:
            assert await dockerd.ok("List") == {"Volumes": []}
            before = len(os.listdir(files))

        async def client(seed: int) -> None:
            dice = random.Random(seed)  # noqa: S311  # repeatable
            for _ in range(number // _CLIENTS):
                await _send(socket, dice)

        await asyncio.gather(*(client(seed) for seed in range(_CLIENTS)))
        wait_until(lambda: len(os.listdir(files)) <= before, 20, "its connections are closed")
        assert "Traceback" not in volplug.log_text
        assert "internal error" not in volplug.log_text
        async with Dockerd(socket) as dockerd:
            assert await dockerd.ok("List") == {"Volumes": []}
            await dockerd.ok("Create", Name="db", Opts={"size": "8MiB"})
            await dockerd.ok("Mount", Name="db", ID="a")
            await dockerd.ok("Unmount", Name="db", ID="a")
            await dockerd.ok("Remove", Name="db")
