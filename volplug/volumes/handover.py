"""Handover: a volume made available to other nodes, by a release here or a takeover from elsewhere."""

from __future__ import annotations

from volplug.errors import UnexpectedState, VolumeInUse, VolumeNotFound, middle_out
from volplug.volumes.catalog import Catalog
from volplug.volumes.converge import Converger
from volplug.volumes.converge_request import ConvergeRequest
from volplug.volumes.decision import Goal
from volplug.volumes.ledger import Desired
from volplug.volumes.node import LocalNode
from volplug.volumes.operations import Operation
from volplug.volumes.selection import Selection
from volplug.volumes.views import VolumeView


class Handover:
    """Detaches volumes on request: from this node, or from a dead one."""

    def __init__(
        self,
        node: LocalNode,
        converger: Converger,
        catalog: Catalog,
        selection: Selection,
    ) -> None:
        self._node = node
        self._converger = converger
        self._catalog = catalog
        self._selection = selection

    async def release(self, name: str, operation: Operation, meant: VolumeView | None = None) -> None:
        """Detach a volume that is not in use, before its linger ends; one not attached here is success.

        Raises:
            Conflict: If it is not the one that was meant.
            VolumeInUse: If it is in use here.
            VolumeNotFound: If there is no such volume.
            VolplugError: Why it cannot be detached. If it lingers, it is still detached after that.
        """
        node = self._node
        async with node.locks.of(name):
            backend = await self._selection.backend_of(name, meant)
            self._refuse_in_use(name)
            await self._converge(name, backend, Goal.DETACHED, operation)
            if node.ledger.get(name) is None:
                raise VolumeNotFound("no such volume")
            node.timers.cancel(name)  # the end of its linger

    async def take_over(self, name: str, operation: Operation, meant: VolumeView | None = None) -> None:
        """Detach a volume from the node that has it, as a Mount would; one that no other has is success.

        Raises:
            Conflict: If it is not the one that was meant.
            VolumeInUse: If the node is not proven dead, or this host's policy forbids it.
            VolumeNotFound: If there is no such volume.
            VolplugError: Why it cannot be taken.
        """
        async with self._node.locks.of(name):
            backend = await self._selection.backend_of(name, meant)
            await self._converge(name, backend, Goal.UNHELD, operation)

    async def _converge(self, name: str, backend: str, goal: Goal, operation: Operation) -> None:
        request = ConvergeRequest(
            operation=operation,
            name=name,
            backend=backend,
            goal=goal,
            check_wanted=operation.check_wanted,
            holder_wait_s=self._node.deadlines.release_wait_s,
            takeover=self._node.takeover,
        )
        try:
            await self._converger.converge(request)
        finally:
            self._catalog.invalidate(name)

    def _refuse_in_use(self, name: str) -> None:
        entry = self._node.ledger.get(name)
        if self._node.is_in_use(name):
            mounts = dict.fromkeys([*entry.confirmed, *entry.unconfirmed]) if entry else {}
            users = ", ".join(middle_out(mount_id) for mount_id in mounts)
            cause = f"the volume is mounted for {users}" if users else "it is being mounted, or found mounted"
            raise VolumeInUse(cause, "Stop the containers that use it", holder=users)
        if entry is not None and entry.desired in {Desired.PRESENT, Desired.ABSENT}:
            raise UnexpectedState(
                "its creation or deletion is not finished", "It is retried; wait for its end"
            )
