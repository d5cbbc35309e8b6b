"""Detaching a volume from this instance, never by force: one call, then the kernel tells when it has gone."""

from __future__ import annotations

from typing import Final

from volplug.drivers.ebs.cloud import Cloud
from volplug.drivers.ebs.disks import Disks
from volplug.drivers.ebs.faults import Ec2Refused, translated
from volplug.drivers.ebs.identity import Identity
from volplug.drivers.ebs.lookups import Description
from volplug.drivers.ebs.situations import Place, situation
from volplug.errors import BackendDenied, HostError, VolplugError, VolumeInUse, VolumeNotFound
from volplug.models import Volume

_GONE_ALREADY: Final = ("IncorrectState", "InvalidAttachment.NotFound")
_BUSY: Final = "End whatever uses it on this host; volplug tries again"


class Detaching:
    """Detaches volumes; any number at once.

    Args:
        cloud: EC2.
        disks: This host's disks.
        leaving: Volumes whose detach was asked for and is not over.
    """

    def __init__(self, cloud: Cloud, disks: Disks, leaving: set[str]) -> None:
        self._cloud = cloud
        self._disks = disks
        self._leaving = leaving

    async def detach(self, volume: Volume, node: Identity) -> None:
        """See `Driver.detach`; the volume is known to be one of the cluster's."""
        if await self._disks.shows(volume.volume_id):
            await self._detach_shown(volume, node)
        else:
            await self._detach_unseen(volume, node)
        self._leaving.discard(volume.volume_id)

    async def _detach_shown(self, volume: Volume, node: Identity) -> None:
        await self._refuse_if_held(volume, node)
        was_leaving = volume.volume_id in self._leaving
        self._leaving.add(volume.volume_id)
        try:
            await self._request(volume, node)
        except VolplugError as error:
            if not was_leaving and _is_without_effect(error):
                self._leaving.discard(volume.volume_id)
            raise
        # What EC2 says meanwhile changes nothing: what counts is the disk.
        if not await self._disks.departure(volume.volume_id, self._cloud.patience.detach_s):
            await self._explain(volume, node)
        await self._disks.forget(volume.volume_id)
        self._cloud.recent.held(volume.volume_id, "", before=node.instance_id)

    async def _refuse_if_held(self, volume: Volume, node: Identity) -> None:
        """Look once more before anything is changed; EC2 takes no detach back."""
        try:
            await self._disks.refuse_if_held(volume.volume_id)
        except VolumeInUse as held:
            raise VolumeInUse(held.cause, _BUSY, holder=node.instance_id) from held

    async def _request(self, volume: Volume, node: Identity) -> None:
        try:
            await self._cloud.caller.call(
                "DetachVolume", VolumeId=volume.volume_id, InstanceId=node.instance_id
            )
        except Ec2Refused as refused:
            if refused.code == "InvalidVolume.NotFound":
                raise VolumeNotFound(f"{volume.volume_id} does not exist") from refused
            if refused.code not in _GONE_ALREADY:
                raise translated(refused) from refused

    async def _explain(self, volume: Volume, node: Identity) -> None:
        """Say why the disk is still there."""
        now = situation(await self._cloud.lookups.by_id(volume.volume_id), node.instance_id)
        waited = f"{self._cloud.patience.detach_s:.0f} s"
        if now.place is Place.LEAVING and now.holder == node.instance_id:
            raise VolumeInUse(
                f"{volume.volume_id} is still being detached from {node.instance_id} after {waited} "
                f"({now.detail}): something on this host uses it",
                _BUSY,
                holder=node.instance_id,
            )
        raise HostError(
            f"the disk of {volume.volume_id} is still there {waited} after its detach, which EC2 calls "
            f"{now.detail or now.place.name.lower()}",
            "Restart this instance if it stays",
        )

    async def _detach_unseen(self, volume: Volume, node: Identity) -> None:
        """Detach what this host does not show only if EC2 says that it has it; leave it alone otherwise."""
        now = situation(await self._cloud.lookups.by_id(volume.volume_id), node.instance_id)
        if now.place is Place.DELETED or (
            now.place is Place.UNSEEN and not self._cloud.recent.is_new(volume.volume_id)
        ):
            raise VolumeNotFound(f"{volume.volume_id} does not exist")
        if now.holder != node.instance_id or self._cloud.recent.was_let_go(volume.volume_id):
            return
        if await self._disks.arrival(volume, now.device, 0):
            await self._detach_shown(volume, node)  # it shows, now that its name is known
            return
        if not await self._disks.can_be_trusted():
            raise HostError(
                f"EC2 says that {volume.volume_id} is attached to this host, which shows no disks at all",
                "Check that /sys is the host's",
            )
        await self._request(volume, node)
        await self._gone_at_ec2(volume, node)
        await self._disks.forget(volume.volume_id)
        self._cloud.recent.held(volume.volume_id, "", before=node.instance_id)

    async def _gone_at_ec2(self, volume: Volume, node: Identity) -> None:
        def gone(description: Description | None) -> bool | None:
            now = situation(description, node.instance_id)
            return None if now.holder == node.instance_id or now.place is Place.UNSEEN else True

        if not await self._cloud.states.until(volume.volume_id, gone, self._cloud.patience.detach_s):
            raise VolumeInUse(
                f"{volume.volume_id} is still being detached from {node.instance_id}",
                _BUSY,
                holder=node.instance_id,
            )


def _is_without_effect(error: VolplugError) -> bool:
    """Tell whether EC2 certainly has not begun what it was asked for; without an answer it may have."""
    refused = error.__cause__
    return isinstance(error, BackendDenied) or (isinstance(refused, Ec2Refused) and not refused.was_repeated)
