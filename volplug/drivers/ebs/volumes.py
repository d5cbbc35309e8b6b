"""Reads volumes from EC2: parses descriptions, and looks volumes up by name, by id, or all of a cluster.

Look-ups stay within the cluster and are filtered by EC2. Reads may be stale; creations and deletions of this
process within the last minute take precedence (`OwnWrites`), everything else is reported as read.
https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol

from cachetools import LRUCache, TTLCache

from volplug.descriptions import DEFAULT_SUBPATH, checked, unusable
from volplug.drivers.cloud.batching import Batcher
from volplug.drivers.cloud.own_writes import OwnWrites
from volplug.drivers.cloud.polling import SharedPoll, first_result
from volplug.drivers.cloud.tags import (
    CLUSTER,
    NAME,
    SUBPATH,
    read_filesystem,
    read_spec,
    sources_of,
)
from volplug.drivers.ebs import timeouts
from volplug.drivers.ebs.tags import as_mapping
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.errors import DuplicateVolumes, UnexpectedState
from volplug.models import Detail, Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB

_SOURCES: Final = sources_of("tag")
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
class Ec2Volume:
    """A volume as EC2 describes it.

    Attributes:
        volume: The description that every driver returns.
        zone: Its availability zone.
        device: The name that it is attached under, or "".
        attach_time: When it was attached, or ""; each attachment has another one.
        ec2_state: The state of its attachment if it has one, else its own, as EC2 names it.
    """

    volume: Volume
    zone: str = ""
    device: str = ""
    attach_time: str = ""
    ec2_state: str = ""

    @property
    def state(self) -> VolumeState:
        """Return the volume's state."""
        return self.volume.state

    @property
    def holder(self) -> str:
        """Return the instance that it is attached to, or ""."""
        return self.volume.holder or ""

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
    size_bytes = int(description.get("Size", 0)) * GIB
    created = description.get("CreateTime")
    volume = Volume(
        name=tags.get(NAME, ""),
        volume_id=str(description["VolumeId"]),
        backend=backend,
        size_bytes=size_bytes,
        state=state,
        spec=VolumeSpec(tags.get(NAME, ""), size_bytes),
        subpath=tags.get(SUBPATH, DEFAULT_SUBPATH),
        created_at=created if isinstance(created, datetime) else None,
        holder=str(attachment.get("InstanceId", "")) or None,
        detail=detail,
        details=_details(description),
    )
    return Ec2Volume(
        _with_tags(volume, tags),
        zone=str(description.get("AvailabilityZone", "")),
        device=str(attachment.get("Device", "")),
        attach_time=str(attachment.get("AttachTime", "")),
        ec2_state=str(attachment.get("State", "") or description.get("State", "")),
    )


def _details(description: Description) -> tuple[tuple[str, Detail], ...]:
    found = ((key, description.get(name)) for name, key in DETAILS.items())
    return tuple((key, value) for key, value in found if isinstance(value, Detail) and value != "")


def _with_tags(volume: Volume, tags: Mapping[str, str]) -> Volume:
    try:
        volume = replace(volume, spec=read_spec(volume.name, tags), filesystem=read_filesystem(tags))
    except UnexpectedState as error:
        return unusable(volume, error.cause)
    return checked(volume, _SOURCES.__getitem__)


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
        ids = tuple(sorted(each.volume.volume_id for each in found))
        raise DuplicateVolumes(
            f"{len(ids)} volumes carry this name: {', '.join(ids)}",
            "Nothing was changed; change the tag volplug:name of one",
            volume_ids=ids,
        )
    return found[0].volume if found else None


