"""What this host remembers of volumes: who has them mounted, what is still to be done, what was last known.

The ledger is kept in memory and written through to a store. It says what was asked and answered; what is
really mounted is for the kernel to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

import structlog

from volplug.errors import HostError
from volplug.models import Volume, not_older
from volplug.steps import OnStep, WorldStep, unannounced

_LOG = structlog.get_logger(__name__)

_NO_COUNTS: Mapping[str, int] = MappingProxyType({})


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
class Entry:
    """One volume as this host remembers it.

    Attributes:
        name: Docker's name.
        backend: Name of the backend that has it.
        counts: Answered mounts per mount ID. A counter, not a set: `docker cp` repeats a container's ID.
        doubts: Further mounts per ID that nobody may stand for any more: counted by an engine that has since
            restarted and may have forgotten them, or for an answer that has perhaps not gone out.
        desired: What is still to be reached.
        record: The volume as the backend last described it.
        holders_unknown: Found mounted with no memory of who asked for it.
        mounted_at_s: When the last Mount was answered, on the boot clock.
        last_error: Why the desired state is not reached yet; for `docker volume inspect`.
    """

    name: str
    backend: str
    counts: Mapping[str, int] = field(default_factory=lambda: _NO_COUNTS)
    doubts: Mapping[str, int] = field(default_factory=lambda: _NO_COUNTS)
    desired: Desired = Desired.NONE
    record: Volume | None = None
    holders_unknown: bool = False
    mounted_at_s: float = 0.0
    last_error: str = ""

    @property
    def mount_count(self) -> int:
        """Return how many answered mounts have not been unmounted, doubtful ones included."""
        return sum(self.counts.values()) + sum(self.doubts.values())

    @property
    def is_claimed(self) -> bool:
        """Tell whether anybody is, or may be, using the volume as far as we remember."""
        return bool(self.counts or self.doubts) or self.holders_unknown

    @property
    def is_doubtful(self) -> bool:
        """Tell whether it is claimed, but by nobody who certainly still uses it."""
        return self.is_claimed and not self.counts

    @property
    def is_busy(self) -> bool:
        """Tell whether this host has, or may have, the volume attached."""
        return self.is_claimed or self.desired in {Desired.MOUNTED, Desired.DETACHED}

    def with_mount(self, mount_id: str, now_s: float) -> Entry:
        """Count one mount, in doubt until its answer is out."""
        return replace(self, doubts=_more(self.doubts, mount_id), mounted_at_s=now_s)

    def with_answer(self, mount_id: str) -> Entry:
        """Trust one counted mount: its answer is out."""
        if mount_id not in self.doubts:
            return self
        return replace(self, doubts=_less(self.doubts, mount_id), counts=_more(self.counts, mount_id))

    def without_doubt(self, mount_id: str) -> Entry:
        """Take back one mount whose answer has not gone out."""
        return replace(self, doubts=_less(self.doubts, mount_id))

    def without_mount(self, mount_id: str) -> Entry:
        """Take back one mount, a doubtful one last; an unknown ID changes nothing."""
        if mount_id in self.counts:
            return replace(self, counts=_less(self.counts, mount_id))
        return replace(self, doubts=_less(self.doubts, mount_id))

    def with_all_doubted(self) -> Entry:
        """Put all counts in doubt: the engine that they were counted for is gone."""
        doubts = self.doubts
        for mount_id, number in self.counts.items():
            doubts = {**doubts, mount_id: doubts.get(mount_id, 0) + number}
        return replace(self, counts=_NO_COUNTS, doubts=doubts)

    def without_claims(self) -> Entry:
        """Drop all counts: nobody uses the volume, as the kernel has proven."""
        return replace(self, counts=_NO_COUNTS, doubts=_NO_COUNTS, holders_unknown=False)


def _more(counts: Mapping[str, int], mount_id: str) -> Mapping[str, int]:
    return {**counts, mount_id: counts.get(mount_id, 0) + 1}


def _less(counts: Mapping[str, int], mount_id: str) -> Mapping[str, int]:
    return {key: n - (key == mount_id) for key, n in counts.items() if n > (key == mount_id)}


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """One run of the Docker engine, as the socket shows it."""

    pid: int
    started: int


class Store(Protocol):
    """Where the ledger survives. Writes are applied in the order of the calls."""

    async def save(self, entry: Entry, *, durable: bool) -> None:
        """Write an entry; a durable write survives a power cut, any other a crash of this process."""
        ...

    async def forget(self, name: str) -> None:
        """Remove an entry."""
        ...

    async def save_engine(self, engine: EngineIdentity) -> None:
        """Remember which run of the engine spoke to us last."""
        ...


class Ledger:
    """The entries, in memory and in the store."""

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
        """Return how often any entry has changed: what was made of equal numbers of changes still holds."""
        return self._changes

    def get(self, name: str) -> Entry | None:
        """Return the entry of a volume, if there is one."""
        return self._entries.get(name)

    def entries(self) -> list[Entry]:
        """Return all entries as they are now."""
        return list(self._entries.values())

    async def put(self, entry: Entry) -> None:
        """Remember an entry; a change of the desired state is written durably."""
        await self.put_soon(entry)

    def put_soon(self, entry: Entry) -> Coroutine[object, object, None]:
        """Remember an entry at once, and return what writes it."""
        before = self._entries.get(entry.name)
        if entry.record is not None and before is not None:
            entry = replace(entry, record=not_older(entry.record, before.record))
        is_unsaved = entry.name in self._unsaved
        if before == entry and not is_unsaved:
            return asyncio.sleep(0)
        self._entries[entry.name] = entry
        self._changes += 1
        changes_desire = (before.desired if before else Desired.NONE) is not entry.desired
        is_durable = is_unsaved or (changes_desire and entry.desired is not Desired.NONE)
        return self._write(entry.name, durable=is_durable)

    async def _write(self, written: str, *, durable: bool) -> None:
        """Write an entry as it is by now, and those that could not be written before."""
        if (now := self._entries.get(written)) is not None:
            await self._save(now, durable=durable)
        for name in list(self._unsaved - {written}):
            if (late := self._entries.get(name)) is not None and not await self._save(late, durable=True):
                return

    async def _save(self, entry: Entry, *, durable: bool) -> bool:
        """Write an entry; one that cannot be written is written with the next that can.

        A full disk must not keep anybody from unmounting. Nothing is lost by it: after a crash, kernel and
        backend say what is mounted and attached, and the release test says whether it is used.
        """
        try:
            await self._store.save(entry, durable=durable)
            self._on_step(WorldStep.LEDGER_WRITTEN)
        except HostError as error:
            self._unsaved.add(entry.name)
            _LOG.error("not recorded", volume=entry.name, error=str(error))  # no bug of ours
            return False
        self._unsaved.discard(entry.name)
        return True

    async def remember(self, volume: Volume) -> Entry:
        """Keep what a backend just said of a volume, for the time when it cannot be asked."""
        before = self._entries.get(volume.name) or Entry(volume.name, volume.backend)
        entry = replace(before, backend=volume.backend, record=volume)
        await self.put(entry)
        return entry

    async def forget(self, name: str) -> None:
        """Drop an entry; a name without one is fine."""
        self._unsaved.discard(name)
        if self._entries.pop(name, None) is not None:
            self._changes += 1
            try:
                await self._store.forget(name)
            except HostError as error:
                _LOG.error("not forgotten", volume=name, error=str(error))  # no bug of ours

    @property
    def engine(self) -> EngineIdentity | None:
        """Return which run of the engine spoke last."""
        return self._engine

    async def note_engine(self, engine: EngineIdentity) -> None:
        """Note which run of the engine speaks."""
        self._engine = engine
        try:
            await self._store.save_engine(engine)
        except HostError as error:
            _LOG.error("not recorded", engine=engine.pid, error=str(error))
