"""Reads volumes from EC2: parses descriptions, and looks volumes up by name, by id, or all of a cluster.

Look-ups stay within the cluster and are filtered by EC2. Reads may be stale; creations and deletions of this
process within the last minute take precedence (`OwnWrites`), everything else is reported as read.
https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from volplug.drivers.cloud.tags import CLUSTER, NAME
from volplug.drivers.cloud.timeouts import PAGE
from volplug.drivers.cloud.volumes import (
    CloudVolume,
    CloudVolumes,
    Description,
    described,
    details_of,
    duplicate_volumes,
)
from volplug.drivers.ebs import timeouts
from volplug.drivers.ebs.errors import Ec2Refused, translated
from volplug.drivers.ebs.tags import as_list, as_mapping
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.models import Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB

# EC2 cannot undo a deletion, so a volume that is being deleted counts as gone.
_EXISTING: Final = ("creating", "available", "in-use", "error")

# What is shown besides, by EC2's names.
DETAILS: Final = {
    "VolumeType": "type",
    "Iops": "iops",
    "Throughput": "throughput",
    "Encrypted": "encrypted",
    "KmsKeyId": "kmsKey",
    "AvailabilityZone": "zone",
}


class Caller(Protocol):
    """Calls EC2; see `volplug.drivers.ebs.ec2.Ec2`."""

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        """Make one call and return EC2's response."""
        ...


@dataclass(frozen=True, slots=True)
class Ec2Volume(CloudVolume):
    """A volume as EC2 describes it.

    Attributes:
        zone: Its availability zone.
        device: The name that it is attached under, or "".
        attach_time: When it was attached, or ""; each attachment has another one.
    """

    zone: str = ""
    device: str = ""
    attach_time: str = ""


def read_volume(description: Description, backend: str) -> Ec2Volume:
    """Parse an item of a DescribeVolumes response, or the response of CreateVolume."""
    tags = as_mapping(description)
    attachments = [one for one in description.get("Attachments", ()) if one.get("State") != "detached"]
    attachment = attachments[0] if attachments else {}
    state, detail = _state(description, attachments)
    created = description.get("CreateTime")
    size_bytes = int(description.get("Size", 0)) * GIB
    volume = Volume(
        name="",
        volume_id=str(description["VolumeId"]),
        backend=backend,
        size_bytes=size_bytes,
        state=state,
        spec=VolumeSpec("", size_bytes),
        created_at=created if isinstance(created, datetime) else None,
        holder=str(attachment.get("InstanceId", "")) or None,
        detail=detail,
        details=details_of(description, DETAILS),
    )
    return Ec2Volume(
        described(volume, tags, "tag"),
        zone=str(description.get("AvailabilityZone", "")),
        device=str(attachment.get("Device", "")),
        attach_time=str(attachment.get("AttachTime", "")),
        status=str(attachment.get("State", "") or description.get("State", "")),
        since=_since(state, description, attachment),
    )


def _since(state: VolumeState, description: Description, attachment: Description) -> datetime | None:
    """Return when a transition began; of a detach, EC2 does not tell."""
    began = {
        VolumeState.CREATING: description.get("CreateTime"),
        VolumeState.ATTACHING: attachment.get("AttachTime"),
    }
    found = began.get(state)
    return found if isinstance(found, datetime) else None


def _state(description: Description, attachments: Sequence[Description]) -> tuple[VolumeState, str]:
    """Return the state, and the reason for an error.

    The attachment takes precedence over the volume's own state, which EC2 may change earlier or later.
    """
    state = str(description.get("State", ""))
    if len(attachments) > 1 or description.get("MultiAttachEnabled"):
        return (
            VolumeState.ERROR,
            "the volume can be attached to several instances at once, which is not supported",
        )
    if state in {"deleting", "deleted"}:
        return VolumeState.DELETING, ""
    if state == "error":
        return VolumeState.ERROR, creation_failed("EC2 could not create the volume", description)
    if attachments:
        return _ATTACHED.get(str(attachments[0].get("State", "")), VolumeState.IN_USE), ""
    if state in _DETACHED:
        return _DETACHED[state], ""
    return VolumeState.ERROR, f"EC2 calls the volume's state {state!r}"


