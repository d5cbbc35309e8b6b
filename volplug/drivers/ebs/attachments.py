"""Attaches volumes to this instance and detaches them: one call to EC2, then a wait for the kernel.

The core has waited for transitions before it calls. If its last read was stale after all, EC2 refuses, which
changes nothing; the request is sent again once the volume is in no transition.
"""

from __future__ import annotations

import re
from typing import Final

import structlog

from volplug.drivers.cloud.disks import BUSY
from volplug.drivers.cloud.polling import first_result
from volplug.drivers.ebs.disks import Disks
from volplug.drivers.ebs.errors import Ec2Refused, translated
from volplug.drivers.ebs.instance import Identity
from volplug.drivers.ebs.timeouts import AGREEING_READS, Ec2Timeouts
from volplug.drivers.ebs.volumes import Caller, ClusterVolumes, Ec2Volume
from volplug.errors import (
    DeviceNotFound,
    HostError,
    InvalidRequest,
    LimitExceeded,
    UnexpectedState,
    VolplugError,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.models import MountSource, Volume, VolumeState

_LOG = structlog.get_logger(__name__)
_NAME_TAKEN: Final = re.compile(r"already in use|parameter device is invalid|is already used", re.IGNORECASE)
_WRONG_STATE: Final = ("IncorrectState", "ResourceAlreadyAssociated", "VolumeInUse")
_UNKNOWN_VOLUME: Final = ("InvalidVolume.NotFound", "InvalidVolumeID.Malformed")
# DetachVolume is refused with these if the volume is detached already, or detaching.
_GONE_ALREADY: Final = ("IncorrectState", "InvalidAttachment.NotFound")


class Attachments:
    """Attaches and detaches volumes; calls may run concurrently."""

    def __init__(self, caller: Caller, volumes: ClusterVolumes, disks: Disks, limits: Ec2Timeouts) -> None:
        self._caller = caller
        self._volumes = volumes
        self._disks = disks
        self._limits = limits

    # Attaching

    async def attach(self, volume: Volume, node: Identity) -> MountSource:
        """See `Driver.attach`; the volume is known to be one of the cluster's."""
        source = await self._disks.locate(volume)
        if source is not None:
            return source
        name = ""
        for _ in range(self._limits.attach_tries):
            name = await self._request_attach(volume, node)
            source = await self._arrival(volume, node, name)
            if source is not None:
                return source
            _LOG.warning("attach is stuck", volume=volume.name, volume_id=volume.volume_id, device=name)
            self._disks.avoid_name(name)
            self._disks.leave_name(volume.volume_id)
            await self.request_detach(volume, node.node_id)
        raise DeviceNotFound(
            f"{volume.volume_id} did not appear on {node.node_id} within {self._limits.attaching_s:.0f} "
            f"s, {self._limits.attach_tries} times, last as {name}",
            "If this continues, stop and start the instance",
        )

    async def _request_attach(self, volume: Volume, node: Identity) -> str:
        """Send AttachVolume until EC2 accepts it; return the name that the volume is attached under."""
        requests_left = self._limits.attach_requests
        while True:
            requests_left -= 1
            name = await self._disks.take_name(volume.volume_id)
            try:
                await self._caller.call(
                    "AttachVolume", VolumeId=volume.volume_id, InstanceId=node.node_id, Device=name
                )
            except Ec2Refused as refused:
                self._disks.leave_name(volume.volume_id)
                attached_as = await self._after_refusal(refused, volume, node, name)
                if attached_as:
                    return attached_as
                if requests_left <= 0:
                    raise translated(refused) from refused
            except BaseException:
                self._disks.leave_name(volume.volume_id)
                raise
            else:
                return name

    async def _after_refusal(self, refused: Ec2Refused, volume: Volume, node: Identity, name: str) -> str:
        """Return the name that the volume is attached under after all, or "" to send the request again."""
        volume_id, code = volume.volume_id, refused.code
        is_name_taken = code == "InvalidDevice.InUse" or (
            code == "InvalidParameterValue" and _NAME_TAKEN.search(refused.message)
        )
        if is_name_taken and not refused.was_repeated:
            self._disks.avoid_name(name)
            return ""
        is_late = code in _UNKNOWN_VOLUME and self._volumes.own.is_created(volume_id)
        # A retried call may be refused for the attachment that its first try made.
        if is_name_taken or is_late or code in _WRONG_STATE:
            return await self._attached_as(refused, volume, node)
        if code in _UNKNOWN_VOLUME:
            raise VolumeNotFound(f"{volume_id} does not exist") from refused
        if code == "InvalidVolume.ZoneMismatch":
            raise await self._other_zone(volume, node) from refused
        if code == "AttachmentLimitExceeded":
            count = await self._disks.attached_count()
            raise LimitExceeded(
                f"{node.node_id} takes no more volumes, it has {count} with its root: {refused.message}",
                "Detach volumes from it, or use an instance type that takes more",
            ) from refused
        raise translated(refused) from refused

    async def _attached_as(self, refused: Ec2Refused, volume: Volume, node: Identity) -> str:
        """Find out why EC2 refused: the volume may be attached here, or elsewhere, or in a transition."""
        volume_id, transition_s = volume.volume_id, self._limits.transition_s
        seen = await self._volumes.by_id(volume_id)
        # If it is available in spite of the refusal, that is a stale read.
        if seen is None or seen.is_transitional or seen.state is VolumeState.AVAILABLE:
            seen = await self._volumes.wait_settled(volume_id, transition_s) or seen
        if seen is None or seen.state is VolumeState.DELETING:
            raise VolumeNotFound(f"{volume_id} does not exist") from refused
        if seen.state is VolumeState.AVAILABLE:
            return ""
        if seen.is_transitional and not seen.holder:
            raise UnexpectedState(f"EC2 is still {seen.ec2_state} {volume_id}", "Try again") from refused
        if seen.is_transitional:
            raise VolumeInUse(
                f"{volume_id} is still being detached from {seen.holder} after {transition_s:.0f} s "
                f"({seen.ec2_state})",
                "Unmount it there",
                holder=seen.holder,
            ) from refused
        if seen.holder == node.node_id:
            return seen.device
        if seen.holder:
            raise VolumeInUse(
                f"{volume_id} is attached to {seen.holder} as {seen.device}", holder=seen.holder
            ) from refused
        raise UnexpectedState(f"{volume_id} is in state {seen.ec2_state!r}: {refused.message}") from refused

    async def _other_zone(self, volume: Volume, node: Identity) -> VolplugError:
        seen = await self._volumes.by_id(volume.volume_id)
        zone = seen.zone if seen else "unknown"
        return InvalidRequest(
            f"{volume.volume_id} is in availability zone {zone}, this host in {node.zone or 'another'}",
            f"Run the container in {zone}: a volume never leaves its zone",
        )

    async def _arrival(self, volume: Volume, node: Identity, name: str) -> MountSource | None:
        """Wait for the disk; return None if the attach is stuck or has failed."""
        limits = self._limits
        source = await self._disks.arrival(volume, name, limits.quiet_s)
        if source is not None:
            return source

        def failed(seen: Ec2Volume | None) -> bool | None:
            is_here = seen is not None and seen.holder == node.node_id and not seen.is_transitional
            return None if is_here else False

        rest_s = limits.attaching_s - limits.quiet_s
        found = await first_result(
            self._disks.arrival(volume, name, rest_s),
            self._volumes.poll.until(volume.volume_id, failed, rest_s, agree=AGREEING_READS),
        )
        return found if isinstance(found, MountSource) else None

    # Detaching

    async def detach(self, volume: Volume, node: Identity) -> None:
        """See `Driver.detach`; the volume is known to be one of the cluster's. Never by force."""
        if await self._disks.shows(volume.volume_id):
            await self._detach_shown(volume, node)
            return
        seen = await self._volumes.by_id(volume.volume_id)
        is_new = self._volumes.own.is_created(volume.volume_id)
        if (seen is None and not is_new) or (seen is not None and seen.state is VolumeState.DELETING):
            raise VolumeNotFound(f"{volume.volume_id} does not exist")
        if seen is None or seen.holder != node.node_id:
            return
        if await self._disks.arrival(volume, seen.device, 0):
            await self._detach_shown(volume, node)  # identified, now that its name is known
            return
        if not await self._disks.can_be_trusted():
            raise HostError(
                f"EC2 says that {volume.volume_id} is attached to this host, which shows no disks at all",
                "Check that /sys is the host's",
            )
        await self.request_detach(volume, node.node_id)
        await self._wait_detached_here(volume, node)

    async def _detach_shown(self, volume: Volume, node: Identity) -> None:
        """Detach a volume whose disk is present, after a last test that it is not in use."""
        await self._disks.refuse_if_held(volume.volume_id, node.node_id)
        await self.request_detach(volume, node.node_id)
        if not await self._disks.departure(volume.volume_id, self._limits.detach_s):
            raise await self._why_it_stays(volume, node)
        await self._wait_detached_here(volume, node)

    async def _wait_detached_here(self, volume: Volume, node: Identity) -> None:
        await self._disks.forget(volume.volume_id)
        # At once: the disk has gone, so EC2 has most often ended the attachment, too.
        limit_s = self._limits.detach_s
        if not await self.wait_detached(volume, node.node_id, limit_s, at_once=True):
            raise VolumeInUse(
                f"{volume.volume_id} is still being detached from {node.node_id}",
                BUSY,
                holder=node.node_id,
            )

    async def _why_it_stays(self, volume: Volume, node: Identity) -> VolplugError:
        """Return the error for a disk that is still present after its detach."""
        seen = await self._volumes.by_id(volume.volume_id)
        waited = f"{self._limits.detach_s:.0f} s"
        if seen and seen.state is VolumeState.DETACHING and seen.holder == node.node_id:
            return VolumeInUse(
                f"{volume.volume_id} is still being detached from {node.node_id} after {waited} "
                f"({seen.ec2_state}): something on this host uses it",
                BUSY,
                holder=node.node_id,
            )
        return HostError(
            f"the disk of {volume.volume_id} is still there {waited} after its detach, which EC2 calls "
            f"{seen.ec2_state if seen else 'unknown'}",
            "Restart this instance if it stays",
        )

    # From any instance

    async def request_detach(self, volume: Volume, node_id: str, *, force: bool = False) -> None:
        """Send DetachVolume for one instance; a volume that the instance does not have is left as it is.

        Raises:
            VolumeNotFound: If the volume does not exist.
        """
        by_force = {"Force": True} if force else {}
        try:
            await self._caller.call("DetachVolume", VolumeId=volume.volume_id, InstanceId=node_id, **by_force)
        except Ec2Refused as refused:
            if refused.code == "InvalidVolume.NotFound":
                raise VolumeNotFound(f"{volume.volume_id} does not exist") from refused
            if refused.code not in _GONE_ALREADY:
                raise translated(refused) from refused

    async def wait_detached(
        self, volume: Volume, node_id: str, timeout_s: float, *, at_once: bool = False
    ) -> bool:
        """Wait until EC2 reports that an instance does not have a volume; return False after the timeout."""
        return bool(
            await self._volumes.poll.until(
                volume.volume_id,
                lambda seen: None if seen is None or seen.holder == node_id else True,
                timeout_s,
                at_once=at_once,
            )
        )
