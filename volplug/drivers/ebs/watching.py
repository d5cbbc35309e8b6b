"""Waiting for disks to come and go: all who wait share one ear for the kernel's events and one look each."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

from volplug.drivers.ebs.devices import Look
from volplug.host.threads import Pool

_T = TypeVar("_T")
Question = Callable[[Look], _T | None]


class WaitFor(Protocol):
    """Asks again after every event of a block device until there is an answer; `host.devices.wait_for`."""

    def __call__(self, predicate: Callable[[], None], timeout_s: float) -> Awaitable[None]:
        """Ask until the timeout; None is no answer."""
        ...


class _Waiter(Generic[_T]):
    """One question and who waits for its answer."""

    def __init__(self, question: Question[_T]) -> None:
        self._question = question
        self._loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[_T] = self._loop.create_future()

    def ask(self, look: Look) -> None:
        """Ask once; called in a thread."""
        try:
            found = self._question(look)
        except Exception as error:  # whatever it is, it is the answer of whoever waits
            self._hand_over(partial(self.answer.set_exception, error))
        else:
            if found is not None:
                self._hand_over(partial(self.answer.set_result, found))

    def _hand_over(self, settle: Callable[[], None]) -> None:
        def settle_once() -> None:
            if not self.answer.done():
                settle()

        self._loop.call_soon_threadsafe(settle_once)


class DiskWatch:
    """Looks at the disks after every event as long as somebody waits, and not at all otherwise.

    Args:
        look: Looks at the disks; blocks.
        pool: Threads to look in.
        wait_for: Hears the kernel's events.
    """

    def __init__(self, look: Callable[[], Look], pool: Pool, wait_for: WaitFor) -> None:
        self._look = look
        self._pool = pool
        self._wait_for = wait_for
        self._waiters: set[_Waiter[object]] = set()
        self._listening: asyncio.Task[None] | None = None

    async def until(self, question: Question[_T], timeout_s: float) -> _T | None:
        """Wait until a question about the disks has an answer other than None; return None after the time.

        Args:
            question: Asked in a thread, at once and after each event. What it raises is raised here.
            timeout_s: How long to wait at most.
        """
        waiter = _Waiter(question)
        self._waiters.add(waiter)  # type: ignore[arg-type]  # the set never looks at answers
        try:
            await self._pool.blocking(self._ask, [waiter])
            await asyncio.sleep(0)  # a look that found it has handed over by now
            if not waiter.answer.done() and timeout_s > 0:
                self._listen()
                await asyncio.wait({waiter.answer}, timeout=timeout_s)
            return waiter.answer.result() if waiter.answer.done() else None
        finally:
            self._waiters.discard(waiter)
            if waiter.answer.done() and not waiter.answer.cancelled():
                waiter.answer.exception()
            if not self._waiters and self._listening is not None:
                self._listening.cancel()
                self._listening = None

    def _listen(self) -> None:
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._pass_on())

    async def _pass_on(self) -> None:
        try:
            await self._wait_for(self._ask_all, math.inf)
        except Exception as error:  # sysfs cannot be read, or the like
            for waiter in self._waiters:
                with contextlib.suppress(asyncio.InvalidStateError):
                    waiter.answer.set_exception(error)

    def _ask_all(self) -> None:
        self._ask(list(self._waiters))

    def _ask(self, waiters: list[_Waiter[_T]]) -> None:
        look = self._look()
        for waiter in waiters:
            waiter.ask(look)