_ATTACHED: Final = {
    "attaching": VolumeState.ATTACHING,
    "busy": VolumeState.DETACHING,  # the instance still uses it
    "detaching": VolumeState.DETACHING,
}
_DETACHED: Final = {
    "available": VolumeState.AVAILABLE,
    "creating": VolumeState.CREATING,
    "in-use": VolumeState.DETACHING,  # its attachment has ended a moment earlier
}


def creation_failed(cause: str, about: Mapping[str, Any]) -> str:
    """Return why a creation failed, with a hint at the key: EC2 does not report that it may not use one.

    Args:
        cause: The cause without the hint.
        about: Has the volume's `KmsKeyId`, if any.
    """
    key = about.get("KmsKeyId")
    return f"{cause}, most often because it may not use the KMS key {key}" if key else cause


def the_one(found: Sequence[Ec2Volume]) -> Volume | None:
    """Return the volume of a name, or None.

    Raises:
        DuplicateVolumes: If several have the name.
    """
    if len(found) > 1:
        raise duplicate_volumes(found, "tag")
    return found[0].volume if found else None


class ClusterVolumes(CloudVolumes[Ec2Volume]):
    """The volumes of one cluster in EC2."""

    def __init__(
        self, caller: Caller, cluster: str, backend: str, limits: Ec2Timeouts, clock: Callable[[], float]
    ) -> None:
        super().__init__(cluster, limits, clock, timeouts.FILTER_VALUES, Ec2Volume)
        self._caller = caller
        self._backend = backend

    def _parse(self, description: Description) -> Ec2Volume:
        return read_volume(description, self._backend)

    def _tags_in(self, description: Description) -> Mapping[str, str]:
        return as_mapping(description)

    async def all(self) -> list[Ec2Volume]:
        """Return all volumes of the cluster."""
        return await self._with_missing(self._existing(await self._describe(_filter("status", _EXISTING))))

    async def by_ids(self, volume_ids: Collection[str]) -> dict[str, Ec2Volume]:
        """See `CloudVolumes.by_ids`."""
        wanted = sorted(volume_ids)
        found: dict[str, Ec2Volume] = {}
        for at in range(0, len(wanted), timeouts.FILTER_VALUES):
            part = wanted[at : at + timeouts.FILTER_VALUES]
            shown = await self._describe(_filter("volume-id", part))
            found |= {str(each["VolumeId"]): self.read(each) for each in shown if self._is_ours(each)}
        return found

    async def write_tags(self, volume_id: str, tags: Mapping[str, str]) -> None:
        """See `CloudVolumes.write_tags`."""
        try:
            await self._caller.call("CreateTags", Resources=[volume_id], Tags=as_list(tags))
        except Ec2Refused as refused:
            raise translated(refused) from refused

    async def _named(self, names: Collection[str]) -> list[Ec2Volume]:
        shown = await self._describe(_filter("status", _EXISTING), _filter(f"tag:{NAME}", list(names)))
        return await self._with_missing(self._existing(shown), names)

    async def _with_missing(
        self, found: list[Ec2Volume], names: Collection[str] | None = None
    ) -> list[Ec2Volume]:
        """Add volumes of this process that a read misses: it is stale, or another party deleted them."""
        created = self.own.missing({each.volume.volume_id for each in found})
        missing = [each for each in created if names is None or each.name in names]
        if not missing:
            return found
        shown = await self.by_ids([each.volume_id for each in missing])
        for volume in missing:
            seen = shown.get(volume.volume_id) or Ec2Volume(volume)
            if seen.state is VolumeState.DELETING:
                self.deleted(volume.volume_id)
            else:
                found.append(seen)
        return found

    async def _describe(self, *filters: Mapping[str, Any]) -> list[Description]:
        """Read all pages; any page may be empty."""
        found: list[Description] = []
        parameters: dict[str, Any] = {
            "Filters": [_filter(f"tag:{CLUSTER}", [self.cluster]), *filters],
            "MaxResults": PAGE,
        }
        try:
            while True:
                answer = await self._caller.call("DescribeVolumes", **parameters)
                found += answer.get("Volumes", ())
                if not answer.get("NextToken"):
                    return found
                parameters["NextToken"] = answer["NextToken"]
        except Ec2Refused as refused:
            raise translated(refused) from refused


def _filter(name: str, values: Sequence[str]) -> dict[str, Any]:
    return {"Name": name, "Values": [re.sub(r"([*?\\])", r"\\\1", value) for value in values]}
