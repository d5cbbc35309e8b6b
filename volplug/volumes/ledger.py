"""The ledger: what this host remembers of volumes, in memory and written through to a store.

It holds what was asked, answered and last described; what is really mounted, only the kernel knows.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

import structlog

from volplug.errors import HostError, VolplugError, internal_error
from volplug.models import EngineIdentity, Volume, VolumeState, not_older
from volplug.steps import OnStep, WorldStep, unannounced

_LOG = structlog.get_logger(__name__)

_NO_MOUNTS: Mapping[str, int] = MappingProxyType({})


class Desired(StrEnum):
    """What is still to be reached for a volume, across crashes.

    PRESENT and ABSENT stand while a creation or deletion runs; MOUNTED from the first change that a mount
    makes until the last unmount; DETACHED until the volume is released and detached; NONE otherwise.
    """

    NONE = "none"
    PRESENT = "present"
    MOUNTED = "mounted"
    DETACHED = "detached"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last operation of a kind failed.

    Attributes:
        operation: Its kind: a verb, such as `mount`.
        code: The error's code.
        cause: The error's cause.
        text: The whole error.
        at: When; with time zone.
        remedy: What the user can do; may be empty.
        retryable: Whether the same request may succeed later without any other change.
    """

    operation: str
    code: str
    cause: str
    text: str
    at: datetime
    remedy: str = ""
    retryable: bool = False

    @classmethod
    def of(cls, operation: str, error: Exception, at: datetime) -> Failure:
        """Return the failure of an operation that raised an error."""
        known = error if isinstance(error, VolplugError) else internal_error(error)
        return cls(operation, known.code, known.cause, str(known), at, known.remedy, known.retryable)

    def is_same(self, other: Failure | None) -> bool:
        """Tell whether another failure differs in nothing but its time."""
        return other is not None and replace(other, at=self.at) == self


@dataclass(frozen=True, slots=True)
class Entry:
    """One volume as this host remembers it.

    Attributes:
        name: Docker's name.
        backend: Name of the backend that has it.
        confirmed: Reference counts: answered Mounts per mount ID. A counter, not a set: `docker cp` repeats
            a container's ID.
        unconfirmed: Further Mounts per ID whose container may not exist: the engine that sent them has
            restarted since and may have forgotten them, or it is not known whether it received the answer.
        desired: What is still to be reached.
        record: The volume as the backend last described it.
        holders_unknown: Found mounted with no memory of the containers that use it.
        mounted_at_s: When the last Mount was answered, on the boot clock.
        failure: Of the last operation, if it failed; for `docker volume inspect`.
    """

    name: str
    backend: str
    confirmed: Mapping[str, int] = field(default_factory=lambda: _NO_MOUNTS)
    unconfirmed: Mapping[str, int] = field(default_factory=lambda: _NO_MOUNTS)
    desired: Desired = Desired.NONE
    record: Volume | None = None
    holders_unknown: bool = False
    mounted_at_s: float = 0.0
    failure: Failure | None = None

    @property
    def mount_count(self) -> int:
        """Return how many answered Mounts have not been unmounted, unconfirmed ones included."""
        return sum(self.confirmed.values()) + sum(self.unconfirmed.values())

    @property
    def is_claimed(self) -> bool:
        """Tell whether a container uses the volume, or may use it, as far as this host remembers."""
        return bool(self.confirmed or self.unconfirmed) or self.holders_unknown

    @property
    def is_unconfirmed(self) -> bool:
        """Tell whether it is claimed, but by no container that certainly exists."""
        return self.is_claimed and not self.confirmed

    @property
    def is_busy(self) -> bool:
        """Tell whether this host has, or may have, the volume attached."""
        return self.is_claimed or self.desired in {Desired.MOUNTED, Desired.DETACHED}

    def with_mount(self, mount_id: str, now_s: float) -> Entry:
        """Count one Mount, unconfirmed until its answer is written."""
        return replace(self, unconfirmed=_more(self.unconfirmed, mount_id), mounted_at_s=now_s)

    def with_confirmed(self, mount_id: str) -> Entry:
        """Confirm one counted Mount: its answer was written."""
        if mount_id not in self.unconfirmed:
            return self
        confirmed = _more(self.confirmed, mount_id)
        return replace(self, unconfirmed=_less(self.unconfirmed, mount_id), confirmed=confirmed)

    def without_unconfirmed(self, mount_id: str) -> Entry:
        """Take back one Mount whose answer was not written."""
        return replace(self, unconfirmed=_less(self.unconfirmed, mount_id))

    def without_mount(self, mount_id: str) -> Entry:
        """Take back one Mount, an unconfirmed one last; an unknown ID changes nothing."""
        if mount_id in self.confirmed:
            return replace(self, confirmed=_less(self.confirmed, mount_id))
        return self.without_unconfirmed(mount_id)

    def with_none_confirmed(self) -> Entry:
        """Make all counts unconfirmed: the engine may have forgotten the containers."""
        unconfirmed = self.unconfirmed
        for mount_id, number in self.confirmed.items():
            unconfirmed = {**unconfirmed, mount_id: unconfirmed.get(mount_id, 0) + number}
        return replace(self, confirmed=_NO_MOUNTS, unconfirmed=unconfirmed)

    def with_failure(self, failure: Failure) -> Entry:
        """Replace the failure of an earlier operation."""
        return replace(self, failure=failure)

    def without_failure(self, *operations: str) -> Entry:
        """Drop the failure if it is one of these kinds of operations."""
        is_over = self.failure is not None and self.failure.operation in operations
        return replace(self, failure=None) if is_over else self

    def without_claims(self) -> Entry:
        """Drop all counts: the volume is not in use, as the release test has shown."""
        return replace(self, confirmed=_NO_MOUNTS, unconfirmed=_NO_MOUNTS, holders_unknown=False)


