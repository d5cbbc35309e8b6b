"""Waits for disks to appear and disappear.

All waiters share one uevent listener and one sysfs scan per event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from volplug.host.threads import Pool

# The delay after which a disk is noticed whose event was lost or never sent. A scan only lists a directory.
RECHECK_S: Final = 2.0

_T = TypeVar("_T")
_ScanT = TypeVar("_ScanT")


@dataclass(eq=False)
class _PendingQuestion(Generic[_ScanT]):
    """A question to each scan, and the future of its answer."""

    question: Callable[[_ScanT], object]
    answer: asyncio.Future[Any]

    def ask(self, scan: _ScanT) -> tuple[object, Exception | None]:
        """Return what the question returns or raises; runs in a thread."""
        try:
            return self.question(scan), None
        except Exception as error:  # any error is raised to the waiter
            return None, error

    def settle(self, found: object, error: Exception | None) -> None:
        """End the wait if there is an answer or an error."""
        if self.answer.done():
            return
        if error is not None:
            self.answer.set_exception(error)
        elif found is not None:
            self.answer.set_result(found)


@contextlib.asynccontextmanager
async def block_events(pool: Pool) -> AsyncIterator[asyncio.Event]:
    """Provide an asyncio.Event that is set at each uevent of a block device; without libudev it never is."""
    event = asyncio.Event()
    monitor = await pool.blocking(_kernel_monitor)
    if monitor is None:
        yield event
        return

    def receive() -> None:
        event.set()
        with contextlib.suppress(OSError):  # ENOBUFS: events were lost, but a scan follows anyway
            while monitor.poll(timeout=0) is not None:
                pass

    loop = asyncio.get_running_loop()
    loop.add_reader(monitor.fileno(), receive)
    try:
        yield event
    finally:
        loop.remove_reader(monitor.fileno())


def _kernel_monitor() -> Any | None:  # noqa: ANN401 - pyudev has no types
    # Imported here: only hosts with remote devices wait for them. Source "kernel" and not "udev", because
    # a container or a minimal host runs no udevd that would pass events on.
    try:
        import pyudev

        monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
        monitor.filter_by("block")
        monitor.start()
    except (ImportError, OSError):
        return None
    return monitor


class DiskWatch(Generic[_ScanT]):
    """Answers questions about disks after each event while there are waiters, and is idle otherwise.

    Args:
        scan: Reads the disks' state for any number of questions; blocks, and runs in a thread.
        pool: Threads for scans and questions.
        listen: Provides the event that is set when disks may have changed.
        recheck_s: A scan follows after this time without an event, because events can be lost.
    """

    def __init__(
        self,
        scan: Callable[[], _ScanT],
        pool: Pool,
        listen: Callable[[Pool], AbstractAsyncContextManager[asyncio.Event]] = block_events,
        recheck_s: float = RECHECK_S,
    ) -> None:
        self._scan = scan
        self._pool = pool
        self._listen = listen
        self._recheck_s = recheck_s
        self._waiters: set[_PendingQuestion[_ScanT]] = set()
        self._listener: asyncio.Task[None] | None = None

    async def until(self, question: Callable[[_ScanT], _T | None], timeout_s: float) -> _T | None:
        """Wait until a question has an answer other than None; return None after the timeout.

        Args:
            question: Asked in a thread, of a scan made now and of one after each event. What it raises, or
                the scan, is raised here.
            timeout_s: How long to wait for events; with 0 the question is asked once.
        """
        waiter = _PendingQuestion[_ScanT](question, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        try:
            await self._ask([waiter])
            if not waiter.answer.done() and timeout_s > 0:
                if self._listener is None or self._listener.done():
                    self._listener = asyncio.create_task(self._follow_events())
                await asyncio.wait({waiter.answer}, timeout=timeout_s)
            found: _T | None = waiter.answer.result() if waiter.answer.done() else None
            return found
        finally:
            self._waiters.discard(waiter)
            if waiter.answer.done():
                waiter.answer.exception()  # of a cancelled wait it is not retrieved otherwise
            if not self._waiters and self._listener is not None:
                self._listener.cancel()
                self._listener = None

    async def _follow_events(self) -> None:
        try:
            async with self._listen(self._pool) as changed:
                while True:
                    changed.clear()  # before the scan, so that an event during the scan is not lost
                    await self._ask(list(self._waiters))
                    # asyncio.wait_for would drop a cancellation that comes with an event, before Python 3.12.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._recheck_s):
                            await changed.wait()
        except Exception as error:  # sysfs cannot be read, or the like
            for waiter in self._waiters:
                waiter.settle(None, error)

    async def _ask(self, waiters: list[_PendingQuestion[_ScanT]]) -> None:
        for waiter, (found, error) in zip(
            waiters, await self._pool.blocking(self._answers, waiters), strict=True
        ):
            waiter.settle(found, error)

    def _answers(self, waiters: list[_PendingQuestion[_ScanT]]) -> list[tuple[object, Exception | None]]:
        scan = self._scan()
        return [waiter.ask(scan) for waiter in waiters]
