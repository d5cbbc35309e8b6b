"""Waiting for a cloud's states: one poll for all volumes that anything waits for, and none otherwise."""

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
class _Waiter:
    """One wait: for which volume, since when, what decides it, and how many reads in a row have to agree."""

    volume_id: str
    decide: Callable[[Any], Any]
    agree: int
    since_s: float
    answer: asyncio.Future[Any]
    last: Any = None
    agreed: int = 0

    def offer(self, seen: object) -> None:
        """Take what a poll has read."""
        if self.answer.done():
            return
        try:
            decided = self.decide(seen)
        except Exception as error:  # it is the answer to the wait
            self.answer.set_exception(error)
            return
        self.agreed = self.agreed + 1 if decided == self.last else 1
        self.last = decided
        if decided is not None and self.agreed >= self.agree:
            self.answer.set_result(decided)


class SharedPoll(Generic[_Seen]):
    """Polls volumes as long as anything waits for one of them.

    It polls once per `first_s` as long as the youngest wait is not older than five times that, and once per
    `longest_s` afterwards.

    Args:
        read: Reads many volumes by their ids, in one call; those that do not show are missing in the answer.
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
        self._waiters: set[_Waiter] = set()
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
        """Wait until what is read of a volume decides something; return None after the timeout.

        Args:
            volume_id: The volume to read.
            decide: Gets what each poll reads, None where the volume does not show. None decides nothing. What
                it raises is raised here.
            timeout_s: How long to wait at most.
            agree: How many reads in a row have to decide the same, where a single one may be stale.
            at_once: Whether the first poll is worth making now, if none was made within the last `first_s`.
        """
        loop = asyncio.get_running_loop()
        waiter = _Waiter(volume_id, decide, agree, loop.time(), loop.create_future())
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
        while True:
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

    async def _pause(self, since_s: float) -> None:
        """Sleep until the next poll is due, which a wait that begins meanwhile may bring forward."""
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
    """Return the first result that is not None, or None if all end without one; the rest is cancelled.

    What one raises is raised. If several have a result, that of the earlier argument counts.
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
