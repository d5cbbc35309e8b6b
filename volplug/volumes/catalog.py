"""Finding volumes: asks the backends, by name or for all, with shared calls, cached answers and timeouts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cachetools import TTLCache

from volplug.drivers.base import Driver
from volplug.errors import BackendUnavailable, ConfigurationError, DuplicateVolumes
from volplug.models import Volume
from volplug.volumes.ledger import Entry, Ledger
from volplug.volumes.views import VolumeView

_FRESH_S: Final = 5.0
_MAX_CACHED: Final = 10_000  # volumes; the design's limit

BackendLists = dict[str, Sequence[Volume] | BaseException]


class Catalog:
    """The volumes of all backends. Look-ups of one name that come together cost one call."""

    def __init__(
        self, backends: Mapping[str, Driver], timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._backends = backends
        self._timeout_s = timeout_s
        self._lookups: dict[tuple[str, str], asyncio.Task[Volume | None]] = {}
        self._lists: dict[str, asyncio.Task[Sequence[Volume]]] = {}
        self._cache: TTLCache[tuple[str, str], Volume] = TTLCache(_MAX_CACHED, _FRESH_S, clock)

    def invalidate(self, name: str) -> None:
        """Drop the cached answers of a name; called after everything that changes a volume."""
        for backend in self._backends:
            self._cache.pop((backend, name), None)
            self._lookups.pop((backend, name), None)  # calls from now on start another look-up

    def cached(self, name: str, backend: str) -> Volume | None:
        """Return a backend's answer of the last seconds, if there is one; calls no backend."""
        return self._cache.get((backend, name))

    async def find(self, name: str, backend: str | None = None) -> Volume | None:
        """Return the volume of this name, or None if all backends are sure that there is none.

        Args:
            name: Docker's name.
            backend: The backend that is known to have it, or None to ask them all.

        Raises:
            BackendUnavailable: If none has it and not all could be asked in time.
            DuplicateVolumes: If several volumes carry the name.
        """
        if backend is not None and backend not in self._backends:
            raise ConfigurationError(f"backend {backend!r} is not configured")
        asked = [backend] if backend is not None else list(self._backends)
        if len(asked) == 1:
            return await self._find_in(asked[0], name)
        answers = await asyncio.gather(*(self._find_in(each, name) for each in asked), return_exceptions=True)
        found = [answer for answer in answers if isinstance(answer, Volume)]
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        if len(found) > 1:
            ids = tuple(f"{volume.backend}:{volume.volume_id}" for volume in found)
            raise DuplicateVolumes(
                f"several backends have a volume of this name: {', '.join(ids)}",
                "Nothing was changed; rename one",
                volume_ids=ids,
            )
        if not found and failures:
            raise failures[0]
        return found[0] if found else None

    async def _find_in(self, backend: str, name: str) -> Volume | None:
        """Ask one backend; the timeout ends this caller's wait, not the shared look-up."""
        task = self._shared_lookup(backend, name)
        done, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        if not done:
            raise BackendUnavailable(
                f"backend {backend} did not answer within {self._timeout_s:.0f} s", "Try again"
            )
        return task.result()

    def _shared_lookup(self, backend: str, name: str) -> asyncio.Task[Volume | None]:
        key = (backend, name)
        if key not in self._lookups:
            task = asyncio.ensure_future(self._look_up(backend, name))
            self._lookups[key] = task
            task.add_done_callback(lambda done: self._end_lookup(key, done))
        return self._lookups[key]

    def _end_lookup(self, key: tuple[str, str], task: asyncio.Task[Volume | None]) -> None:
        if self._lookups.get(key) is task:
            del self._lookups[key]
        if not task.cancelled():
            task.exception()

    async def _look_up(self, backend: str, name: str) -> Volume | None:
        if (cached := self.cached(name, backend)) is not None:
            return cached
        driver, key = self._backends[backend], (backend, name)
        volume = await driver.get(name)
        is_current = self._lookups.get(key) is asyncio.current_task()
        # Local volumes can be read every time, which shows at once what is changed by hand.
        if driver.info.remote and volume is not None and is_current:
            self._cache[key] = volume
        return volume

    async def list_all(self) -> BackendLists:
        """Return what each backend lists, or why it could not be asked.

        A list is the very object that the driver returned: one that returns the same object again shows
        thereby that nothing has changed.
        """
        backends = list(self._backends)
        answers = await asyncio.gather(*(self._list(each) for each in backends), return_exceptions=True)
        return dict(zip(backends, answers, strict=True))

    async def _list(self, backend: str) -> Sequence[Volume]:
        """List one backend; a call in progress is shared, however long it hangs."""
        task = self._lists.get(backend)
        if task is None:
            task = self._lists[backend] = asyncio.ensure_future(self._list_driver(backend))
            task.add_done_callback(lambda done: self._end_list(backend, done))
        done, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        if not done:
            raise BackendUnavailable(f"backend {backend} did not answer within {self._timeout_s:.0f} s")
        return task.result()

    async def _list_driver(self, backend: str) -> Sequence[Volume]:
        return await self._backends[backend].list()

    def _end_list(self, backend: str, task: asyncio.Task[Sequence[Volume]]) -> None:
        self._lists.pop(backend, None)
        if not task.cancelled():
            task.exception()


@dataclass(frozen=True, slots=True)
class _CachedViews:
    lists: BackendLists
    changes: int
    views: Sequence[VolumeView]


class VolumeListCache:
    """Builds the list of all volumes, and keeps the last one: with thousands, building takes the time."""

    def __init__(self, ledger: Ledger, view: Callable[[Volume, Entry | None], VolumeView]) -> None:
        self._ledger = ledger
        self._view = view
        self._cached: _CachedViews | None = None

    def views(self, lists: BackendLists) -> Sequence[VolumeView]:
        """Describe what the backends list, and what this host knows of those that could not be asked."""
        cached, changes = self._cached, self._ledger.changes
        if cached is not None and cached.changes == changes and _are_same(cached.lists, lists):
            return cached.views
        volumes = sorted(self._volumes(lists).items())
        views = [self._view(volume, self._ledger.get(name)) for name, volume in volumes]
        self._cached = _CachedViews(lists, changes, views)
        return views

    def _volumes(self, lists: BackendLists) -> dict[str, Volume]:
        volumes: dict[str, Volume] = {}
        for answer in lists.values():
            if not isinstance(answer, BaseException):
                volumes = {volume.name: volume for volume in answer} | volumes
        for entry in self._ledger.entries():
            is_unlisted = isinstance(lists.get(entry.backend), BaseException)
            if entry.record is not None and (is_unlisted or entry.is_busy):
                volumes.setdefault(entry.name, entry.record)
        return volumes


def _are_same(before: BackendLists, now: BackendLists) -> bool:
    """Tell whether they are the same objects, and immutable ones."""
    return before.keys() == now.keys() and all(
        before[backend] is answer and isinstance(answer, tuple) for backend, answer in now.items()
    )
