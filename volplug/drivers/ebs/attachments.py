"""Attaches volumes to this instance and detaches them: one call to EC2, then a wait for the kernel.

The core has waited for transitions before it calls. If its last read was stale after all, EC2 refuses, which
changes nothing; the request is sent again once the volume is in no transition.
"""

from __future__ import annotations

import re
from typing import Any, Final

import structlog

from volplug.drivers.cloud.attachments import CloudAttachments
from volplug.drivers.cloud.volumes import no_volume
from volplug.drivers.ebs.disks import Disks
from volplug.drivers.ebs.errors import Ec2Refused, translated
from volplug.drivers.ebs.instance import Identity
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.drivers.ebs.volumes import Caller, ClusterVolumes, Ec2Volume
from volplug.errors import (
    DeviceNotFound,
    HostError,
    InvalidRequest,
    LimitExceeded,
    VolplugError,
)
from volplug.models import BlockDevice, Volume, VolumeState

_LOG = structlog.get_logger(__name__)
_NAME_TAKEN: Final = re.compile(r"already in use|parameter device is invalid|is already used", re.IGNORECASE)
_WRONG_STATE: Final = ("IncorrectState", "ResourceAlreadyAssociated", "VolumeInUse")
_UNKNOWN_VOLUME: Final = ("InvalidVolume.NotFound", "InvalidVolumeID.Malformed")
# DetachVolume is refused with these if the volume is detached already, or detaching.
_GONE_ALREADY: Final = ("IncorrectState", "InvalidAttachment.NotFound")


class InstanceAttachments(CloudAttachments[Ec2Volume, Identity]):
    """Attaches and detaches volumes; calls may run concurrently."""

    _CLOUD = "EC2"
    disks: Disks
    _limits: Ec2Timeouts

    def __init__(self, caller: Caller, volumes: ClusterVolumes, disks: Disks, limits: Ec2Timeouts) -> None:
        super().__init__(volumes, disks, limits)
        self._caller = caller

    # Attaching

    async def _attach(self, volume: Volume, node: Identity) -> BlockDevice:
        name = ""
        for _ in range(self._limits.attach_tries):
            name = await self._request_attach(volume, node)
            source = await self._arrival(volume, node, name)
            if source is not None:
                return source
            _LOG.warning("attach is stuck", volume=volume.name, volume_id=volume.volume_id, device=name)
            self.disks.avoid_name(name)
            self.disks.leave_name(volume.volume_id)
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
            name = await self.disks.take_name(volume.volume_id)
            try:
                await self._caller.call(
                    "AttachVolume", VolumeId=volume.volume_id, InstanceId=node.node_id, Device=name
                )
            except Ec2Refused as refused:
                self.disks.leave_name(volume.volume_id)
                attached_as = await self._after_refusal(refused, volume, node, name)
                if attached_as:
                    return attached_as
                if requests_left <= 0:
                    raise translated(refused) from refused
            except BaseException:
                self.disks.leave_name(volume.volume_id)
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
            self.disks.avoid_name(name)
            return ""
        is_late = code in _UNKNOWN_VOLUME and self._volumes.own.is_created(volume_id)
        # A retried call may be refused for the attachment that its first try made.
        if is_name_taken or is_late or code in _WRONG_STATE:
            seen = await self._attached_after_all(volume, node.node_id)
            return seen.device if seen else ""
        if code in _UNKNOWN_VOLUME:
            raise no_volume(volume_id) from refused
        if code == "InvalidVolume.ZoneMismatch":
            raise await self._other_zone(volume, node) from refused
        if code == "AttachmentLimitExceeded":
            count = await self.disks.attached_count()
            raise LimitExceeded(
                f"{node.node_id} takes no more volumes, it has {count} with its root: {refused.message}",
                "Detach volumes from it, or use an instance type that takes more",
            ) from refused
        raise translated(refused) from refused

    async def _other_zone(self, volume: Volume, node: Identity) -> VolplugError:
        seen = await self._volumes.by_id(volume.volume_id)
        zone = seen.zone if seen else "unknown"
        return InvalidRequest(
            f"{volume.volume_id} is in availability zone {zone}, this host in {node.zone or 'another'}",
            f"Run the container in {zone}: a volume never leaves its zone",
        )

    async def _arrival(self, volume: Volume, node: Identity, name: str) -> BlockDevice | None:
        """Wait for the disk; return None if the attach is stuck or has failed."""

        def has_failed(seen: Ec2Volume | None) -> bool:
            return seen is None or seen.holder != node.node_id or seen.is_transitional

        return (
            await self._on_this_host(
                volume,
                lambda timeout_s: self.disks.arrival(volume, name, timeout_s),
                has_failed,
                self._limits.attaching_s,
            )
            or None
        )

    # Detaching

    async def _shows_disks(self, volume: Volume, seen: Ec2Volume) -> bool:
        # A disk without a serial is identified now that its name is known, and then tested.
        is_identified = await self.disks.arrival(volume, seen.device, 0) is not None
        return is_identified or await self.disks.can_be_trusted()

    async def _request_own_detach(self, volume: Volume, node_id: str) -> None:
        await self.request_detach(volume, node_id)

    async def _departed(self, volume: Volume, node_id: str) -> None:
        if not await self.disks.departed(volume.volume_id, self._limits.detach_s):
            raise await self._why_it_stays(volume, node_id)
        await self.disks.forget(volume.volume_id)

    async def _why_it_stays(self, volume: Volume, node_id: str) -> VolplugError:
        seen = await self._volumes.by_id(volume.volume_id)
        waited = f"{self._limits.detach_s:.0f} s"
        if seen and seen.state is VolumeState.DETACHING and seen.holder == node_id:
            more = f" after {waited} ({seen.status}): something on this host uses it"
            return self._still_detaching(volume, node_id, more)
        return HostError(
            f"the disk of {volume.volume_id} is still there {waited} after its detach, which EC2 calls "
            f"{seen.status if seen else 'unknown'}",
            "Restart this instance if it stays",
        )

    # From any instance

    async def request_detach(self, volume: Volume, node_id: str, **more: Any) -> None:  # noqa: ANN401  # as `Caller` has it
        """Send DetachVolume for one instance; a volume that the instance does not have is left as it is.

        Args:
            volume: The volume.
            node_id: The instance.
            more: For the call: `Force`, `within_s`.

        Raises:
            VolumeNotFound: If the volume does not exist.
        """
        try:
            await self._caller.call("DetachVolume", VolumeId=volume.volume_id, InstanceId=node_id, **more)
        except Ec2Refused as refused:
            if refused.code not in _GONE_ALREADY:
                raise translated(refused) from refused
