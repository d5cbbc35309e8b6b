"""Volumes of a cluster in a cloud: what their tags describe, and look-ups by name, which are combined.

Reads may be stale; what this process has changed takes precedence (`OwnWrites`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from cachetools import LRUCache, TTLCache

from volplug.descriptions import DEFAULT_SUBPATH, checked, unusable
from volplug.drivers.cloud import timeouts
from volplug.drivers.cloud.batching import Batcher
from volplug.drivers.cloud.polling import SharedPoll
from volplug.drivers.cloud.tags import CLUSTER, NAME, SUBPATH, read_filesystem, read_spec, sources_of
from volplug.drivers.cloud.timeouts import CloudTimeouts
from volplug.errors import DuplicateVolumes, UnexpectedState, VolumeNotFound
from volplug.models import Detail, Volume, VolumeSpec, VolumeState


@dataclass(frozen=True, slots=True)
class CloudVolume:
    """A volume as its cloud describes it.

    Attributes:
        volume: The description that every driver returns.
        status: Its state, or that of its attachment, as the cloud names it.
        since: When its transition began, at the latest; None if it is in none, or the cloud does not tell.
    """

    volume: Volume
    status: str = ""
    since: datetime | None = None

    @property
    def volume_id(self) -> str:
        """Return the cloud's id of the volume."""
        return self.volume.volume_id

    @property
    def state(self) -> VolumeState:
        """Return the volume's state."""
        return self.volume.state

    @property
    def holder(self) -> str:
        """Return the node that it is attached to, or ""."""
        return self.volume.holder or ""

    @property
    def is_transitional(self) -> bool:
        """Tell whether it is being created or detached; every other change has to wait for that."""
        return self.state in (VolumeState.CREATING, VolumeState.DETACHING)


def described(volume: Volume, tags: Mapping[str, str], kind: str) -> Volume:
    """Return a volume as its tags describe it; in state ERROR, with the reason, if they cannot be used.

    Tags that are malformed or fail a check must not break the list of all other volumes.

    Args:
        volume: What the cloud itself knows of it.
        tags: As read.
        kind: The cloud's word for a tag.
    """
    name = tags.get(NAME, "")
    volume = replace(
        volume,
        name=name,
        spec=VolumeSpec(name, volume.size_bytes),
        subpath=tags.get(SUBPATH, DEFAULT_SUBPATH),
    )
    try:
        volume = replace(volume, spec=read_spec(name, tags), filesystem=read_filesystem(tags))
    except UnexpectedState as error:
        return unusable(volume, error.cause)
    return checked(volume, sources_of(kind).__getitem__)


def details_of(description: Mapping[str, Any], names: Mapping[str, str]) -> tuple[tuple[str, Detail], ...]:
    """Return what is shown of a volume besides: some values of a description, by names of volplug."""
    found = ((key, description.get(name)) for name, key in names.items())
    return tuple((key, value) for key, value in found if isinstance(value, Detail) and value != "")


def no_volume(volume_id: str) -> VolumeNotFound:
    """Return the error for a volume that does not exist."""
    return VolumeNotFound(f"{volume_id} does not exist")


def duplicate_volumes(found: Sequence[CloudVolume], kind: str) -> DuplicateVolumes:
    """Return the error for several volumes of one name; the kind is the cloud's word for a tag."""
    ids = tuple(sorted(each.volume_id for each in found))
    return DuplicateVolumes(
        f"{len(ids)} volumes carry this name: {', '.join(ids)}",
        f"Nothing was changed; change the {kind} {NAME} of one",
        volume_ids=ids,
    )


class OwnWrites:
    """The volumes that this process created and deleted, kept as long as reads may be stale.

    They make existence exact, as `Driver.get` demands. Stale reads of other values are left to the core.

    Args:
        clock: Monotonic seconds.
        horizon_s: How long reads may be stale, in seconds.
    """

    def __init__(self, clock: Callable[[], float], horizon_s: float) -> None:
        self._created: TTLCache[str, Volume] = TTLCache(math.inf, horizon_s, clock)
        self._deleted: TTLCache[str, bool] = TTLCache(math.inf, horizon_s, clock)

    def created(self, volume: Volume) -> None:
        """Note a volume whose creation the cloud has confirmed, or its newer description."""
        self._created[volume.volume_id] = volume

    def deleted(self, volume_id: str) -> None:
        """Note a volume whose deletion the cloud has confirmed or reported."""
        self._created.pop(volume_id, None)
        self._deleted[volume_id] = True

    def is_created(self, volume_id: str) -> bool:
        """Tell whether this process created the volume recently, so that the cloud may not find it yet."""
        return volume_id in self._created

    def is_deleted(self, volume_id: str) -> bool:
        """Tell whether the volume is deleted, even if reads still show it."""
        return volume_id in self._deleted

    def missing(self, shown_ids: Collection[str]) -> list[Volume]:
        """Return the created volumes that a read misses."""
        return [volume for volume in self._created.values() if volume.volume_id not in shown_ids]


