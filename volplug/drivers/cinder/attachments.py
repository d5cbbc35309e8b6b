"""Attaches volumes to this server and detaches them: one call to Nova, then a wait for the kernel.

Only Nova attaches: Cinder's own API of attachments merely records them. Nova answers before the compute host
has done anything, and nothing is reported if that fails: the volume is available again after an attach, or in
use again after a detach. Nova forgets an attachment a moment after Cinder calls the volume available, and
refuses to attach it until then, so a detach ends when Nova does not list it any more.

The core has waited for transitions before it calls. If one has begun since, Nova refuses, which changes
nothing; the request is sent again once the volume is in no transition.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from volplug.drivers.cinder.disks import GuestScan
from volplug.drivers.cinder.errors import OpenStackRefused, translated
from volplug.drivers.cinder.openstack import NOVA, Call, OpenStackCaller, shown
from volplug.drivers.cinder.timeouts import AGREEING_READS, CinderTimeouts
from volplug.drivers.cinder.volumes import CinderVolume, CinderVolumes
from volplug.drivers.cloud.disks import BUSY, WatchedDisks
from volplug.drivers.cloud.identity import CloudNode
from volplug.drivers.cloud.polling import SharedPoll, first_result
from volplug.errors import DeviceNotFound, HostError, UnexpectedState, VolumeInUse, VolumeNotFound
from volplug.models import MountSource, Volume, VolumeState

_FAILED: Final = "See the log of nova-compute on its host"


class ServerAttachments:
    """Attaches and detaches volumes; calls may run concurrently."""

    def __init__(
        self,
        caller: OpenStackCaller,
        volumes: CinderVolumes,
        disks: WatchedDisks[GuestScan],
        limits: CinderTimeouts,
    ) -> None:
        self._caller = caller
        self._volumes = volumes
        self._disks = disks
        self._limits = limits
        self._polls: dict[str, SharedPoll[bool]] = {}  # of Nova's attachments, by server

    # Attaching

    async def attach(self, volume: Volume, node: CloudNode) -> MountSource:
        """See `Driver.attach`; the volume is known to be one of the cluster's."""
        source = await self._disks.locate(volume)
        if source is not None:
            return source
        await self._request_attach(volume, node)
        return await self._arrival(volume, node)

    async def _request_attach(self, volume: Volume, node: CloudNode) -> None:
        """Request the attach until Nova accepts it, or turns out to have done it."""
        path = f"/servers/{node.node_id}/os-volume_attachments"
        body = {"volumeAttachment": {"volumeId": volume.volume_id}}
        requests_left = self._limits.attach_requests
        while True:
            requests_left -= 1
            try:
                await self._caller.call(Call(NOVA, "POST", path, body=body))
            except OpenStackRefused as refused:
                if await self._is_attached(refused, volume, node):
                    return
                if requests_left <= 0:
                    raise translated(refused) from refused
            else:
                return

    async def _is_attached(self, refused: OpenStackRefused, volume: Volume, node: CloudNode) -> bool:
        """Find out why Nova refused: the volume may be attached here, or elsewhere, or in a transition.

        Returns:
            Whether it is attached here, perhaps by a try whose answer was lost; else the request is repeated.
        """
        volume_id, transition_s = volume.volume_id, self._limits.transition_s
        if refused.is_missing_volume:
            raise VolumeNotFound(f"{volume_id} does not exist") from refused
        is_about_state = refused.mentions("nvalid volume") and not refused.mentions("availability_zone")
        if refused.status not in {400, 409} or not is_about_state:
            raise translated(refused) from refused
        seen = await self._volumes.by_id(volume_id)
        if seen is not None and seen.is_transitional:
            seen = await self._volumes.wait_settled(volume_id, transition_s) or seen
        if seen is None or seen.state is VolumeState.DELETING:
            raise VolumeNotFound(f"{volume_id} does not exist") from refused
        if seen.state is VolumeState.AVAILABLE:
            # Nova may still know the attachment that Cinder has ended: it is forgotten in a moment.
            await self.wait_forgotten(volume, refused.attached_server or node.node_id, transition_s)
            return False
        if seen.is_transitional:
            cause = f"{volume_id} is still {seen.status} after {transition_s:.0f} s"
            if seen.holder:
                raise VolumeInUse(cause, holder=seen.holder) from refused
            raise UnexpectedState(cause, "See its attachments in Cinder") from refused
        if seen.holder == node.node_id:
            return True
        if seen.holder:
            raise VolumeInUse(f"{volume_id} is attached to {seen.holder}", holder=seen.holder) from refused
        raise UnexpectedState(f"{volume_id}: {seen.volume.detail or seen.status}") from refused

    async def _arrival(self, volume: Volume, node: CloudNode) -> MountSource:
        """Wait for the disk, and for the end of the attach: until then Nova may undo it."""
        limits = self._limits
        source = await self._disks.arrived(volume, limits.quiet_s)
        rest_s = limits.attaching_s - limits.quiet_s

        def failed(seen: CinderVolume | None) -> bool | None:
            return True if seen is None or seen.state is VolumeState.AVAILABLE else None

        if source is None:
            found = await first_result(
                self._disks.arrived(volume, rest_s),
                self._volumes.poll.until(volume.volume_id, failed, rest_s, agree=AGREEING_READS),
            )
            source = found if isinstance(found, MountSource) else None
            if found is True:
                raise HostError(f"Nova failed to attach {volume.volume_id} to {node.node_id}", _FAILED)
        if source is None:
            raise DeviceNotFound(
                f"no disk of {volume.volume_id} has appeared on {node.node_id} within "
                f"{limits.attaching_s:.0f} s",
                "Check that the disk's serial is the volume's id: lsblk -o NAME,SERIAL",
            )
        await self._completed(volume, node)
        return source

    async def _completed(self, volume: Volume, node: CloudNode) -> None:
        """Wait until Cinder has the attachment; a failure before that makes Nova take the disk away.

        Raises:
            HostError: If that happens, or takes too long.
        """

        def ended(seen: CinderVolume | None) -> CinderVolume | bool | None:
            if seen is None or seen.state is VolumeState.AVAILABLE:
                return False
            return seen if seen.holder and not seen.is_transitional else None

        rest_s = self._limits.transition_s
        seen = await self._volumes.poll.until(volume.volume_id, ended, rest_s, at_once=True)
        if isinstance(seen, CinderVolume) and seen.holder == node.node_id:
            return
        raise HostError(f"Nova did not complete the attach of {volume.volume_id}", _FAILED)

    # Detaching

    async def detach(self, volume: Volume, node: CloudNode) -> None:
        """See `Driver.detach`; the volume is known to be one of the cluster's."""
        if not await self._disks.shows(volume.volume_id):
            seen = await self._volumes.by_id(volume.volume_id)
            if seen is not None and seen.state is VolumeState.ATTACHING and not seen.holder:
                seen = await self._volumes.wait_settled(volume.volume_id, self._limits.transition_s)
            if seen is None or (seen.state is VolumeState.DELETING and not seen.holder):
                raise VolumeNotFound(f"{volume.volume_id} does not exist")
            if seen.holder != node.node_id:
                return
            if not await self._disks.can_be_trusted():
                raise HostError(
                    f"Cinder reports that {volume.volume_id} is attached to this host, which shows no disks",
                    "Check that /sys is the host's",
                )
        await self._disks.refuse_if_held(volume.volume_id, node.node_id)
        await self._request_own_detach(volume, node)
        await self._departure(volume, node)
        if not await self.wait_forgotten(volume, node.node_id, self._limits.detach_s):
            raise VolumeInUse(
                f"Nova still lists {volume.volume_id} on {node.node_id}", BUSY, holder=node.node_id
            )

    async def _request_own_detach(self, volume: Volume, node: CloudNode) -> None:
        """Request the detach; if an attach or a detach is in progress, once that has ended."""
        for requests_left in reversed(range(self._limits.attach_requests)):
            try:
                await self.request_detach(volume, node.node_id)
            except OpenStackRefused as refused:
                if not requests_left or not refused.mentions("Unable to detach volume"):
                    raise translated(refused) from refused
            else:
                return
            seen = await self._volumes.wait_settled(volume.volume_id, self._limits.transition_s)
            if seen is None or seen.holder != node.node_id:
                return

    async def _departure(self, volume: Volume, node: CloudNode) -> None:
        limits = self._limits
        if await self._disks.departure(volume.volume_id, limits.quiet_s):
            return

        def failed(seen: CinderVolume | None) -> bool | None:
            is_back = seen is not None and seen.state is VolumeState.IN_USE and seen.holder == node.node_id
            return False if is_back else None

        rest_s = limits.detach_s - limits.quiet_s
        gone = await first_result(
            self._gone(volume, rest_s),
            self._volumes.poll.until(volume.volume_id, failed, rest_s, agree=AGREEING_READS),
        )
        if gone is None:
            raise HostError(
                f"the disk of {volume.volume_id} is still there {limits.detach_s:.0f} s after its detach",
                _FAILED,
            )
        if not gone:
            raise VolumeInUse(
                f"Nova failed to detach {volume.volume_id}, it is in use again",
                _FAILED,
                holder=node.node_id,
            )

    async def _gone(self, volume: Volume, timeout_s: float) -> bool | None:
        return await self._disks.departure(volume.volume_id, timeout_s) or None

    # From any server

    async def request_detach(self, volume: Volume, server_id: str) -> None:
        """Request the detach from a server; a volume that the server does not have is left as it is.

        Raises:
            VolumeNotFound: If the volume does not exist.
            OpenStackRefused: If Nova refuses.
        """
        path = f"/servers/{server_id}/os-volume_attachments/{volume.volume_id}"
        try:
            await self._caller.call(Call(NOVA, "DELETE", path))
        except OpenStackRefused as refused:
            if refused.is_missing_volume:
                raise VolumeNotFound(f"{volume.volume_id} does not exist") from refused
            if not refused.is_not_attached:
                raise

    async def wait_forgotten(self, volume: Volume, server_id: str, timeout_s: float) -> bool:
        """Wait until Nova does not list a volume on a server; return False after the timeout."""
        poll = self._polls.get(server_id)
        if poll is None:
            limits = self._limits
            poll = self._polls[server_id] = SharedPoll(
                lambda ids: self._listed(server_id, ids), limits.poll_first_s, limits.poll_longest_s
            )
        gone = await poll.until(
            volume.volume_id, lambda seen: None if seen else True, timeout_s, at_once=True
        )
        return bool(gone)

    async def _listed(self, server_id: str, volume_ids: Collection[str]) -> dict[str, bool]:
        path = f"/servers/{server_id}/os-volume_attachments"
        # Of a deleted server there is nothing: its attachments are deleted with it.
        listed = await shown(self._caller, NOVA, path, "volumeAttachments") or ()
        return {str(each["volumeId"]): True for each in listed if each["volumeId"] in volume_ids}
