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

from volplug.drivers.cloud.polling import first_result
from volplug.drivers.cloud.tags import CLUSTER, NAME
from volplug.drivers.cloud.timeouts import PAGE
from volplug.drivers.cloud.volumes import CloudVolume, CloudVolumes, described, details_of, duplicate_volumes
from volplug.drivers.ebs import timeouts
from volplug.drivers.ebs.tags import as_mapping
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.models import Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB

# EC2 cannot undo a deletion, so a volume that is being deleted counts as gone.
_EXISTING: Final = ("creating", "available", "in-use", "error")
_TRANSITIONS: Final = frozenset({VolumeState.CREATING, VolumeState.DETACHING})

# What is shown besides, by EC2's names.
DETAILS: Final = {
    "VolumeType": "type",
    "Iops": "iops",
    "Throughput": "throughput",
    "Encrypted": "encrypted",
    "KmsKeyId": "kmsKey",
    "AvailabilityZone": "zone",
}

Description = Mapping[str, Any]


class Caller(Protocol):
    """Calls EC2; see `volplug.drivers.ebs.ec2.Ec2`."""

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        """Make one call and return EC2's response."""
        ...


@dataclass(frozen=True, slots=True)
class Ec2Volume(CloudVolume):
    """A volume as EC2 describes it.

    Attributes:
        device: The name that it is attached under, or "".
        attach_time: When it was attached, or ""; each attachment has another one.
        ec2_state: The state of its attachment if it has one, else its own, as EC2 names it.
    """

    device: str = ""
    attach_time: str = ""
    ec2_state: str = ""

    @property
    def is_transitional(self) -> bool:
        """Tell whether it is being created or detached; every other change has to wait for that."""
        return self.state in _TRANSITIONS


def read_volume(description: Description, backend: str) -> Ec2Volume:
    """Parse an item of a DescribeVolumes response, or the response of CreateVolume.

    A volume whose tags are malformed or fail a check is in state ERROR, with the reason: it must not break
    the list of all others.

    Args:
        description: EC2's item.
        backend: Name of the configured backend.
    """
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
        ec2_state=str(attachment.get("State", "") or description.get("State", "")),
    )


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
        super().__init__(cluster, limits, clock, timeouts.FILTER_VALUES)
        self._caller = caller
        self._backend = backend

    def read(self, description: Description) -> Ec2Volume:
        """Parse the description of a volume of the cluster, and remember that it is one."""
        return self._note(read_volume(description, self._backend))

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

    async def by_id(self, volume_id: str) -> Ec2Volume | None:
        """See `CloudVolumes.by_id`."""
        return (await self.by_ids([volume_id])).get(volume_id)

    async def wait_settled(
        self, volume_id: str, timeout_s: float, absent_reads: int = timeouts.AGREEING_READS
    ) -> Ec2Volume | None:
        """Wait until a volume is in no transition; return None after the timeout.

        Args:
            volume_id: The volume.
            timeout_s: How long to wait at most, in seconds.
            absent_reads: How many consecutive reads have to miss it until it counts as deleted.
        """
        gone = Ec2Volume(Volume("", volume_id, "", 0, VolumeState.DELETING, VolumeSpec("", 0)))

        def settled(seen: Ec2Volume | None) -> Ec2Volume | None:
            return None if seen is None or seen.is_transitional else seen

        def absent(seen: Ec2Volume | None) -> Ec2Volume | None:
            return gone if seen is None else None

        return await first_result(
            self.poll.until(volume_id, settled, timeout_s),
            self.poll.until(volume_id, absent, timeout_s, agree=absent_reads),
        )

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

    def _existing(self, shown: Collection[Description]) -> list[Ec2Volume]:
        return self._without_deleted([self.read(each) for each in shown if self._is_ours(each)])

    def _is_ours(self, description: Description) -> bool:
        """Check the tag again: a filter takes `*` and `?` specially, and some backends ignore filters."""
        return as_mapping(description).get(CLUSTER) == self.cluster

    async def _describe(self, *filters: Mapping[str, Any]) -> list[Description]:
        """Read all pages; any page may be empty."""
        found: list[Description] = []
        parameters: dict[str, Any] = {
            "Filters": [_filter(f"tag:{CLUSTER}", [self.cluster]), *filters],
            "MaxResults": PAGE,
        }
        while True:
            answer = await self._caller.call("DescribeVolumes", **parameters)
            found += answer.get("Volumes", ())
            if not answer.get("NextToken"):
                return found
            parameters["NextToken"] = answer["NextToken"]


def _filter(name: str, values: Sequence[str]) -> dict[str, Any]:
    return {"Name": name, "Values": [re.sub(r"([*?\\])", r"\\\1", value) for value in values]}
