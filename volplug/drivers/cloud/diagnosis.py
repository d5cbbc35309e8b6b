"""Diagnosis of a backend in a cloud: access, this host's clock, permissions, volumes that need an operator.

Reads only. Each call is bounded by the time budget of `RetryingCaller`, and what depends on an earlier check
that has failed is not tried.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from volplug.drivers.base import Holder, failed_check
from volplug.drivers.cloud.identity import CloudNode
from volplug.drivers.cloud.service_clock import ServiceClock
from volplug.drivers.cloud.timeouts import CLOCK_DOUBTED_S
from volplug.drivers.cloud.volumes import CloudVolume, CloudVolumes
from volplug.errors import BackendDenied, VolplugError
from volplug.findings import Finding, Level
from volplug.models import FilesystemPhase, HolderState, VolumeState

_SeenT = TypeVar("_SeenT", bound=CloudVolume)
_NodeT = TypeVar("_NodeT", bound=CloudNode)


@dataclass(frozen=True, slots=True)
class Examined(Generic[_NodeT]):
    """What a diagnosis asks for this host.

    Attributes:
        backend: The backend's name.
        identify: Identifies this host.
        holder_state: Asks the cloud for the state of a node.
    """

    backend: str
    identify: Callable[[], Awaitable[_NodeT]]
    holder_state: Callable[[str], Awaitable[Holder]]


class CloudDiagnosis(ABC, Generic[_SeenT, _NodeT]):
    """Diagnoses a backend.

    Args:
        volumes: The cluster's volumes.
        clock: The clock of the cloud.
        longest_s: How long each transition may last, in seconds.
    """

    _CLOUD: ClassVar[str]
    _CLOCK_REFUSED_S: ClassVar[float | None] = None  # from when on the cloud refuses calls; None for never
    _SHOW_NODE: ClassVar[str]  # the command that shows a node

    def __init__(
        self, volumes: CloudVolumes[_SeenT], clock: ServiceClock, longest_s: Mapping[VolumeState, float]
    ) -> None:
        self._volumes = volumes
        self._clock = clock
        self._longest_s = longest_s

    async def diagnose(self, examined: Examined[_NodeT]) -> Sequence[Finding]:
        """See `Diagnoses.diagnose`."""
        backend = examined.backend
        found = list(await self._of_metadata(backend))
        check = "credentials"
        try:
            account = await self._account()
            check = "identity"
            node = await examined.identify()
            check = "volumes"
            seen = await self._read_volumes()
            found.append(_green("credentials", backend, account))
        except VolplugError as error:
            is_refused = isinstance(error, BackendDenied) and not error.permission
            found.append(failed_check("credentials" if is_refused else check, backend, error))
        else:
            found.append(self._judge_node(backend, node, await examined.holder_state(node.node_id)))
            found += await self._permissions(backend, node, seen or [])
            if seen is not None:
                found += self._of_volumes(backend, seen)
        return [*found, self._judge_clock(backend)]

    async def _read_volumes(self) -> list[_SeenT] | None:
        """Read all volumes of the cluster; None if that is not permitted, which `_permissions` reports."""
        try:
            return await self._volumes.all()
        except BackendDenied as error:
            if not error.permission:
                raise
            return None

    @abstractmethod
    async def _of_metadata(self, backend: str) -> Sequence[Finding]:
        """Check where this host reads who it is."""

    @abstractmethod
    async def _account(self) -> str:
        """Return who calls the cloud, as a sentence; may only read the credentials.

        Raises:
            VolplugError: If there are no credentials, or they are not accepted.
        """

    @abstractmethod
    async def _permissions(self, backend: str, node: _NodeT, seen: Sequence[_SeenT]) -> Sequence[Finding]:
        """Check what the credentials permit, and what else only this cloud has."""

    @abstractmethod
    def _repair(self, seen: _SeenT) -> str:
        """Return what ends a transition that is stuck, with the command."""

    @abstractmethod
    def _duplicates(self, found: Sequence[_SeenT]) -> tuple[Level, str]:
        """Judge volumes of one name; return what to do as well."""

    @abstractmethod
    def _of_error(self, seen: _SeenT) -> tuple[Level, str, str]:
        """Judge a volume in state ERROR; return the cause and what to do as well."""

    # This host

    def _judge_node(self, backend: str, node: _NodeT, holder: Holder) -> Finding:
        where = f"{node.node_id}{f' in {node.zone}' if node.zone else ''}"
        if holder.state is HolderState.ALIVE:
            return _green("identity", backend, f"this host is {where}: {holder.evidence}")
        show = self._SHOW_NODE.format(node.node_id)
        if holder.state is HolderState.DEAD:
            cause = f"this host takes itself for {where}, which does not run: {holder.evidence}"
            return Finding("identity", Level.RED, backend, cause, f"Check which it is: {show}")
        level = Level.YELLOW if holder.is_answered else Level.RED
        return Finding("identity", level, backend, f"{where}: {holder.evidence}", f"See {show}")

    def _judge_clock(self, backend: str) -> Finding:
        ahead_s = self._clock.ahead_s
        if ahead_s is None:
            cause = f"this host's clock was not compared: {self._CLOUD} answered nothing with a date"
            return Finding("clock-skew", Level.YELLOW, backend, cause, "Check it: timedatectl")
        if abs(ahead_s) < CLOCK_DOUBTED_S:
            return _green("clock-skew", backend, f"this host's clock agrees with that of {self._CLOUD}")
        limit_s = self._CLOCK_REFUSED_S
        cause = f"this host's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'}"
        cause += f" that of {self._CLOUD}"
        cause += f", which refuses calls from {limit_s:.0f} s on" if limit_s is not None else ""
        level = Level.YELLOW if limit_s is None or abs(ahead_s) < limit_s else Level.RED
        return Finding("clock-skew", level, backend, cause, "Synchronise it: timedatectl set-ntp true")

    # Volumes

    def _of_volumes(self, backend: str, seen: Sequence[_SeenT]) -> list[Finding]:
        """Judge the cluster's volumes by one list of them. Pure."""
        by_name: defaultdict[str, list[_SeenT]] = defaultdict(list)
        for each in (each for each in seen if each.state is not VolumeState.DELETING):
            by_name[each.volume.name].append(each)
        checks = {
            "transitions": (
                "no volume is stuck in a transition",
                [finding for each in seen if (finding := self._transition(each))],
            ),
            "duplicates": (
                "no two volumes have one name",
                [self._duplicate(name, named) for name, named in by_name.items() if len(named) > 1],
            ),
            "volume-errors": (
                "no volume is in state error",
                [self._error(each) for each in seen if each.state is VolumeState.ERROR],
            ),
        }
        among = f" among the {len(seen)} of cluster {self._volumes.cluster!r}"
        return [
            finding
            for check, (well, found) in checks.items()
            for finding in found or [_green(check, backend, f"{well}{among}")]
        ]

    def _transition(self, seen: _SeenT) -> Finding | None:
        limit_s = self._longest_s.get(seen.state)
        if limit_s is None:
            return None
        what = f"{seen.volume_id} is {seen.status}{f' at {seen.holder}' if seen.holder else ''}"
        repair, name = self._repair(seen), seen.volume.name
        if seen.since is None:
            cause = f"{what}; {self._CLOUD} does not tell for how long"
            remedy = f"If it is still so in {limit_s:.0f} s: {repair}"
            return Finding("transitions", Level.YELLOW, name, cause, remedy)
        age_s = (self._clock.now() - seen.since).total_seconds()
        if age_s <= limit_s:
            return None
        return Finding("transitions", Level.RED, name, f"{what}, for {age_s:.0f} s", repair)

    def _duplicate(self, name: str, found: Sequence[_SeenT]) -> Finding:
        level, remedy = self._duplicates(found)
        cause = f"{len(found)} volumes carry this name: {', '.join(map(_described, found))}"
        return Finding("duplicates", level, name, cause, remedy)

    def _error(self, seen: _SeenT) -> Finding:
        level, cause, remedy = self._of_error(seen)
        return Finding("volume-errors", level, seen.volume.name, f"{seen.volume_id}: {cause}", remedy)


def _green(check: str, subject: str, message: str) -> Finding:
    return Finding(check, Level.GREEN, subject, message)


def was_formatted(seen: CloudVolume) -> bool:
    """Tell whether a volume may have data, as far as its tags show."""
    return seen.volume.filesystem.phase is not FilesystemPhase.PENDING


def _described(seen: CloudVolume) -> str:
    """Return an id with what helps to choose between two volumes."""
    facts = [seen.status, "formatted" if was_formatted(seen) else "never formatted"]
    if seen.volume.created_at is not None:
        facts.append(f"of {seen.volume.created_at:%Y-%m-%d %H:%M}")
    return f"{seen.volume_id} ({', '.join(facts)})"
