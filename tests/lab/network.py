"""The network of several hosts: two bridges in a namespace of their own, without a route to outside.

Each host has a port on both, so that it can be disconnected from the other hosts or from the cloud alone. It
is disconnected silently: packets are dropped, without an error.
"""

import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path

from tests.lab.namespaces import Namespaces
from tests.lab.programs import checked, clean_environment, find_program

_LONGEST_NAME = 9  # with the wire's, a name of an interface has at most 15 characters


class Wire(StrEnum):
    """A network of a host; also the name of the bridge, and of the host's own interface."""

    PEERS = "peers"
    CLOUD = "cloud"

    def address(self, number: int) -> str:
        """The address of the host of this number; 1 is the cloud."""
        return f"10.77.{list(Wire).index(self)}.{number}"

    def hardware(self, number: int) -> str:
        """The hardware address of its network card, which does not change when it boots; peers cache it."""
        return f"02:00:00:00:{list(Wire).index(self):02x}:{number:02x}"


BOTH = tuple(Wire)


class Network:
    """The bridges and the hosts on them; the cloud's programs run here, too.

    Attributes:
        directory: for the logs and the state of programs that run here.
        cloud: its address for hosts.
    """

    cloud = Wire.CLOUD.address(1)

    def __init__(self, directory: Path) -> None:
        """Make it."""
        self.directory = directory
        self._cut: dict[str, set[Wire]] = {}
        self._plugged: set[str] = set()
        self._namespaces = Namespaces(directory)
        try:
            # Packets from a disconnected cable would be accepted otherwise, because the cloud is here.
            self.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter"])
            for wire in Wire:
                self._ip(f"link add {wire} address {wire.hardware(1)} type bridge", f"link set {wire} up")
            self._ip(f"address add {self.cloud}/24 dev {Wire.CLOUD}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it with everything that runs in it. May be called twice."""
        self._namespaces.close()

    def plug(self, host: str, number: int, pid: int) -> None:
        """Connect a host.

        Args:
            host: its name.
            number: the last part of its addresses.
            pid: a process in its network namespace.
        """
        if len(host) > _LONGEST_NAME:
            raise ValueError(f"the name {host!r} is longer than {_LONGEST_NAME} characters")
        cut = self._cut.setdefault(host, set())
        for wire in Wire:
            peer = f"peer name {wire} address {wire.hardware(number)} netns {pid}"
            self._ip(f"link add {host}-{wire} type veth {peer}")
            self._ip(f"link set {host}-{wire} up")
            _ip_at(pid, f"address add {wire.address(number)}/24 dev {wire}", f"link set {wire} up")
        self._plugged.add(host)
        self._connect(host, set(Wire) - cut)

    def unplug(self, host: str) -> None:
        """Remove a host's cables; where it was disconnected, it stays disconnected when it is back."""
        self._plugged.discard(host)
        self._ip(*(f"link delete {host}-{wire}" for wire in Wire))

    def plug_in_caller(self, number: int) -> None:
        """Connect this process's network to the cloud's wire, until the end: hosts reach what it serves.

        Args:
            number: the last part of its address there.
        """
        name = f"{Wire.CLOUD}{number}"
        self._ip(f"link add {name} type veth peer name {name} netns {os.getpid()}")
        self._ip(f"link set {name} master {Wire.CLOUD}", f"link set {name} up")
        _ip_at(os.getpid(), f"address add {Wire.CLOUD.address(number)}/24 dev {name}", f"link set {name} up")

    def cut(self, host: str, wires: Collection[Wire] = BOTH) -> None:
        """Drop all packets on these wires of a host, also when it boots again."""
        self._cut[host] |= set(wires)
        if host in self._plugged:
            self._ip(*(f"link set {host}-{wire} nomaster" for wire in wires))

    def heal(self, host: str, wires: Collection[Wire] = BOTH) -> None:
        """Undo ``cut``."""
        self._cut[host] -= set(wires)
        if host in self._plugged:
            self._connect(host, wires)

    def threads(self) -> ThreadPoolExecutor:
        """A thread of this process that is inside; hosts reach at ``cloud`` what it starts to serve."""
        return ThreadPoolExecutor(max_workers=1, initializer=self._namespaces.enter_network)

    def spawn(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, *, log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a program of the cloud; hosts reach it at ``cloud``."""
        with log.open("ab") as output:
            environment = clean_environment(**(env or {}))
            return self._namespaces.popen(argv, env=environment, stdout=output, stderr=output)

    def path(self, inside: Path) -> Path:
        """The path from outside of a path inside."""
        return self._namespaces.path(inside)

    def run(self, argv: Sequence[str]) -> str:
        """Run a program inside, which has to succeed, and return its output."""
        return checked(self._namespaces.run(argv, env=clean_environment())).stdout

    def _connect(self, host: str, wires: Collection[Wire]) -> None:
        self._ip(*(f"link set {host}-{wire} master {wire}" for wire in wires))

    def _ip(self, *commands: str) -> None:
        _ip_at(self._namespaces.pid, *commands)


def _ip_at(pid: int, *commands: str) -> None:
    """Run commands of ip in the network of a process; process ids in them are as seen from here."""
    enter = [find_program("nsenter"), f"--net=/proc/{pid}/ns/net", find_program("ip"), "-batch", "-"]
    text = "".join(f"{command}\n" for command in commands)
    checked(subprocess.run(enter, input=text, check=False, capture_output=True, text=True))