class ClusterVolumes:
    """The volumes of one cluster.

    Attributes:
        cluster: The cluster's name.
        own: The volumes that this process created and deleted.
        poll: The poll that all waits for volumes' states share.
    """

    def __init__(
        self, caller: Caller, cluster: str, backend: str, limits: Ec2Timeouts, clock: Callable[[], float]
    ) -> None:
        self._caller = caller
        self.cluster = cluster
        self._backend = backend
        self.own = OwnWrites(clock, timeouts.STALE_S)
        self._known: LRUCache[str, bool] = LRUCache(timeouts.VOLUMES_KNOWN)
        self._absent: TTLCache[str, bool] = TTLCache(timeouts.VOLUMES_KNOWN, timeouts.ABSENT_S, clock)
        self._names = Batcher(self._by_names, timeouts.COLLECT_S, timeouts.FILTER_VALUES)
        self.poll = SharedPoll(self.by_ids, limits.poll_first_s, limits.poll_longest_s)

    def read(self, description: Description) -> Ec2Volume:
        """Parse the description of a volume of the cluster, and remember that it is one."""
        found = read_volume(description, self._backend)
        self._known[found.volume.volume_id] = True
        self._absent.pop(found.volume.name, None)
        return found

    def is_known(self, volume_id: str) -> bool:
        """Tell whether the volume is known to be one of the cluster."""
        return volume_id in self._known or self.own.is_created(volume_id)

    def deleted(self, volume_id: str) -> None:
        """Note that a volume is gone."""
        self._known.pop(volume_id, None)
        self.own.deleted(volume_id)

    def was_absent(self, name: str) -> bool:
        """Tell, once, whether a recent look-up found no volume of this name."""
        return self._absent.pop(name, False)

    async def by_name(self, name: str) -> list[Ec2Volume]:
        """Return all volumes of a name, read after this call began; concurrent look-ups are one call.

        Raises:
            BackendUnavailable: If EC2 does not answer.
        """
        return await self._names.ask(name)

    async def all(self) -> list[Volume]:
        """Return all volumes.

        Raises:
            BackendUnavailable: If EC2 does not answer.
        """
        found = self._existing(await self._describe(_filter("status", _EXISTING)))
        return [each.volume for each in await self._with_missing(found)]

    async def by_ids(self, volume_ids: Collection[str]) -> dict[str, Ec2Volume]:
        """Return volumes by id, in any state; those that EC2 does not show are missing."""
        wanted = sorted(volume_ids)
        found: dict[str, Ec2Volume] = {}
        for at in range(0, len(wanted), timeouts.FILTER_VALUES):
            part = wanted[at : at + timeouts.FILTER_VALUES]
            shown = await self._describe(_filter("volume-id", part))
            found |= {str(each["VolumeId"]): self.read(each) for each in shown if self._is_ours(each)}
        return found

    async def by_id(self, volume_id: str) -> Ec2Volume | None:
        """Return a volume by id, in any state, or None if EC2 shows none in this cluster."""
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

    async def _by_names(self, names: Collection[str]) -> dict[str, list[Ec2Volume]]:
        shown = await self._describe(_filter("status", _EXISTING), _filter(f"tag:{NAME}", list(names)))
        found = await self._with_missing(self._existing(shown), names)
        by_name: dict[str, list[Ec2Volume]] = {name: [] for name in names}
        for each in found:
            if each.volume.name in by_name:
                by_name[each.volume.name].append(each)
        for name in (name for name, volumes in by_name.items() if not volumes):
            self._absent[name] = True
        return by_name

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
        volumes = [self.read(each) for each in shown if self._is_ours(each)]
        return [each for each in volumes if not self.own.is_deleted(each.volume.volume_id)]

    def _is_ours(self, description: Description) -> bool:
        """Check the tag again: a filter takes `*` and `?` specially, and some backends ignore filters."""
        return as_mapping(description).get(CLUSTER) == self.cluster

    async def _describe(self, *filters: Mapping[str, Any]) -> list[Description]:
        """Read all pages; any page may be empty."""
        found: list[Description] = []
        parameters: dict[str, Any] = {
            "Filters": [_filter(f"tag:{CLUSTER}", [self.cluster]), *filters],
            "MaxResults": timeouts.PAGE,
        }
        while True:
            answer = await self._caller.call("DescribeVolumes", **parameters)
            found += answer.get("Volumes", ())
            if not answer.get("NextToken"):
                return found
            parameters["NextToken"] = answer["NextToken"]


def _filter(name: str, values: Sequence[str]) -> dict[str, Any]:
    return {"Name": name, "Values": [re.sub(r"([*?\\])", r"\\\1", value) for value in values]}
