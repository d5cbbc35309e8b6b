"""Finding volumes by name: which backend has one, with answers shared, kept for some seconds, and bounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

from volplug.drivers.base import Driver
from volplug.errors import BackendUnavailable, ConfigurationError, DuplicateVolumes
from volplug.models import Volume

_FRESH_S: Final = 5.0

Answers = dict[str, Sequence[Volume] | BaseException]


class Lookups:
    """Answers of the backends. Look-ups of one name that come together cost one call."""

    def __init__(self, backends: Mapping[str, Driver], timeout_s: float) -> None:
        self._backends = backends
        self._timeout_s = timeout_s
        self._running: dict[tuple[str, str], asyncio.Task[Volume | None]] = {}
        self._listing: dict[str, asyncio.Task[Sequence[Volume]]] = {}
        self._cached: dict[tuple[str, str], tuple[float, Volume]] = {}

    def forget(self, name: str) -> None:
        """Drop what is kept of a name; called after everything that changes a volume."""
        for backend in self._backends:
            self._cached.pop((backend, name), None)
            self._running.pop((backend, name), None)  # whoever asks from now on asks anew

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
        answers = await asyncio.gather(*(self._bounded(each, name) for each in asked), return_exceptions=True)
        found = [answer for answer in answers if isinstance(answer, Volume)]
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        if len(found) > 1:
            ids = tuple(f"{volume.backend}:{volume.volume_id}" for volume in found)
            raise DuplicateVolumes(
                f"several backends have it: {', '.join(ids)}", "Remove or rename one", volume_ids=ids
            )
        if not found and failures:
            raise failures[0]
        return found[0] if found else None

    async def _bounded(self, backend: str, name: str) -> Volume | None:
        """Ask one backend; the time-out ends the waiting, not the shared question."""
        task = self._shared(backend, name)
        done, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        if not done:
            raise BackendUnavailable(
                f"backend {backend} did not answer within {self._timeout_s:.0f} s", "Try again"
            )
        return task.result()

    def _shared(self, backend: str, name: str) -> asyncio.Task[Volume | None]:
        key = (backend, name)
        if key not in self._running:
            task = asyncio.ensure_future(self._ask(backend, name))
            self._running[key] = task
            task.add_done_callback(lambda done: self._end(key, done))
        return self._running[key]

    def _end(self, key: tuple[str, str], task: asyncio.Task[Volume | None]) -> None:
        if self._running.get(key) is task:
            del self._running[key]
        if not task.cancelled():
            task.exception()

    async def _ask(self, backend: str, name: str) -> Volume | None:
        if (kept := self.kept(name, backend)) is not None:
            return kept
        driver, key = self._backends[backend], (backend, name)
        volume = await driver.get(name)
        is_current = self._running.get(key) is asyncio.current_task()
        # What is on this host can be asked every time, and shows at once what somebody does to it by hand.
        if driver.info.remote and volume is not None and is_current:
            self._cached[key] = (time.monotonic(), volume)
        return volume

    def kept(self, name: str, backend: str) -> Volume | None:
        """Return a backend's answer of the last seconds, if there is one; asks nobody."""
        cached = self._cached.get((backend, name))
        return cached[1] if cached and time.monotonic() - cached[0] < _FRESH_S else None

    async def find_all(self) -> Answers:
        """Return what each backend lists, or why it could not be asked.

        A list is the very object that the driver returned: one that keeps its list tells thereby that nothing
        has changed.
        """
        backends = list(self._backends)
        answers = await asyncio.gather(*(self._listed(each) for each in backends), return_exceptions=True)
        return dict(zip(backends, answers, strict=True))

    async def _listed(self, backend: str) -> Sequence[Volume]:
        """List one backend; a question that is still open is shared, however long it hangs."""
        task = self._listing.get(backend)
        if task is None:
            task = self._listing[backend] = asyncio.ensure_future(self._ask_for_all(backend))
            task.add_done_callback(lambda done: self._end_listing(backend, done))
        done, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        if not done:
            raise BackendUnavailable(f"backend {backend} did not answer within {self._timeout_s:.0f} s")
        return task.result()

    async def _ask_for_all(self, backend: str) -> Sequence[Volume]:
        return await self._backends[backend].list()

    def _end_listing(self, backend: str, task: asyncio.Task[Sequence[Volume]]) -> None:
        self._listing.pop(backend, None)
        if not task.cancelled():
            task.exception()