_SeenT = TypeVar("_SeenT", bound=CloudVolume)
Description = Mapping[str, Any]
"""A volume in a response of the cloud."""


class CloudVolumes(ABC, Generic[_SeenT]):
    """The volumes of one cluster.

    Attributes:
        cluster: The cluster's name.
        own: The volumes that this process created or deleted.
        poll: The poll that all waits for volumes' states share.

    Args:
        cluster: The cluster's name.
        limits: How often it polls.
        clock: Monotonic seconds.
        largest: The largest number of names in one look-up.
        gone: Makes a volume that the cloud does not show any more.
    """

    def __init__(
        self,
        cluster: str,
        limits: CloudTimeouts,
        clock: Callable[[], float],
        largest: int,
        gone: Callable[[Volume], _SeenT],
    ) -> None:
        self.cluster = cluster
        self.own = OwnWrites(clock, timeouts.STALE_S)
        self.poll = SharedPoll(self.by_ids, limits.poll_first_s, limits.poll_longest_s)
        self._limits = limits
        self._gone = gone
        self._known: LRUCache[str, bool] = LRUCache(timeouts.VOLUMES_KNOWN)
        self._absent: TTLCache[str, bool] = TTLCache(timeouts.VOLUMES_KNOWN, timeouts.ABSENT_S, clock)
        self._names = Batcher(self._by_names, timeouts.COLLECT_S, largest)

    @abstractmethod
    def _parse(self, description: Description) -> _SeenT:
        """Parse a description."""

    @abstractmethod
    def _tags_in(self, description: Description) -> Mapping[str, str]:
        """Return the tags in a description."""

    @abstractmethod
    async def all(self) -> list[_SeenT]:
        """Return all volumes of the cluster.

        Raises:
            BackendUnavailable: If the cloud does not answer.
        """

    @abstractmethod
    async def by_ids(self, volume_ids: Collection[str]) -> dict[str, _SeenT]:
        """Return volumes by id, in any state; those that the cloud does not show are missing."""

    @abstractmethod
    async def _named(self, names: Collection[str]) -> list[_SeenT]:
        """Return the volumes of some names, perhaps among others."""

    @abstractmethod
    async def write_tags(self, volume_id: str, tags: Mapping[str, str]) -> None:
        """Write tags of a volume, in one call; what else it has stays.

        Raises:
            VolumeNotFound: If it does not exist.
            BackendUnavailable: If the cloud does not confirm it.
        """

    def read(self, description: Description) -> _SeenT:
        """Parse the description of a volume of the cluster, and remember that it is one."""
        seen = self._parse(description)
        self._known[seen.volume_id] = True
        self._absent.pop(seen.volume.name, None)
        return seen

    async def by_id(self, volume_id: str) -> _SeenT | None:
        """Return a volume by id, in any state, or None if the cloud shows none in this cluster."""
        return (await self.by_ids([volume_id])).get(volume_id)

    async def by_name(self, name: str) -> list[_SeenT]:
        """Return all volumes of a name, read after this call began; concurrent look-ups are combined.

        Raises:
            BackendUnavailable: If the cloud does not answer.
        """
        return await self._names.ask(name)

    async def is_ours(self, volume_id: str) -> bool:
        """Tell whether a volume is one of the cluster; the cloud is asked about an unknown one."""
        if self.own.is_deleted(volume_id):
            return False
        return self.is_known(volume_id) or await self.by_id(volume_id) is not None

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

    async def wait_settled(
        self, volume_id: str, timeout_s: float, absent_reads: int | None = None
    ) -> _SeenT | None:
        """Wait until a volume is in no transition; return None after the timeout.

        Args:
            volume_id: The volume.
            timeout_s: How long to wait at most, in seconds.
            absent_reads: How many consecutive reads have to miss it until it counts as deleted.
        """
        gone = self._gone(Volume("", volume_id, "", 0, VolumeState.DELETING, VolumeSpec("", 0)))

        reads_left = absent_reads = absent_reads or self._limits.absent_reads

        def settled(seen: _SeenT | None) -> _SeenT | None:
            nonlocal reads_left
            reads_left = absent_reads if seen is not None else reads_left - 1
            if seen is None:
                return None if reads_left else gone
            return None if seen.is_transitional else seen

        return await self.poll.until(volume_id, settled, timeout_s)

    def _existing(self, shown: Collection[Description]) -> list[_SeenT]:
        seen = [self.read(each) for each in shown if self._is_ours(each)]
        return [each for each in seen if not self.own.is_deleted(each.volume_id)]

    def _is_ours(self, description: Description) -> bool:
        """Check the cluster's tag again: filters are not exact, and some backends ignore them."""
        return self._tags_in(description).get(CLUSTER) == self.cluster

    async def _by_names(self, names: Collection[str]) -> dict[str, list[_SeenT]]:
        found = await self._named(names)
        by_name: dict[str, list[_SeenT]] = {name: [] for name in names}
        for each in found:
            by_name.get(each.volume.name, []).append(each)
        self._absent.update({name: True for name, volumes in by_name.items() if not volumes})
        return by_name
