"""The volplug that runs here and its sockets: well, away, stale, silent, in trouble."""

import asyncio
import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.doctor.conftest import Examine, mend, only
from tests.lab.plugin import VolplugProcess
from tests.served.conftest import LocalMachine
from volplug.doctor.backends import check_backend
from volplug.doctor.daemon import check_daemon, check_plugin_socket, doubts_of_place
from volplug.errors import AlreadyRunning, HostError
from volplug.findings import Finding, Level

pytestmark = [pytest.mark.api, pytest.mark.loop]

GREEN, YELLOW, RED = Level


@pytest.fixture
def plugin_socket(machine: LocalMachine) -> Path:
    return machine.directory / "p.sock"


async def on_socket(examine: Examine, path: Path) -> Finding:
    """What is found on the socket itself; that it lies in a directory of the tests is another finding."""
    first, place = await examine(check_plugin_socket)
    remedy = f"mkdir -p /etc/docker/plugins && echo unix://{path} >/etc/docker/plugins/p.spec"
    assert (place.level, place.remedy) == (YELLOW, remedy)
    return first


async def test_a_volplug_that_runs_is_well(
    volplug: VolplugProcess, examine: Examine, plugin_socket: Path
) -> None:
    daemon, backend = await examine(check_daemon, check_backend)
    assert (daemon.level, backend.level) == (GREEN, GREEN)
    assert daemon.message.endswith("runs and is ready")
    assert (await on_socket(examine, plugin_socket)).message == "answers as a volume plugin"


async def test_one_that_does_not_run_is_told_with_what_starts_it(
    stopped: VolplugProcess, examine: Examine, plugin_socket: Path
) -> None:
    daemon = only(await examine(check_daemon))
    assert (daemon.level, "systemctl start volplug.service" in daemon.remedy) == (RED, True)
    found = await on_socket(examine, plugin_socket)
    assert (found.level, "is not there" in found.message, found.fix) == (RED, True, None)


async def test_one_that_is_not_ready_says_why(volplug: VolplugProcess, examine: Examine) -> None:
    (volplug.state_dir / "backends/loop").mkdir(parents=True, exist_ok=True)
    (volplug.state_dir / "backends/loop").chmod(0o777)
    daemon, backend, own = await examine(check_daemon, check_backend)
    assert (daemon.level, backend.level, own.level) == (RED, RED, RED)
    assert "volplug is not ready: no backend can be used" in daemon.message
    assert "can be written by other users" in backend.message
    assert backend.remedy == own.remedy == f"chmod go-w {volplug.state_dir}/backends/loop"


async def test_a_backend_is_asked_without_a_volplug_that_runs(
    stopped: VolplugProcess, examine: Examine
) -> None:
    assert {finding.level for finding in await examine(check_backend)} == {GREEN}
    shutil.rmtree(stopped.state_dir / "backends", ignore_errors=True)
    await asyncio.to_thread((stopped.state_dir / "backends").write_text, "no directory")
    found = only(await examine(check_backend))
    assert (found.level, found.subject) == (RED, f"{stopped.state_dir}/backends/loop")


async def test_a_stale_socket_file_is_removed_by_fix(
    volplug: VolplugProcess, examine: Examine, plugin_socket: Path
) -> None:
    volplug.kill()
    found = await on_socket(examine, plugin_socket)
    assert (found.level, f"rm {plugin_socket}" in found.remedy) == (RED, True)
    assert await mend(found) == f"removed {plugin_socket}"
    assert not plugin_socket.exists()
    assert await mend(found) == f"{plugin_socket} is not there any more"


async def test_a_socket_file_is_not_removed_once_volplug_runs_again(
    volplug: VolplugProcess, examine: Examine, plugin_socket: Path
) -> None:
    volplug.kill()
    found = await on_socket(examine, plugin_socket)
    await asyncio.to_thread(volplug.start)
    with pytest.raises(AlreadyRunning, match=f"process {volplug.pid}"):
        await mend(found)
    assert plugin_socket.is_socket()


async def test_a_socket_file_that_was_replaced_is_not_removed(
    stopped: VolplugProcess, examine: Examine, plugin_socket: Path
) -> None:
    with listening(plugin_socket):
        pass
    found = await on_socket(examine, plugin_socket)
    kept = plugin_socket.with_name("kept")
    plugin_socket.rename(kept)  # kept, so that its inode is not used again
    with listening(plugin_socket):
        pass
    with pytest.raises(HostError, match="was replaced meanwhile"):
        await mend(found)
    assert plugin_socket.is_socket()


@contextmanager
def listening(path: Path) -> Iterator[None]:
    """A socket on which a process listens that answers nothing."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o600)
        server.listen()
        yield


@pytest.mark.parametrize(
    ("make", "message", "remedy"),
    [
        (lambda path: path.write_text("a file"), "is no socket", "Move it away"),
        (lambda path: bind(path, 0o666), "others can mount and remove volumes", "chmod 0600"),
    ],
)
async def test_what_is_no_socket_of_volplug_is_told(
    examine: Examine, plugin_socket: Path, make: object, message: str, remedy: str
) -> None:
    assert callable(make)
    await asyncio.to_thread(make, plugin_socket)
    found = await on_socket(examine, plugin_socket)
    assert (found.level, message in found.message, remedy in found.remedy) == (RED, True, True)


def bind(path: Path, mode: int) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    path.chmod(mode)


async def test_a_plugin_that_is_silent_or_serves_an_error_is_told(
    examine: Examine, plugin_socket: Path
) -> None:
    with listening(plugin_socket):
        found = await on_socket(examine, plugin_socket)
    assert (found.level, "does not answer" in found.message) == (RED, True)
    assert found.remedy == "Restart it: systemctl restart volplug.service"
    plugin_socket.unlink()
    async with Answering(plugin_socket, {"Err": "the state directory is not the one used before"}):
        found = await on_socket(examine, plugin_socket)
    assert (found.level, "serves nothing but an error: the state" in found.message) == (RED, True)


class Answering:
    """A server that gives one answer to every request."""

    def __init__(self, path: Path, body: object) -> None:
        self._path = path
        self._body = json.dumps(body).encode()

    async def __aenter__(self) -> None:
        self._server = await asyncio.start_unix_server(self._answer, self._path)
        self._path.chmod(0o600)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(self._body), self._body))
        await writer.drain()
        writer.close()


def test_engines_find_the_socket_by_its_place_or_by_a_specification(tmp_path: Path) -> None:
    usual = Path("/run/docker/plugins/volplug.sock")
    elsewhere = tmp_path / "volplug.sock"

    def doubts(path: Path) -> list[str]:
        return [each.remedy for each in doubts_of_place(path, is_managed=False, places=[tmp_path])]

    assert doubts(usual) == []
    spec = tmp_path / "volplug.spec"
    assert doubts(elsewhere) == [f"mkdir -p {tmp_path} && echo unix://{elsewhere} >{spec}"]
    spec.write_text(f"unix://{elsewhere}\n")
    assert (doubts(elsewhere), doubts(usual)) == ([], [f"Remove it: rm {spec}"])
    spec.unlink()
    (tmp_path / "volplug.json").write_text(json.dumps({"Name": "volplug", "Addr": f"unix://{usual}"}))
    assert doubts(usual) == []
