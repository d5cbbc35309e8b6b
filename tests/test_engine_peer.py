"""Who is at the other end: a real process at the other end of a real socket."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from volplug.engine_peer import identify_engine
from volplug.volumes.ledger import EngineIdentity

CONNECT = """
import socket, sys
with open("/proc/self/comm", "w") as name:
    name.write(sys.argv[2])
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
sys.stdin.read()
"""


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        yield server


@contextmanager
def peer_called(
    name: str, listening: socket.socket
) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    argv = [sys.executable, "-c", CONNECT, listening.getsockname(), name]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        connection, _ = listening.accept()
        with connection:
            yield connection, process
            with contextlib.suppress(BrokenPipeError):
                process.communicate()


def start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_an_engine_is_known_by_its_process_and_its_start(listening: socket.socket) -> None:
    with peer_called("dockerd", listening) as (connection, process):
        assert identify_engine(connection) == EngineIdentity(process.pid, start_time(process.pid))
        assert identify_engine(connection) == identify_engine(connection)


@pytest.mark.parametrize("name", ["curl", "dockerd-x", "docker", "a) S dockerd", "(dockerd)"])
def test_other_clients_are_no_engine(listening: socket.socket, name: str) -> None:
    with peer_called(name, listening) as (connection, _):
        assert identify_engine(connection) is None


def test_an_engine_that_has_ended_is_not_known(listening: socket.socket) -> None:
    with peer_called("dockerd", listening) as (connection, process):
        process.kill()
        process.wait()
        assert identify_engine(connection) is None


def test_a_socket_without_a_peer_is_no_engine() -> None:
    with socket.socket(socket.AF_UNIX) as alone:
        assert identify_engine(alone) is None
    assert identify_engine(alone) is None
