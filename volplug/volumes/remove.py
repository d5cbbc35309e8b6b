"""Remove: a volume that is not in use is released, detached and deleted."""

from __future__ import annotations

from dataclasses import replace

from volplug.volumes.catalog import Catalog
from volplug.volumes.converge import Converger
from volplug.volumes.converge_request import ConvergeRequest
from volplug.volumes.decision import Goal
from volplug.volumes.ledger import Desired
from volplug.volumes.node import LocalNode
from volplug.volumes.operations import Operation
from volplug.volumes.release import Releaser
from volplug.volumes.selection import Selection
from volplug.volumes.usage_sampler import UsageSampler
from volplug.volumes.views import VolumeView


class Remover:
    """Deletes volumes."""

    def __init__(
        self,
        node: LocalNode,
        converger: Converger,
        releaser: Releaser,
        catalog: Catalog,
        usage: UsageSampler,
        selection: Selection,
    ) -> None:
        self._node = node
        self._converger = converger
        self._releaser = releaser
        self._catalog = catalog
        self._usage = usage
        self._selection = selection

    async def remove(self, name: str, operation: Operation, meant: VolumeView | None = None) -> None:
        """Delete a volume; one that does not exist is success.

        Raises:
            Conflict: If it is not the one that was meant.
            VolumeInUse: If it is in use, here or on another node.
            VolplugError: Why it cannot be deleted.
        """
        node, lock = self._node, self._node.locks.of(name)
        async with lock:
            backend = await self._selection.backend_of(name, meant)
            entry = node.ledger.get(name)
            if entry is not None and (entry.is_claimed or lock.mounts_in_progress):
                await self._releaser.trial_release(entry, node.timeouts.release_s, operation)
            request = ConvergeRequest(
                operation=operation,
                name=name,
                backend=backend,
                goal=Goal.ABSENT,
                check_wanted=operation.check_wanted,
            )
            try:
                await self._converger.converge(request)
            except Exception:
                await self._detach_undeleted(name)
                raise
            finally:
                self._catalog.invalidate(name)
            self._usage.forget(name)

    async def _detach_undeleted(self, name: str) -> None:
        """Schedule the detach of what a failed Remove may have released but not deleted."""
        entry = self._node.ledger.get(name)
        if entry is not None and entry.desired in {Desired.ABSENT, Desired.DETACHED}:
            await self._node.ledger.put(replace(entry, desired=Desired.DETACHED))
            self._releaser.schedule(name, self._node.linger_s(entry.backend))
