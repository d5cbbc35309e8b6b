"""Waits for states of a cloud's volumes: one poll for all waiters, and none without waiters."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from volplug.errors import BackendUnavailable

_Seen = TypeVar("_Seen")
_T = TypeVar("_T")

_POLLS_AT_FIRST = 5


@dataclass(eq=False)
class _VolumeWaiter:
    """One wait for a volume: its predicate, its start, and the number of consecutive reads to agree."""

    volume_id: str
    decide: Callable[[Any], Any]
    agree: int
    since_s: float
    answer: asyncio.Future[Any]
    last: Any = None
    agreed: int = 0

    def offer(self, seen: object) -> None:
        """Apply the predicate to one read, and end the wait if enough reads agree."""
        if self.answer.done():
            return
        try:
            decided = self.decide(seen)
        except Exception as error:  # raised to the caller of the wait
            self.answer.set_exception(error)
            return
        self.agreed = self.agreed + 1 if decided == self.last else 1
        self.last = decided
        if decided is not None and self.agreed >= self.agree:
            self.answer.set_result(decided)


class SharedPoll(Generic[_Seen]):
    """Polls volumes as long as there are waiters.

    It polls once per `first_s` while the youngest wait is younger than five times that, and once per
    `longest_s` afterwards.

    Args:
        read: Reads many volumes by id, in one call; volumes that the cloud does not show are missing.
        first_s: Pause at first, in seconds.
        longest_s: Pause later on, in seconds.
    """

    def __init__(
        self,
        read: Callable[[Collection[str]], Awaitable[Mapping[str, _Seen]]],
        first_s: float,
        longest_s: float,
    ) -> None:
        self._read = read
        self._first_s = first_s
        self._longest_s = longest_s
        self._waiters: set[_VolumeWaiter] = set()
        self._polling: asyncio.Task[None] | None = None
        self._joined = asyncio.Event()
        self._polled_s = -math.inf

    async def until(
        self,
        volume_id: str,
        decide: Callable[[_Seen | None], _T | None],
        timeout_s: float,
        *,
        agree: int = 1,
        at_once: bool = False,
    ) -> _T | None:
        """Wait until the reads of a volume satisfy a predicate; return its result, None after the timeout.

        Args:
            volume_id: The volume to read.
            decide: Called with each read, None if the volume is missing. It returns None to wait on, else the
                result. Its errors are raised here.
            timeout_s: How long to wait at most.
            agree: How many consecutive reads must have the same result, where a single one may be stale.
            at_once: Whether to poll now, if the last poll is older than `first_s`.
        """
        loop = asyncio.get_running_loop()
        waiter = _VolumeWaiter(volume_id, decide, agree, loop.time(), loop.create_future())
        self._waiters.add(waiter)
        self._joined.set()
        if self._polling is None:
            since_s = self._polled_s if at_once else loop.time()
            self._polling = asyncio.create_task(self._poll(since_s))
        try:
            await asyncio.wait({waiter.answer}, timeout=timeout_s)
            decided: _T | None = waiter.answer.result() if waiter.answer.done() else None
            return decided
        finally:
            self._waiters.discard(waiter)
            if not waiter.answer.cancel() and not waiter.answer.cancelled():
                waiter.answer.exception()  # the wait may have been cancelled at the same moment
            if not self._waiters and self._polling is not None:
                self._polling.cancel()
                self._polling = None

    async def _poll(self, since_s: float) -> None:
        loop = asyncio.get_running_loop()
        while self._waiters:
            await self._pause(since_s)
            since_s = self._polled_s = loop.time()
            waiters = list(self._waiters)
            try:
                seen = await self._read({each.volume_id for each in waiters})
            except BackendUnavailable:
                pass  # it may come back before the wait ends
            except Exception as error:  # a later poll would fail as well
                for each in waiters:
                    if not each.answer.done():
                        each.answer.set_exception(error)
            else:
                for each in waiters:
                    each.offer(seen.get(each.volume_id))
            # A wait that has its answer needs no further read, although its caller has not run yet.
            self._waiters = {each for each in self._waiters if not each.answer.done()}
        self._polling = None

    async def _pause(self, since_s: float) -> None:
        """Sleep until the next poll is due; a new waiter may make it due earlier."""
        loop = asyncio.get_running_loop()
        while (left_s := since_s + self._interval_s(loop.time()) - loop.time()) > 0:
            self._joined.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._joined.wait()

    def _interval_s(self, now_s: float) -> float:
        youngest_s = max((each.since_s for each in self._waiters), default=now_s)
        is_young = now_s - youngest_s < _POLLS_AT_FIRST * self._first_s
        return self._first_s if is_young else self._longest_s


async def first_result(*waits: Coroutine[Any, Any, _T | None]) -> _T | None:
    """Return the first result that is not None, or None if there is none, and cancel the other waits.

    An error of any wait is raised. If several end together, the first argument takes precedence.
    """
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    pending = set(tasks)
    try:
        while pending:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done() and (result := task.result()) is not None:
                    return result
        return None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
