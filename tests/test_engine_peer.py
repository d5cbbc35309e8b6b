"""Identification of the engine at the other end: a real process at the other end of a real socket."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from volplug.engine_peer import EngineProcesses
from volplug.models import EngineIdentity

# In a pid namespace of its own, as a managed plugin is, prints the engine of each connection, and whether the
# process of the first one is alive.
SERVE = """
import socket, sys
from volplug.engine_peer import EngineProcesses
engines, first = EngineProcesses(), None
with socket.socket(socket.AF_UNIX) as server:
    server.bind(sys.argv[1])
    server.listen()
    print("listening", flush=True)
    while True:
        connection, _ = server.accept()
        engine = engines.identify(connection)
        first = first or engine
        print(engine.pid, engine.started, engines.is_alive(first), flush=True)
"""

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


def test_an_engine_is_identified_by_its_process_and_its_start_time(listening: socket.socket) -> None:
    with peer_called("dockerd", listening) as (connection, process):
        assert EngineProcesses().identify(connection) == EngineIdentity(process.pid, start_time(process.pid))
        assert EngineProcesses().identify(connection) == EngineProcesses().identify(connection)


@pytest.mark.parametrize("name", ["curl", "dockerd-x", "docker", "a) S dockerd", "(dockerd)"])
def test_other_clients_are_not_an_engine(listening: socket.socket, name: str) -> None:
    with peer_called(name, listening) as (connection, _):
        assert EngineProcesses().identify(connection) is None


def test_an_engine_that_has_exited_is_not_identified(listening: socket.socket) -> None:
    with peer_called("dockerd", listening) as (connection, process):
        process.kill()
        process.wait()
        assert EngineProcesses().identify(connection) is None


def test_a_socket_without_a_peer_is_no_engine() -> None:
    with socket.socket(socket.AF_UNIX) as alone:
        assert EngineProcesses().identify(alone) is None
    assert EngineProcesses().identify(alone) is None


@pytest.fixture
def serving_elsewhere(tmp_path: Path) -> Iterator[tuple[str, IO[str]]]:
    """A socket served from another pid namespace, and the server's output."""
    argv = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", SERVE, str(tmp_path / "s")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield str(tmp_path / "s"), process.stdout
        process.kill()


def identified_by(name: str, path: str, output: IO[str]) -> tuple[str, str, subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", CONNECT, path, name], stdin=subprocess.PIPE)
    pid, started, is_first_alive = output.readline().split()
    assert pid == "0"
    return started, is_first_alive, process


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_engine_in_another_pid_namespace_is_distinguished_from_its_successor(
    serving_elsewhere: tuple[str, IO[str]],
) -> None:
    started, is_first_alive, first = identified_by("dockerd", *serving_elsewhere)
    assert is_first_alive == "True"
    other, is_first_alive, second = identified_by("dockerd", *serving_elsewhere)
    assert other != started
    assert is_first_alive == "True", "two engines may share a plugin"
    for process in (first, second):
        process.communicate()
    successor, is_first_alive, third = identified_by("dockerd", *serving_elsewhere)
    third.communicate()
    assert successor not in (started, other)
    assert is_first_alive == "False"
