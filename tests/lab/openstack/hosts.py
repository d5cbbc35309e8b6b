"""The compute services of a lab's hosts: they are killed, started, and forced down."""

from collections.abc import Sequence
from typing import Final

from openstack.compute.v2.service import Service
from openstack.connection import Connection
from openstack.exceptions import BadRequestException

from tests.lab.openstack.processes import JOINED, Processes, compute_of
from tests.lab.waiting import wait_until

_BINARY: Final = "nova-compute"
_LAST_SEEN: Final = "UPDATE nova.services SET last_seen_up = {} WHERE host = '{}';\n"
_CHANGE_TIMEOUT_S: Final = 60.0


class ComputeHosts:
    """The compute service of each host; its servers and their devices are there also while it is not.

    Args:
        cloud: The connection of an admin.
        processes: Of the lab.
        nodes: The names of the hosts.
    """

    def __init__(self, cloud: Connection, processes: Processes, nodes: Sequence[str]) -> None:
        self._cloud = cloud
        self._processes = processes
        self._nodes = nodes

    def kill(self, node: str) -> None:
        """Kill a host's nova-compute; for Nova the host is up until it misses reports for a minute."""
        self._processes.kill(compute_of(node))

    def miss_reports(self, node: str) -> None:
        """Let Nova believe that a killed nova-compute has missed its reports: the host is down now."""
        assert not self._processes.is_running(compute_of(node))
        self._processes.sql(_LAST_SEEN.format("'2000-01-01'", node))

    def start(self, node: str) -> None:
        """Start a host's nova-compute if it does not run, end a forced down, and wait until it serves."""
        name = compute_of(node)
        if not self._processes.is_running(name):
            self._processes.start(name)
            self._processes.await_line(name, JOINED)
            self._processes.sql(_LAST_SEEN.format("UTC_TIMESTAMP()", node))
        wait_until(lambda: self._forced_up(node), _CHANGE_TIMEOUT_S, f"{node} is not forced down")
        wait_until(lambda: self.state(node) == "up", _CHANGE_TIMEOUT_S, f"{node} is up")

    def state(self, node: str) -> str:
        """Return "up" or "down", as Nova reports."""
        return str(self._service(node).state)

    def force_down(self, node: str) -> None:
        """Declare a host down, as an operator does who has cut its power."""
        self._force(node, True)

    def start_all(self) -> None:
        """Start what a test has killed or forced down."""
        for node in self._nodes:
            if not self._processes.is_running(compute_of(node)) or self.state(node) != "up":
                self.start(node)

    def _forced_up(self, node: str) -> bool:
        if not self._service(node).is_forced_down:
            return True
        try:
            self._force(node, False)
        except BadRequestException:  # until nova-compute has removed what was evacuated
            return False
        return True

    def _force(self, node: str, is_down: bool) -> None:
        self._cloud.compute.update_service_forced_down(self._service(node).id, node, _BINARY, is_down)

    def _service(self, node: str) -> Service:
        return next(iter(self._cloud.compute.services(host=node, binary=_BINARY)))
