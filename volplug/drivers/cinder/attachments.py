"""Attaches volumes to this server and detaches them: one call to Nova, then a wait for the kernel.

Only Nova attaches: Cinder's own API of attachments merely records them. Nova answers before the compute host
has done anything, and nothing is reported if that fails: the volume is available again after an attach, or in
use again after a detach. Nova forgets an attachment a moment after Cinder calls the volume available, and
refuses to attach it until then, so a detach ends when Nova does not list it any more.

The core has waited for transitions before it calls. If one has begun since, Nova refuses, which changes
nothing; the request is sent again once the volume is in no transition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final, Literal

from volplug.drivers.cinder.disks import GuestScan
from volplug.drivers.cinder.errors import OpenStackRefused, translated
from volplug.drivers.cinder.openstack import NOVA, Call, OpenStackCaller, shown
from volplug.drivers.cinder.timeouts import ATTACHES, CinderTimeouts
from volplug.drivers.cinder.volumes import CinderVolume, CinderVolumes
from volplug.drivers.cloud.attachments import CloudAttachments
from volplug.drivers.cloud.disks import WatchedDisks
from volplug.drivers.cloud.identity import CloudNode
from volplug.drivers.cloud.polling import SharedPoll
from volplug.errors import DeviceNotFound, HostError, VolumeInUse
from volplug.models import BlockDevice, Volume, VolumeState

_FAILED: Final = "See the log of nova-compute on its host"


class ServerAttachments(CloudAttachments[CinderVolume, CloudNode]):
    """Attaches and detaches volumes; calls may run concurrently."""

    _CLOUD = "Cinder"
    _limits: CinderTimeouts

    def __init__(
        self,
        caller: OpenStackCaller,
        volumes: CinderVolumes,
        disks: WatchedDisks[GuestScan],
        limits: CinderTimeouts,
    ) -> None:
        super().__init__(volumes, disks, limits)
        self._caller = caller
        self._attaching = asyncio.Semaphore(ATTACHES)
        self._polls: dict[str, SharedPoll[bool]] = {}  # of Nova's attachments, by server

    # Attaching

    async def _attach(self, volume: Volume, node: CloudNode) -> BlockDevice:
        body = {"volumeAttachment": {"volumeId": volume.volume_id}}
        call = Call(NOVA, "POST", f"/servers/{node.node_id}/os-volume_attachments", body=body)
        for requests_left in reversed(range(self._limits.attach_requests)):
            try:
                async with self._attaching:
                    await self._caller.call(call)
                    return await self._arrival(volume, node.node_id)
            except OpenStackRefused as refused:
                if await self._is_attached(refused, volume, node.node_id):
                    break
                if not requests_left:
                    raise translated(refused) from refused
        return await self._arrival(volume, node.node_id)

    async def _is_attached(self, refused: OpenStackRefused, volume: Volume, node_id: str) -> bool:
        """Tell whether a volume is attached here although Nova refused; if not, the request is repeated."""
        is_about_state = refused.mentions("nvalid volume") and not refused.mentions("availability_zone")
        if refused.status not in {400, 409} or not is_about_state:
            raise translated(refused) from refused
        if await self._attached_after_all(volume, node_id):
            return True
        # Nova may still know the attachment that Cinder has ended: it is forgotten in a moment, unless an
        # administrator has ended it by setting the volume's state.
        server_id = refused.attached_server or node_id
        if not await self.wait_detached(volume, server_id, self._limits.transition_s):
            raise translated(refused) from refused
        return False

    async def _arrival(self, volume: Volume, node_id: str) -> BlockDevice:
        """Wait for the disk, and for the end of the attach: until then Nova may undo it."""
        limit_s = self._limits.attaching_s
        source = await self._on_this_host(
            volume, lambda timeout_s: self.disks.arrived(volume, timeout_s), _is_available, limit_s
        )
        if source is False:
            raise HostError(f"Nova failed to attach {volume.volume_id} to {node_id}", _FAILED)
        if source is None:
            raise DeviceNotFound(
                f"no disk of {volume.volume_id} has appeared on {node_id} within {limit_s:.0f} s",
                "Check that the disk's serial is the volume's id: lsblk -o NAME,SERIAL",
            )
        if not await self._is_completed(volume, node_id):
            raise HostError(f"Nova did not complete the attach of {volume.volume_id}", _FAILED)
        return source

    async def _is_completed(self, volume: Volume, node_id: str) -> bool:
        """Wait until Cinder has the attachment; a failure before that makes Nova take the disk away."""

        def ended(seen: CinderVolume | None) -> bool | None:
            if seen is None or _is_available(seen):
                return False
            return seen.holder == node_id if seen.holder and not seen.is_transitional else None

        limit_s = self._limits.transition_s
        return bool(await self._volumes.poll.until(volume.volume_id, ended, limit_s, at_once=True))

    # Detaching

    async def _request_own_detach(self, volume: Volume, node_id: str) -> None:
        """Request the detach; if an attach or a detach is in progress, once that has ended."""
        for requests_left in reversed(range(self._limits.attach_requests)):
            try:
                return await self.request_detach(volume, node_id)
            except OpenStackRefused as refused:
                if not requests_left or not refused.is_detaching:
                    raise translated(refused) from refused
            seen = await self._volumes.wait_settled(volume.volume_id, self._limits.transition_s)
            if seen is None or seen.holder != node_id:
                return None
        return None

    async def _departed(self, volume: Volume, node_id: str) -> None:
        def is_back(seen: CinderVolume | None) -> bool:
            return seen is not None and seen.state is VolumeState.IN_USE and seen.holder == node_id

        volume_id, limit_s = volume.volume_id, self._limits.detach_s
        gone = await self._on_this_host(
            volume, lambda timeout_s: self.disks.departed(volume_id, timeout_s), is_back, limit_s
        )
        if gone is None:
            raise HostError(
                f"the disk of {volume_id} is still there {limit_s:.0f} s after its detach", _FAILED
            )
        if not gone:
            cause = f"Nova failed to detach {volume_id}, it is in use again"
            raise VolumeInUse(cause, _FAILED, holder=node_id)

    # From any server

    async def request_detach(self, volume: Volume, server_id: str, *, within_s: float | None = None) -> None:
        """Request the detach from a server; a volume that the server does not have is left as it is.

        Args:
            volume: The volume.
            server_id: The server.
            within_s: See `Call`.

        Raises:
            OpenStackRefused: If Nova refuses.
        """
        path = f"/servers/{server_id}/os-volume_attachments/{volume.volume_id}"
        try:
            await self._caller.call(Call(NOVA, "DELETE", path, within_s=within_s))
        except OpenStackRefused as refused:
            if not refused.is_not_attached:
                raise

    async def wait_detached(self, volume: Volume, node_id: str, timeout_s: float) -> bool:
        """Wait until Nova does not list a volume on a server; return False after the timeout.

        Cinder calls the volume available a moment earlier.
        """
        poll = self._polls.get(node_id)
        if poll is None:
            limits = self._limits
            poll = self._polls[node_id] = SharedPoll(
                lambda ids: self._listed(node_id, ids), limits.poll_first_s, limits.poll_longest_s
            )

        def forgotten(is_listed: bool | None) -> Literal[True] | None:
            return None if is_listed else True

        return bool(await poll.until(volume.volume_id, forgotten, timeout_s, at_once=True))

    async def _listed(self, server_id: str, volume_ids: Collection[str]) -> dict[str, bool]:
        path = f"/servers/{server_id}/os-volume_attachments"
        # Of a deleted server there is nothing: its attachments are deleted with it.
        listed = await shown(self._caller, NOVA, path, "volumeAttachments") or ()
        return {str(each["volumeId"]): True for each in listed if each["volumeId"] in volume_ids}


def _is_available(seen: CinderVolume | None) -> bool:
    return seen is None or seen.state is VolumeState.AVAILABLE
