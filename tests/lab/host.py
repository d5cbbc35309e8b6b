"""Several hosts on one machine, each with a Docker Engine, a volplug, a network and a boot of its own.

    with Hosts("a", "b") as hosts:
        hosts.power_on()
        hosts["a"].docker("run", "--rm", "busybox:local", "echo", "hello")
        hosts["b"].kill()

They can fail as hosts do: the power is cut, they are frozen, disconnected from the cloud or from each other,
rebooted. Leaving the block ends all of them and removes everything they made, also when it failed. Disks of a
cloud are this machine's: the same paths and loop devices inside of every host.
"""

import shutil
import sys
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import lane, loops, power
from tests.lab.engine import Engine
from tests.lab.network import BOTH, Network, Wire
from tests.lab.plugin import Machine, VolplugProcess
from tests.lab.programs import tail
from tests.lab.serve import dying_at
from volplug.steps import WorldStep

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_FIRST_NUMBER = 11
_IMAGE = "busybox:local"
_LAST_LINES = 20


class Host:
    """One of several hosts; made by `Hosts`.

    Attributes:
        name: its hostname, and its node id unless its driver has another.
        number: the last part of its addresses.
        engine: its Docker Engine.
        is_on: whether it has power.
    """

    def __init__(
        self, name: str, number: int, network: Network, machine_of: Callable[[Engine], Machine]
    ) -> None:
        """Describe a host; nothing runs before ``power_on``."""
        self.name = name
        self.number = number
        self.engine = Engine(hostname=name)
        self.is_on = False
        self._network = network
        self._machine_of = machine_of
        self._is_frozen = False
        self._volplug: VolplugProcess | None = None

    @property
    def volplug(self) -> VolplugProcess:
        """Its volplug."""
        assert self._volplug is not None, f"host {self.name} was never on"
        return self._volplug

    @property
    def directory(self) -> Path:
        """Its disk, which survives a power cut; the same path inside and outside."""
        return self.engine.directory

    def address(self, wire: Wire = Wire.PEERS) -> str:
        """Its address as seen by its peers or by the cloud."""
        return wire.address(self.number)

    def docker(self, *args: str, check: bool = True, timeout_s: float = 120.0) -> str:
        """Run docker on it, which has to succeed unless ``check`` is false, and return the output."""
        done = self.engine.docker(*args, check=check, timeout_s=timeout_s)
        return done.stdout if check else done.stdout + done.stderr

    def logs(self) -> list[Path]:
        """The log files of dockerd and volplug."""
        return [self.engine.log, self.volplug.log] if self._volplug is not None else []

    # Events

    def power_on(self, settings: Mapping[str, str] | None = None) -> None:
        """Boot it: the same disk, another boot id. Returns once Docker and volplug answer.

        Args:
            settings: of its volplug, as environment; by default those of the previous boot.
        """
        assert not self.is_on, f"host {self.name} is on"
        self.engine.files[_BOOT_ID] = f"{uuid.uuid4()}\n"
        self.is_on = True
        self.engine.power_on()
        self._network.plug(self.name, self.number, self.engine.first_pid)
        if settings is not None or self._volplug is None:
            self._volplug = self._with_settings(settings or {})
        self.volplug.start()  # first: an engine that starts looks for the plugins that it knows
        self.engine.start()
        if not self.docker("image", "ls", "--quiet", _IMAGE):
            self.engine.import_busybox(_IMAGE)

    def kill(self) -> None:
        """Cut its power: processes and mounts are gone at once, and unsynced writes are lost."""
        if not self.is_on:
            return
        self.freeze()  # no process may see the disks disappear before everything ends
        power.lose_unwritten(self.engine.first_pid, self.directory)
        self._network.unplug(self.name)  # first, because the kernel does it a moment after the end
        self.engine.power_off()
        self.is_on = self._is_frozen = False

    def reboot(self) -> None:
        """Cut its power and boot it again."""
        self.kill()
        self.power_on()

    def freeze(self) -> None:
        """Stop all its processes; no docker command returns until ``thaw``."""
        self._is_frozen = True
        power.freeze(self.engine.first_pid)

    def thaw(self) -> None:
        """Continue its processes."""
        if self._is_frozen:
            power.thaw(self.engine.first_pid)
        self._is_frozen = False

    def partition(self, wires: Collection[Wire] = BOTH) -> None:
        """Disconnect it from its peers and from the cloud, or from one of them."""
        self._network.cut(self.name, wires)

    def heal(self, wires: Collection[Wire] = BOTH) -> None:
        """Undo ``partition``."""
        self._network.heal(self.name, wires)

    def restart_volplug(
        self,
        *,
        kill: bool = False,
        kill_at: tuple[WorldStep, int] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Stop its volplug by SIGTERM or SIGKILL, if it runs, and start it again.

        Args:
            kill: whether it is killed.
            kill_at: the step, and which occurrence of it, at which the new one dies.
            settings: as in ``power_on``.
        """
        if kill:
            self.volplug.kill()
        else:
            self.volplug.stop()
        if settings is not None:
            self._volplug = self._with_settings(settings)
        self.volplug.start(argv=None if kill_at is None else dying_at(*kill_at))

    def _with_settings(self, settings: Mapping[str, str]) -> VolplugProcess:
        return VolplugProcess(self._machine_of(self.engine), env={"VOLPLUG_NODE_ID": self.name, **settings})

    def close(self) -> None:
        """End and remove it in any state. May be called twice."""
        self.is_on = False
        self._volplug = None
        self.engine.close()


class Hosts:
    """The hosts and their network; the caller chooses the cloud that they use.

    Attributes:
        directory: for the cloud and its disks, removed at the end.
        network: their network.
    """

    directory: Path
    network: Network

    def __init__(self, *names: str, machine_of: Callable[[Engine], Machine] = lambda engine: engine) -> None:
        """Describe hosts; nothing runs before ``with``, and no host before ``power_on``.

        Args:
            names: of the hosts.
            machine_of: returns the machine on which an engine's volplug runs; by default the engine itself.
        """
        self._names = names
        self._machine_of = machine_of
        self._hosts: dict[str, Host] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.directory = lane.new_directory()
            stack.callback(self._remove_directory)
            self.network = Network(self.directory)
            stack.callback(self.network.close)
            for number, name in enumerate(self._names, start=_FIRST_NUMBER):
                self._hosts[name] = Host(name, number, self.network, self._machine_of)
                stack.callback(self._hosts[name].close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                self.show()
        finally:
            self._stack.close()

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts.values())

    def power_on(self, settings: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """Boot all of them at once.

        Args:
            settings: name of a host to the settings of its volplug.
        """
        with ThreadPoolExecutor(len(self._hosts)) as threads:
            list(threads.map(lambda host: host.power_on((settings or {}).get(host.name)), self))

    def close(self) -> None:
        """End the hosts, but not their network and the cloud in it."""
        for host in self:
            host.close()

    def show(self) -> None:
        """Write the last log lines of engines and volplugs to standard error; pytest shows it on failure."""
        for host in self:
            for log in host.logs():
                last = tail(log, _LAST_LINES, without="level=info")
                sys.stderr.write(f"--- {host.name}, {log.name}:\n{last}\n")

    def _remove_directory(self) -> None:
        loops.detach_below(self.directory)
        shutil.rmtree(self.directory)


def join_swarm(manager: Host, *workers: Host) -> None:
    """Join them to one Swarm; each offers the plugin to the scheduler."""
    for host in (manager, *workers):
        host.docker("volume", "ls")  # a node offers a socket plugin once its engine has used it
    manager.docker("swarm", "init", *_swarm_addresses(manager))
    token = manager.docker("swarm", "join-token", "--quiet", "worker").strip()
    for host in workers:
        host.docker("swarm", "join", *_swarm_addresses(host), f"--token={token}", f"{manager.address()}:2377")


def _swarm_addresses(host: Host) -> list[str]:
    return [f"--advertise-addr={host.address()}", f"--listen-addr={host.address()}:2377"]
