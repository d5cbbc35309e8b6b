"""`volplug serve` as a process on this machine, on real loop devices, without Docker."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.lab import lane, leftovers, loops
from tests.lab.fork_server import ForkServer
from tests.lab.plugin import VolplugProcess
from tests.lab.programs import clean_environment


class LocalMachine:
    """This machine; a directory of our own holds the socket (its path must be short) and the state."""

    def __init__(self, directory: Path, fork_server: ForkServer | None = None) -> None:
        """Use a directory; volplug is forked by the fork server if there is one, and started if not."""
        self.directory = directory
        self._fork_server = fork_server

    def path(self, inside: Path, /) -> Path:
        """Docker's directory of plugin sockets is the machine's own, so the socket lies elsewhere."""
        return self.directory / "p.sock" if inside.suffix == ".sock" else inside

    def spawn(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, *, log: Path | None = None
    ) -> subprocess.Popen[bytes]:
        environment = clean_environment(**{**(env or {}), "VOLPLUG_SOCKET": str(self.directory / "p.sock")})
        log = log or self.directory / "log"
        if self._fork_server is not None and self._fork_server.can_start(argv):
            return self._fork_server.start(argv, environment, log)
        with log.open("ab") as output:
            return subprocess.Popen(argv, env=environment, stdout=output, stderr=output)


@contextmanager
def local_machine(fork_server: ForkServer | None = None) -> Iterator[LocalMachine]:
    """A directory of our own, cleaned up in any case; what a test left mounted or attached fails it."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    directory = lane.new_directory()
    try:
        yield LocalMachine(directory, fork_server)
    finally:
        mounted = leftovers.mounted_below(directory)
        for target in mounted:
            subprocess.run(["umount", "--lazy", target], check=False)
        attached = loops.detach_below(directory)
        shutil.rmtree(directory)
    assert not mounted, "left mounted"
    assert not attached, "left attached"


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer() as server:
        yield server


@pytest.fixture
def machine(fork_server: ForkServer) -> Iterator[LocalMachine]:
    with local_machine(fork_server) as machine:
        yield machine


@pytest.fixture(scope="module")
def shared_volplug(fork_server: ForkServer) -> Iterator[VolplugProcess]:
    """One process for all cases of a table that leave nothing behind."""
    with local_machine(fork_server) as machine, VolplugProcess(machine) as process:
        yield process


@pytest.fixture
async def shared_dockerd(shared_volplug: VolplugProcess) -> AsyncIterator[Dockerd]:
    async with Dockerd(shared_volplug.state_dir.with_name("p.sock")) as client:
        yield client


@pytest.fixture
def volplug(machine: LocalMachine) -> Iterator[VolplugProcess]:
    with VolplugProcess(machine, env={"VOLPLUG_LOG_LEVEL": "debug"}) as process:
        yield process


@pytest.fixture
async def dockerd(machine: LocalMachine, volplug: VolplugProcess) -> AsyncIterator[Dockerd]:
    async with Dockerd(machine.directory / "p.sock") as client:
        yield client
