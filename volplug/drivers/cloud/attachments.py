"""Attaches volumes to this host and detaches them: what clouds have in common around their calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Generic, Literal, TypeVar

from volplug.drivers.cloud.disks import BUSY, WatchedDisks
from volplug.drivers.cloud.identity import CloudNode
from volplug.drivers.cloud.polling import first_result
from volplug.drivers.cloud.timeouts import CloudTimeouts
from volplug.drivers.cloud.volumes import CloudVolume, CloudVolumes, no_volume
from volplug.errors import HostError, OperationTimeout, UnexpectedState, VolumeInUse
from volplug.models import BlockDevice, Volume, VolumeState

_SeenT = TypeVar("_SeenT", bound=CloudVolume)
_NodeT = TypeVar("_NodeT", bound=CloudNode)
_T = TypeVar("_T")


class CloudAttachments(ABC, Generic[_SeenT, _NodeT]):
    """Attaches and detaches volumes; calls may run concurrently.

    Attributes:
        disks: This host's disks.
    """

    _CLOUD: ClassVar[str]  # that reports attachments, in errors

    def __init__(
        self, volumes: CloudVolumes[_SeenT], disks: WatchedDisks[Any], limits: CloudTimeouts
    ) -> None:
        self.disks = disks
        self._volumes = volumes
        self._limits = limits

    async def attach(self, volume: Volume, node: _NodeT) -> BlockDevice:
        """See `Driver.attach`; the volume is known to be one of the cluster's."""
        return await self.disks.locate(volume) or await self._attach(volume, node)

    async def detach(self, volume: Volume, node: _NodeT) -> None:
        """See `Driver.detach`; the volume is known to be one of the cluster's. Never by force."""
        volume_id, node_id = volume.volume_id, node.node_id
        if not (await self.disks.shows(volume_id) or await self._is_attached_here(volume, node_id)):
            return
        await self.disks.refuse_if_held(volume_id, node_id)
        await self._request_own_detach(volume, node_id)
        await self._departed(volume, node_id)
        if not await self.wait_detached(volume, node_id, self._limits.detach_s):
            raise self._still_detaching(volume, node_id)

    async def wait_detached(self, volume: Volume, node_id: str, timeout_s: float) -> bool:
        """Wait until the cloud reports that a node does not have a volume; return False after the timeout."""

        def left(seen: _SeenT | None) -> Literal[True] | None:
            return None if seen is None or seen.holder == node_id else True

        return bool(await self._volumes.poll.until(volume.volume_id, left, timeout_s, at_once=True))

    @abstractmethod
    async def _attach(self, volume: Volume, node: _NodeT) -> BlockDevice:
        """Attach a volume of which this host shows no disk."""

    @abstractmethod
    async def _request_own_detach(self, volume: Volume, node_id: str) -> None:
        """Request the detach from this host."""

    @abstractmethod
    async def _departed(self, volume: Volume, node_id: str) -> None:
        """Wait until the disk has gone after its detach.

        Raises:
            VolplugError: If it stays.
        """

    async def _is_attached_here(self, volume: Volume, node_id: str) -> bool:
        """Tell whether the cloud reports a volume as attached to this host, which shows no disk of it.

        Raises:
            VolumeNotFound: If it does not exist.
            HostError: If the missing disk is no evidence.
            OperationTimeout: If an attach, to whichever host, does not end.
        """
        volume_id = volume.volume_id
        seen = await self._volumes.by_id(volume_id)
        if seen is not None and seen.state is VolumeState.ATTACHING and not seen.holder:
            seen = await self._volumes.wait_settled(volume_id, self._limits.transition_s)
            if seen is None:
                raise OperationTimeout(f"{volume_id} is still being attached", "Try again")
        if seen is None and self._volumes.own.is_created(volume_id):
            return False  # reads do not show it yet
        if seen is None or (seen.state is VolumeState.DELETING and not seen.holder):
            raise no_volume(volume_id)
        if seen.holder == node_id and not await self._shows_disks(volume, seen):
            raise HostError(
                f"{self._CLOUD} has {volume_id} attached to this host, which shows no disks at all",
                "Check that /sys is the host's",
            )
        return seen.holder == node_id

    async def _shows_disks(self, volume: Volume, seen: _SeenT) -> bool:
        """Tell whether this host shows disks, so that a missing one is evidence."""
        return await self.disks.can_be_trusted()

    async def _attached_after_all(self, volume: Volume, node_id: str) -> _SeenT | None:
        """Find out why an attach was refused: the volume may be attached, or in a transition.

        Returns:
            The volume if it is attached here, perhaps by a try whose answer was lost; None if the request is
            to be repeated, because the volume is available by now.

        Raises:
            VolplugError: If it would be refused again.
        """
        volume_id, limit_s = volume.volume_id, self._limits.transition_s
        seen = await self._volumes.by_id(volume_id)
        # If it is available in spite of the refusal, that may be a stale read.
        if seen is None or seen.is_transitional or seen.state is VolumeState.AVAILABLE:
            seen = await self._volumes.wait_settled(volume_id, limit_s) or seen
        if seen is None or seen.state is VolumeState.DELETING:
            raise no_volume(volume_id)
        if seen.state is VolumeState.AVAILABLE:
            return None
        if seen.is_transitional:
            cause = f"{volume_id} is still {seen.status} after {limit_s:.0f} s"
            if seen.holder:
                raise VolumeInUse(f"{cause}, on {seen.holder}", "Unmount it there", holder=seen.holder)
            raise UnexpectedState(cause, "See its attachments in the cloud")
        if seen.holder == node_id:
            return seen
        if seen.holder:
            raise VolumeInUse(f"{volume_id} is attached to {seen.holder}", holder=seen.holder)
        raise UnexpectedState(f"{volume_id}: {seen.volume.detail or seen.status}")

    async def _on_this_host(
        self,
        volume: Volume,
        wait: Callable[[float], Coroutine[Any, Any, _T | None]],
        has_failed: Callable[[_SeenT | None], bool],
        timeout_s: float,
    ) -> _T | Literal[False] | None:
        """Wait for a disk to come or go; after `quiet_s` the cloud is polled, too, for a failure.

        Args:
            volume: Whose disk.
            wait: Waits for so many seconds at most.
            has_failed: Tells, by some reads that agree, whether the disk will not come or go any more.
            timeout_s: How long to wait at most.

        Returns:
            What `wait` returns; False after a failure, None after the timeout.
        """
        done = await wait(self._limits.quiet_s)
        if done is not None:
            return done
        rest_s, reads = timeout_s - self._limits.quiet_s, self._limits.agreeing_reads

        def failed(seen: _SeenT | None) -> Literal[False] | None:
            return False if has_failed(seen) else None

        polled = self._volumes.poll.until(volume.volume_id, failed, rest_s, agree=reads)
        return await first_result(wait(rest_s), polled)

    def _still_detaching(self, volume: Volume, node_id: str, more: str = "") -> VolumeInUse:
        cause = f"{volume.volume_id} is still being detached from {node_id}{more}"
        return VolumeInUse(cause, BUSY, holder=node_id)
