"""Checks of volumes: what is not as desired, what fails, what is stuck, what was not used for long."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from volplug.doctor.examination import Examination
from volplug.doctor.state import load
from volplug.errors import VolplugError
from volplug.findings import Finding, Level
from volplug.models import Volume, VolumeState
from volplug.volumes.ledger import Desired, Entry

_CHECK: Final = "volumes"
_LONG: Final = timedelta(minutes=10)  # attaching, detaching or mkfs of a large volume takes minutes
_TRANSITIONS: Final = frozenset(
    {VolumeState.CREATING, VolumeState.ATTACHING, VolumeState.DETACHING, VolumeState.DELETING}
)
_RUNNING: Final = "running"
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class KnownVolume:
    """One volume as the volplug of this host knows it: the running one, or else its state file.

    Attributes:
        name: Docker's name.
        volume_id: The backend's name for it; empty where it is not known.
        backend: Name of the backend.
        state: Its state at the backend; None where only the state file can be asked.
        desired: What is still to be reached.
        is_claimed: Whether containers use it, or may use it.
        mount_count: Mounts that Docker asked this host for; None where that is not known.
        detail: Why its state is `error`.
        failure: Why the last operation on it failed; empty if it did not.
        remedy: What to do about that.
        image: Path of its image, for loop volumes.
        created_at: If that is known.
    """

    name: str
    volume_id: str
    backend: str
    state: VolumeState | None
    desired: Desired
    is_claimed: bool
    mount_count: int | None = None
    detail: str = ""
    failure: str = ""
    remedy: str = ""
    image: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunningWork:
    """An operation that runs: its kind and phase, and since when."""

    volume: str
    kind: str
    phase: str
    started_at: datetime


def known_volumes(examination: Examination) -> Sequence[KnownVolume]:
    """Return what volplug knows: all volumes if it runs, else those in its state file. Blocks.

    Raises:
        VolplugError: If neither can be read.
    """
    client = examination.client()
    if client is None:
        loaded = load(examination.settings.state_dir)
        return [of_entry(entry) for entry in loaded.entries] if loaded else []
    with closing(client):
        return [of_body(body) for body in client.pages("volumes")]


def of_entry(entry: Entry) -> KnownVolume:
    """Return what an entry of the state file tells. Pure."""
    record, failure = entry.record, entry.failure
    return KnownVolume(
        name=entry.name,
        volume_id=record.volume_id if record else "",
        backend=entry.backend,
        state=None,
        desired=entry.desired,
        is_claimed=entry.is_claimed,
        failure=f"{failure.operation}: {failure.cause}" if failure else "",
        remedy=failure.remedy if failure else "",
        image=str(dict(record.details).get("image", "")) if record else "",
        created_at=record.created_at if record else None,
    )


def of_body(body: Mapping[str, Any]) -> KnownVolume:
    """Return what the control API tells of a volume. Pure."""
    failure = body["failure"]
    created_at = body["created_at"]
    return KnownVolume(
        name=body["name"],
        volume_id=body["id"],
        backend=body["backend"],
        state=VolumeState(body["state"]),
        desired=Desired(body["desired"]),
        is_claimed=body["mount_count"] > 0 or body["holders_unknown"],
        mount_count=None if body["holders_unknown"] else int(body["mount_count"]),
        detail=body["detail"] or "",
        failure=f"{failure['operation']}: {failure['cause']}" if failure else "",
        remedy=failure["remedy"] if failure else "",
        image=str(body["details"].get("image", "")),
        created_at=datetime.fromisoformat(created_at) if created_at else None,
    )


async def all_volumes(examination: Examination) -> Sequence[KnownVolume]:
    """Return all volumes, also if volplug does not run; of a backend that does not answer, those remembered.

    Raises:
        VolplugError: If what volplug knows cannot be read.
    """
    known = await examination.blocking(known_volumes, examination)
    if examination.daemon is not None:
        return known
    found = {(volume.backend, volume.name): volume for volume in known}
    for driver in examination.drivers.values():
        with suppress(VolplugError):  # the check of the backend tells
            listed = await driver.list()
            found |= {
                (each.backend, each.name): _listed(each, found.get((each.backend, each.name)))
                for each in listed
            }
    return list(found.values())


# Not as they should be


async def check_volumes(examination: Examination) -> Sequence[Finding]:
    """Check that every volume is as desired, that none is in error, and that nothing on it fails."""
    known, running = await examination.blocking(_read, examination)
    is_running = examination.daemon is not None
    now = datetime.now(UTC)
    findings = [
        finding
        for volume in known
        if (finding := judge_volume(volume, running.get(volume.name), now, is_running=is_running))
    ]
    if findings:
        return findings
    return [Finding(_CHECK, Level.GREEN, "", f"{len(known)} known to volplug, each as desired")]


def _read(examination: Examination) -> tuple[Sequence[KnownVolume], Mapping[str, RunningWork]]:
    known = known_volumes(examination)
    client = examination.client()
    if client is None:
        return known, {}
    with closing(client):
        bodies = list(client.pages("operations", state=_RUNNING))
    return known, {
        body["volume"]: RunningWork(
            body["volume"], body["kind"], body["phase"], datetime.fromisoformat(body["started_at"])
        )
        for body in bodies
    }


def judge_volume(
    volume: KnownVolume, work: RunningWork | None, now: datetime, *, is_running: bool
) -> Finding | None:
    """Judge one volume; None if nothing is wrong with it. Pure.

    Args:
        volume: What is known of it.
        work: The operation that runs on it, if one does.
        now: The time.
        is_running: Whether volplug runs.
    """
    found = partial(Finding, _CHECK, subject=volume.name)
    if volume.state is VolumeState.ERROR:
        remedy = volume.remedy or "See docs/operations.md, Repair"
        return found(
            level=Level.RED, message=f"in error: {volume.detail or 'no reason given'}", remedy=remedy
        )
    if work is not None:
        age = now - work.started_at
        if age < _LONG:
            return None
        message = f"{work.kind} runs for {age.total_seconds() / 60:.0f} min, at {work.phase or 'its begin'}"
        remedy = f"See what it waits for: volplug events --filter volume={volume.name}"
        return found(level=Level.YELLOW, message=message, remedy=remedy)
    if volume.failure:
        remedy = volume.remedy or "volplug's log has more"
        return found(
            level=Level.YELLOW, message=f"the last operation failed, {volume.failure}", remedy=remedy
        )
    if volume.state in _TRANSITIONS:
        message = f"{volume.state} at backend {volume.backend}, and no operation of this host works on it"
        remedy = "If that stays, the findings on the backend have the command that repairs it"
        return found(level=Level.YELLOW, message=message, remedy=remedy)
    is_used = volume.desired is Desired.MOUNTED and volume.is_claimed
    if volume.desired is Desired.NONE or is_used:
        return None
    if not is_running:
        message = f"is to be {volume.desired}, which the next start of volplug brings about"
        return found(level=Level.YELLOW, message=message, remedy="Start volplug")
    message = f"is to be {volume.desired}, and nothing works on it at the moment"
    remedy = f"It is retried; to try at once: volplug volume release {volume.name}"
    return found(level=Level.YELLOW, message=message, remedy=remedy)


# Not used for long


async def check_unused(examination: Examination) -> Sequence[Finding]:
    """List volumes that were not used for some days, if that is asked for; nothing is deleted by it."""
    if examination.unused_days is None:
        return []
    known = await all_volumes(examination)
    used_s = await examination.quickly("the disk of loop volumes", _last_uses, known)
    return judge_unused(known, used_s, examination.unused_days, time.time())


def _listed(volume: Volume, known: KnownVolume | None) -> KnownVolume:
    return KnownVolume(
        name=volume.name,
        volume_id=volume.volume_id,
        backend=volume.backend,
        state=volume.state,
        desired=known.desired if known else Desired.NONE,
        is_claimed=known.is_claimed if known else False,
        image=str(dict(volume.details).get("image", "")),
        created_at=volume.created_at,
    )


def _last_uses(volumes: Sequence[KnownVolume]) -> Mapping[str, float]:
    """Return when images were written last, which each mount does: seconds since the epoch, by volume."""
    found = {}
    for volume in volumes:
        try:
            found[volume.name] = os.stat(volume.image).st_mtime if volume.image else None
        except OSError:
            continue
    return {name: when for name, when in found.items() if when is not None}


def judge_unused(
    volumes: Sequence[KnownVolume], used_s: Mapping[str, float], days: float, now_s: float
) -> Sequence[Finding]:
    """Judge how long volumes were not used; one that is attached anywhere is in use. Pure."""
    return [*_unused(volumes, used_s, days, now_s), *_unknown(volumes, used_s, days, now_s)] or [
        Finding("unused", Level.GREEN, "", f"every volume was used within {days:g} days")
    ]


def _unused(
    volumes: Sequence[KnownVolume], used_s: Mapping[str, float], days: float, now_s: float
) -> Iterator[Finding]:
    for volume in volumes:
        age_days = (now_s - used_s.get(volume.name, now_s)) / _DAY_S
        if volume.state is VolumeState.AVAILABLE and not volume.is_claimed and age_days >= days:
            remedy = f"If no host needs it: docker volume rm {volume.name}"
            yield Finding("unused", Level.YELLOW, volume.name, f"not used for {age_days:.0f} days", remedy)


def _unknown(
    volumes: Sequence[KnownVolume], used_s: Mapping[str, float], days: float, now_s: float
) -> Iterator[Finding]:
    """Count volumes of which the last use is not known; those that are younger than that are not old."""
    youngest = datetime.fromtimestamp(now_s, UTC) - timedelta(days=days)
    counts: dict[str, int] = {}
    for volume in volumes:
        is_old = volume.created_at is None or volume.created_at <= youngest
        if volume.name not in used_s and volume.state is VolumeState.AVAILABLE and is_old:
            counts[volume.backend] = counts.get(volume.backend, 0) + 1
    for backend, count in counts.items():
        message = f"it does not tell when {count} volumes that no host has attached were used last"
        yield Finding("unused", Level.GREEN, f"backend {backend}", message)