def _more(mounts: Mapping[str, int], mount_id: str) -> Mapping[str, int]:
    return {**mounts, mount_id: mounts.get(mount_id, 0) + 1}


def _less(mounts: Mapping[str, int], mount_id: str) -> Mapping[str, int]:
    return {key: n - (key == mount_id) for key, n in mounts.items() if n > (key == mount_id)}


class Store(Protocol):
    """Where the ledger survives. Writes are applied in the order of the calls."""

    async def save(self, entry: Entry, *, durable: bool) -> None:
        """Write an entry; a durable write survives a power cut, any other a crash of this process."""
        ...

    async def forget(self, name: str) -> None:
        """Remove an entry."""
        ...

    async def save_engine(self, engine: EngineIdentity) -> None:
        """Write which run of the engine connected last."""
        ...

    async def check_writable(self) -> None:
        """Write something that changes nothing.

        Raises:
            HostError: If that cannot be done.
        """
        ...


class Ledger:
    """The entries, in memory and in the store.

    A method that changes an entry changes memory at the call; to await what it returns is to wait for the
    store. That order is what other tasks rely on: they never see an entry from before the call.
    """

    def __init__(
        self,
        store: Store,
        entries: Iterable[Entry] = (),
        engine: EngineIdentity | None = None,
        on_step: OnStep = unannounced,
    ) -> None:
        self._store = store
        self._on_step = on_step
        self._entries = {entry.name: entry for entry in entries}
        self._engine = engine
        self._unsaved: set[str] = set()
        self._changes = 0

    @property
    def changes(self) -> int:
        """Return how often any entry has changed: what was made at equal numbers of changes still holds."""
        return self._changes

    def get(self, name: str) -> Entry | None:
        """Return the entry of a volume, if there is one."""
        return self._entries.get(name)

    def entries(self) -> list[Entry]:
        """Return all entries as they are now."""
        return list(self._entries.values())

    @property
    def engine(self) -> EngineIdentity | None:
        """Return which run of the engine connected last."""
        return self._engine

    def put(self, entry: Entry) -> Coroutine[object, object, None]:
        """Change an entry, and return its writing; a change of the desired state is written durably.

        What a restart makes void is not written: which counts are confirmed, where the volume is attached;
        nor the time of a failure that is repeated.
        """
        before = self._entries.get(entry.name)
        if entry.record is not None and before is not None:
            found = not_older(entry.record, before.record)
            entry = replace(entry, record=found)
            if before.record is not None and before.record.volume_id != found.volume_id:
                entry = replace(entry, failure=None)  # it was another volume's
        is_unsaved = entry.name in self._unsaved
        if before == entry and not is_unsaved:
            return _nothing_to_write()
        self._entries[entry.name] = entry
        self._changes += 1
        if before is not None and _as_kept(before) == _as_kept(entry) and not is_unsaved:
            return _nothing_to_write()
        changes_desire = (before.desired if before else Desired.NONE) is not entry.desired
        is_durable = is_unsaved or (changes_desire and entry.desired is not Desired.NONE)
        return self._write(entry.name, durable=is_durable)

    def update(self, name: str, change: Callable[[Entry], Entry]) -> Coroutine[object, object, None]:
        """Change an entry if there is one, and return its writing."""
        entry = self._entries.get(name)
        return _nothing_to_write() if entry is None else self.put(change(entry))

    def remember(self, volume: Volume) -> Coroutine[object, object, None]:
        """Keep a backend's description of a volume, for when the backend cannot be asked."""
        before = self._entries.get(volume.name) or Entry(volume.name, volume.backend)
        return self.put(replace(before, backend=volume.backend, record=volume))

    def forget(self, name: str) -> Coroutine[object, object, None]:
        """Drop an entry; a name without one is fine."""
        self._unsaved.discard(name)
        if self._entries.pop(name, None) is None:
            return _nothing_to_write()
        self._changes += 1
        return self._remove(name)

    def note_engine(self, engine: EngineIdentity) -> Coroutine[object, object, None]:
        """Keep which run of the engine connected last."""
        self._engine = engine
        return self._write_engine(engine)

    async def check_writable(self) -> None:
        """Check that entries can be written.

        Raises:
            HostError: If they cannot.
        """
        await self._store.check_writable()

    async def _write(self, written: str, *, durable: bool) -> None:
        """Write an entry as it is by now, and those that could not be written before."""
        if (now := self._entries.get(written)) is not None:
            await self._save(now, durable=durable)
        for name in list(self._unsaved - {written}):
            if (unsaved := self._entries.get(name)) is not None and not await self._save(
                unsaved, durable=True
            ):
                return

    async def _save(self, entry: Entry, *, durable: bool) -> bool:
        """Write an entry; one that cannot be written is written with the next that can.

        A full disk must not keep a container from its unmount. Nothing is lost by it: after a crash, kernel
        and backend show what is mounted and attached, and the release test shows whether it is in use.
        """
        try:
            await self._store.save(entry, durable=durable)
            self._on_step(WorldStep.LEDGER_WRITTEN)
        except HostError as error:  # expected: disk full or read-only
            self._unsaved.add(entry.name)
            _LOG.error("volume state not saved", volume=entry.name, error=str(error))
            return False
        self._unsaved.discard(entry.name)
        return True

    async def _remove(self, name: str) -> None:
        if name in self._entries:
            return  # put again meanwhile; that writes it
        try:
            await self._store.forget(name)
        except HostError as error:  # expected: disk full or read-only
            _LOG.error("volume state not removed", volume=name, error=str(error))

    async def _write_engine(self, engine: EngineIdentity) -> None:
        try:
            await self._store.save_engine(engine)
        except HostError as error:  # expected: disk full or read-only
            _LOG.error("engine not saved", engine=engine.pid, error=str(error))


def _as_kept(entry: Entry) -> Entry:
    """Return an entry without what a restart makes void."""
    record = entry.record
    if record is not None and record.state is VolumeState.IN_USE:
        record = replace(record, state=VolumeState.AVAILABLE)
    if record is not None:
        record = replace(record, holder=None)
    failure = replace(entry.failure, at=datetime.min) if entry.failure else None
    return replace(entry.with_none_confirmed(), record=record, failure=failure)


async def _nothing_to_write() -> None:
    """Stand in for a write where nothing has changed."""
