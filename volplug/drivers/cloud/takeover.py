"""Other nodes: proves them dead, and stops one. What a cloud's reports prove is its driver's.

A node is proven dead by two reads, some seconds apart, that agree. One read proves nothing, because it may be
stale: "stopped" for a node that was started again.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from volplug.drivers.base import Holder
from volplug.drivers.cloud.timeouts import CloudTimeouts
from volplug.drivers.cloud.volumes import CloudVolume, CloudVolumes
from volplug.errors import OperationTimeout, VolumeInUse, VolumeNotFound
from volplug.models import HolderState, Volume, VolumeState

Description = Mapping[str, Any]
Evidence = Mapping[str, object]
"""Facts, by their names in errors, which the next read has to confirm."""

_SeenT = TypeVar("_SeenT", bound=CloudVolume)


class CloudTakeover(ABC, Generic[_SeenT]):
    """Takes volumes from dead nodes, and stops nodes."""

    _STOP: ClassVar[str]  # what to do to stop a node

    def __init__(
        self,
        volumes: CloudVolumes[_SeenT],
        limits: CloudTimeouts,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._volumes = volumes
        self._limits = limits
        self._sleep = sleep

    async def holder_state(self, node_id: str) -> Holder:
        """Ask the cloud for the state of a node; UNKNOWN without an answer, marked as unanswered."""
        return (await self._ask(node_id))[0]

    @abstractmethod
    async def take_from(self, volume: Volume, node_id: str) -> None:
        """See `TakesOver.take_from`; the volume is known to be one of the cluster's."""

    async def fence(self, node_id: str) -> None:
        """See `TakesOver.fence`."""
        await self._request_stop(node_id)
        waited_s, pause_s = 0.0, self._limits.poll_first_s
        while True:
            holder = await self.holder_state(node_id)
            if holder.state is HolderState.DEAD:
                return
            if waited_s >= self._limits.fence_s:
                raise OperationTimeout(
                    f"{node_id}: {holder.evidence}, {waited_s:.0f} s after the request to stop it",
                    "Check it in the cloud, and stop it there",
                )
            await self._sleep(pause_s)
            waited_s += pause_s
            pause_s = min(pause_s * 1.5, self._limits.poll_longest_s)

    @abstractmethod
    async def _ask(self, node_id: str) -> tuple[Holder, Description]:
        """Return what is known of a node, and the cloud's description, empty where there is none."""

    @abstractmethod
    def _evidence(self, node: Description, held: _SeenT) -> Evidence:
        """Return the facts of a read of a node and of its attachment of a volume."""

    @abstractmethod
    async def _request_stop(self, node_id: str) -> None:
        """Request the stop of a node, unless it stops or has stopped already."""

    async def _is_proven(self, volume: Volume, node_id: str) -> bool:
        """Prove a node dead that has a volume.

        Returns:
            Whether it has the volume, immediately before.

        Raises:
            VolumeInUse: If it is not proven dead.
        """
        before = await self._proof(volume, node_id)
        if before is None:
            return False
        await self._sleep(self._limits.proof_s)
        after = await self._proof(volume, node_id)
        if after is None:
            return False
        if changed := changed_field(before, after):
            raise not_proven(node_id, changed, "Try again")
        return True

    async def _proof(self, volume: Volume, node_id: str) -> Evidence | None:
        """Read a volume and its holder, which has to be dead; None if it is not attached to the node."""
        seen = await self._volumes.by_id(volume.volume_id)
        if seen is None or seen.state is VolumeState.DELETING:
            raise VolumeNotFound(f"{volume.volume_id} does not exist")
        if seen.holder != node_id:
            return None
        holder, node = await self._ask(node_id)  # last: a node that is off may be started
        if holder.state is not HolderState.DEAD:
            remedy = holder.remedy or f"If it is dead, {self._STOP.format(node_id)}"
            raise not_proven(node_id, holder.evidence, remedy)
        return self._evidence(node, seen)


def unanswered(evidence: str) -> tuple[Holder, Description]:
    """Return what is known of a node of which the cloud reports nothing."""
    return Holder(HolderState.UNKNOWN, evidence, is_answered=False), {}


def not_proven(node_id: str, evidence: str, remedy: str) -> VolumeInUse:
    """Return the error for a node that is not proven dead."""
    # Without the volume's id, which the context has: long ids would leave no room for the evidence.
    cause = f"node {node_id} is not proven dead: {evidence}"
    return VolumeInUse(cause, f"{remedy[:1].upper()}{remedy[1:]}", holder=node_id)


def changed_field(before: Evidence, after: Evidence) -> str:
    """Return which fact of two reads differs, for error messages; "" if they agree."""
    for name, was in before.items():
        if was != after[name]:
            return f"its {name} changed from {was or 'none'} to {after[name] or 'none'}"
    return ""
