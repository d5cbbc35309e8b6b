"""The compute services of a lab's hosts: they are killed, started, and forced down."""

from collections.abc import Sequence
from typing import Final

from openstack.compute.v2.service import Service
from openstack.connection import Connection
from openstack.exceptions import BadRequestException

from tests.lab.openstack.processes import Processes, compute_of
from tests.lab.waiting import wait_until

_BINARY: Final = "nova-compute"
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
        """Kill a host's nova-compute; for Nova the host is up for some seconds still."""
        self._processes.kill(compute_of(node))

    def start(self, node: str) -> None:
        """Start a host's nova-compute if it does not run, end a forced down, and wait until it is up."""
        if not self._processes.is_running(compute_of(node)):
            self._processes.start(compute_of(node))
        wait_until(lambda: self._forced_up(node), _CHANGE_TIMEOUT_S, f"{node} is not forced down")
        self.await_state(node, "up")

    def state(self, node: str) -> str:
        """Return "up" or "down", as Nova reports."""
        return str(self._service(node).state)

    def await_state(self, node: str, state: str) -> None:
        """Wait until Nova reports a host as up or down."""
        wait_until(lambda: self.state(node) == state, _CHANGE_TIMEOUT_S, f"{node} is {state}")

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
