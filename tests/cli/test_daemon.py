"""How commands find volplug, and what they say where it is not there, too old, or does not let them in."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.api.certificates import Authority
from tests.api.serving import serving
from tests.api.tls_site import Site
from tests.cli.conftest import Cli
from tests.volumes.world import World
from volplug import __version__
from volplug.api.client import ControlClient, Endpoint
from volplug.config import Settings

pytestmark = pytest.mark.cli

# Loaded as root, since what is root's own may be closed to others.
_AS_USER = """
import os, sys
from volplug.cli.main import run
run(["completion", "none"])
os.setgroups([]), os.setgid(65534), os.setuid(65534)
sys.exit(run(sys.argv[1:]))
"""


async def test_without_a_daemon_the_place_is_named(directory: Path, cli: Cli) -> None:
    path = directory / "none.sock"
    done = await cli("--host", f"unix://{path}", "volume", "ls")
    cause = f"volplug does not answer at {path}: No such file or directory"
    assert done == (5, "", f"volplug: {cause}. Start volplug, or name another place by --host.\n")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert "Connection refused" in (await cli("--host", f"unix://{path}", "volume", "ls")).err
    shown = await cli("--host", f"unix://{path}", "version")
    assert (shown.code, shown.out.split()) == (5, ["CLIENT", "SERVER", __version__])


async def test_the_first_socket_that_accepts_is_used(
    served: World, settings: Settings, directory: Path
) -> None:
    dead = directory / "dead.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    for first in (dead, directory / "none.sock"):
        client = ControlClient(Endpoint((str(first), str(settings.control_socket))))
        assert await asyncio.to_thread(client.version) == __version__
        client.close()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"nonsense\r\n\r\n", b""]
)
async def test_what_is_not_volplug_is_not_taken_for_it(directory: Path, cli: Cli, answer: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(reply, directory / "s")
    done = await cli("--host", f"unix://{directory / 's'}", "volume", "ls")
    assert (done.code, done.out) == (5, "")
    server.close()


@pytest.mark.parametrize(("ours", "code"), [("0.2.5", 0), ("0.3.0", 1), ("1.1.0", 1)])
async def test_a_version_that_is_too_far_away_is_refused_before_anything_is_sent(
    served: World, cli: Cli, monkeypatch: pytest.MonkeyPatch, ours: str, code: int
) -> None:
    monkeypatch.setattr("volplug.cli.session.__version__", ours)
    done = await cli("volume", "create", "db")
    assert done.code == code
    assert len(served.cloud.volumes) == (0 if code else 1)
    if code:
        assert f"this command is of volplug {ours}, and what it calls is volplug {__version__}" in done.err
        assert (await cli("version")).code == 0


async def test_a_user_who_may_not_connect_is_told_so(
    directory: Path, served: World, settings: Settings
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    directory.chmod(0o755)
    command = [sys.executable, "-c", _AS_USER, "--host", f"unix://{settings.control_socket}", "volume", "ls"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (6, "")
    remedy = "Run it as root, or see VOLPLUG_CONTROL_GROUP"
    assert (
        done.stderr.splitlines()[1]
        == f"volplug: this user may not connect to {settings.control_socket}. {remedy}."
    )


@pytest.fixture
async def on_tcp(world: World, site: Site) -> AsyncIterator[Site]:
    with capture_logs():
        async with serving(world.service, site.settings):
            yield site


async def test_tokens_and_certificates_open_the_api_on_tcp(
    on_tcp: Site, cli: Cli, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = on_tcp.settings.control_address[1]
    ca = str(on_tcp.authority.pair.certificate)
    place = ("--host", f"tcp://localhost:{port}", "--tlscacert", ca)
    files = {}
    for name, token in (("reader", on_tcp.reader), ("admin", on_tcp.admin), ("wrong", "volplug_wrong")):
        files[name] = directory / f"{name}.token"
        files[name].write_text(f"{token}\n")
    (directory / "other").mkdir()
    viewer, foreign = on_tcp.authority.issue("viewer"), Authority(directory / "other").issue("node2")
    shown = {
        "reader": ("--token-file", str(files["reader"])),
        "admin": ("--token-file", str(files["admin"])),
        "wrong": ("--token-file", str(files["wrong"])),
        "none": (),
        "viewer": ("--tlscert", str(viewer.certificate), "--tlskey", str(viewer.key)),
        "foreign": ("--tlscert", str(foreign.certificate), "--tlskey", str(foreign.key)),
    }
    codes = {
        who: (
            (await cli(*place, *what, "volume", "ls")).code,
            (await cli(*place, *what, "volume", "rm", "v")).code,
        )
        for who, what in shown.items()
    }
    assert codes == {
        "reader": (0, 6),
        "admin": (0, 3),
        "wrong": (6, 6),
        "none": (6, 6),
        "viewer": (0, 6),
        "foreign": (6, 6),
    }
    refused = await cli(*place, "volume", "ls")
    remedy = "Name a token by --token-file, or a certificate by --tlscert and --tlskey"
    assert refused.err == f"volplug: the client is not known. {remedy}.\n"
    untrusted = await cli(*place[:2], "volume", "ls")
    assert untrusted.code == 5
    assert "is not trusted" in untrusted.err
    assert "--tlscacert" in untrusted.err
    other_name = await cli("--host", f"tcp://127.0.0.2:{port}", "--tlscacert", ca, "volume", "ls")
    assert other_name.code == 5
    for missing in (("--tlscacert", "/none"), ("--tlscert", "/none")):
        assert (await cli("--host", f"tcp://localhost:{port}", *missing, "volume", "ls")).code == 2


async def test_a_restart_does_not_end_a_wait(world: World, settings: Settings) -> None:
    await world.service.start()
    gate = world.driver.hold("create")
    client = ControlClient(Endpoint((str(settings.control_socket),)), restart_s=20)
    with capture_logs():
        async with serving(world.service, settings):
            body = {"name": "db", "options": {}}
            operation = await asyncio.to_thread(client.start, "POST", "volumes", body=body)
            await gate.reached.wait()
            waiting = asyncio.create_task(asyncio.to_thread(client.operation, operation["id"], 30))
        async with serving(world.service, settings):
            gate.opened.set()
            assert (await waiting)["state"] == "succeeded"
    client.close()


async def test_a_stop_ends_a_wait_in_the_end_and_names_the_operation(
    world: World, settings: Settings, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volplug.cli.session.ControlClient", partial(ControlClient, restart_s=0))
    gate = world.driver.hold("create")
    with capture_logs():
        await world.service.start()
        async with serving(world.service, settings):
            host = f"unix://{settings.control_socket}"
            waiting = asyncio.ensure_future(cli("--host", host, "volume", "create", "db"))
            await gate.reached.wait()
        done = await waiting
        gate.opened.set()
    (operation,) = world.node.operations.list()
    assert (done.code, done.out) == (5, "")
    remedy = f"Once it runs, volplug operation watch {operation.operation_id} tells how the operation ended."
    assert done.err.endswith(f"{remedy}\n")


async def test_events_go_on_after_a_restart_and_tell_what_is_lost(world: World, settings: Settings) -> None:
    client = ControlClient(Endpoint((str(settings.control_socket),)), restart_s=20)
    events = client.events(kind="change")

    async def following() -> str:
        # Until the stream is there, no event would be in it.
        following = asyncio.ensure_future(asyncio.to_thread(next, events))
        number = 0
        while not following.done():
            number += 1
            with suppress(Exception):
                await world.create(f"v{len(world.cloud.volumes)}")
            await asyncio.wait([following], timeout=0.1)
        event = following.result()
        return str(event.get("text", event["kind"]))

    with capture_logs():
        async with serving(world.service, settings):
            assert await following() == "volume created"
        world.restart()
        async with serving(world.service, settings):
            assert await following() == "lost"
            assert await following() == "volume created"
            await asyncio.to_thread(events.close)
