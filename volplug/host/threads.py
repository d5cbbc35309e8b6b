"""Pools of threads for calls that may block on a device.

The event loop's default pool is not used: it also serves name look-ups, which a dead device must not block.
Each backend has its own pools, so that its hung devices do not block other backends.

A pool is bounded, and a call that finds no free thread waits for one. That is right as long as threads
become free: hundreds of volumes that are mounted at once take turns. It is wrong once every thread hangs. A
hung call differs from a slow one only by its duration: a `DevicePool` counts as hung if every thread is busy
and none has become free for `HUNG_AFTER_S`. Until one does, it refuses all calls, new and waiting ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakSet

from volplug.errors import BackendUnavailable, VolplugError

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Long, because on a slow disk dozens of calls may end together, after one commit of a journal; but a waiting
# call has to be refused within the 50 s in which an Unmount is answered.
HUNG_AFTER_S: Final = 45.0


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """How much a pool has to do.

    Attributes:
        name: Of the pool; backends of one cloud share it.
        threads: How many it may have.
        calls: How many run or wait for a thread.
    """

    name: str
    threads: int
    calls: int


class Pool:
    """A dedicated pool of threads for one kind of work, so that hung calls cannot exhaust other pools.

    Args:
        name: Shown in the names of its threads.
        size: How many calls may hang before the next has to wait.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._executor = ThreadPoolExecutor(max_workers=size, thread_name_prefix=f"volplug-{name}")
        self._open: set[Future[Any]] = set()  # calls that run or wait for a thread
        _POOLS.add(self)

    @property
    def load(self) -> PoolLoad:
        """Return how much is to be done."""
        return PoolLoad(self._name, self._size, len(self._open))

    def submit(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> asyncio.Future[_T]:
        """Start a call and return a future of the running event loop."""
        return asyncio.wrap_future(self._submit(function, *args, **kwargs))

    def _submit(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        # With the context, whose operation the log's lines name.
        call = self._executor.submit(copy_context().run, partial(function, *args, **kwargs))
        self._open.add(call)
        call.add_done_callback(self._end)
        return call

    def _end(self, call: Future[Any]) -> None:
        """Record the end of a call; runs in its thread, or where it was cancelled."""
        self._open.discard(call)

    async def blocking(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a call that may block in a thread and return its result.

        A cancelled await does not stop the thread: the call still takes effect. Keep the lock on what it
        changes until it has ended. The interpreter's normal exit joins these threads, so a process that has
        to end in spite of a dead device uses `os._exit`.
        """
        return await self.submit(function, *args, **kwargs)

    async def to_the_end(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a call that changes something; a cancellation is raised only after the call has ended.

        A lock that the caller holds around it is thus held until the call has ended.
        """
        return await run_to_completion(self.submit(function, *args, **kwargs))


class DevicePool(Pool):
    """The pool for calls on one backend's devices; refuses calls while every thread hangs.

    Attributes:
        programs: The pool of threads that wait for programs. The check of a large filesystem may take long,
            so calls that wait for these threads are not refused.

    Args:
        name: Shown in the names of its threads.
        size: How many calls may hang.
        backend: Named in the refusal.
        hung_after_s: The pool counts as hung if no thread has become free for this long.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        name: str,
        size: int,
        backend: str,
        hung_after_s: float = HUNG_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name, size)
        self.programs = Pool(f"{name}-programs", size)
        self._backend = backend
        self._hung_after_s = hung_after_s
        self._clock = clock
        self._last_free_s = clock()

    def submit(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> asyncio.Future[_T]:
        """See `Pool`; the future has the refusal."""
        return asyncio.ensure_future(self.blocking(function, *args, **kwargs))

    async def blocking(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """See `Pool`.

        Raises:
            BackendUnavailable: If the pool hangs; nothing was done.
        """
        if self._hangs():
            raise self._refusal()  # not queued: the queue would grow as long as the pool hangs
        must_wait = self._is_full()
        if not must_wait:
            self._last_free_s = self._clock()
        call = self._submit(function, *args, **kwargs)
        answer = asyncio.wrap_future(call)
        if must_wait:
            await self._wait_for_thread(call, answer)
        return await answer

    async def _wait_for_thread(self, call: Future[_T], answer: asyncio.Future[_T]) -> None:
        """Wait until the call runs or has ended; cancel it if the pool counts as hung."""
        try:
            while not (call.running() or answer.done()):
                await asyncio.wait({answer}, timeout=self._last_free_s + self._hung_after_s - self._clock())
                if self._hangs() and call.cancel():
                    raise self._refusal()
        except asyncio.CancelledError:
            answer.cancel()
            raise

    def _end(self, call: Future[Any]) -> None:
        super()._end(call)
        if not call.cancelled():
            self._last_free_s = self._clock()

    def _is_full(self) -> bool:
        return len(self._open) >= self._size

    def _hangs(self) -> bool:
        return self._is_full() and self._clock() - self._last_free_s >= self._hung_after_s

    def _refusal(self) -> BackendUnavailable:
        return BackendUnavailable(
            f"backend {self._backend} does not answer: none of {self._size} calls on its devices has ended "
            f"for {self._hung_after_s:g} s",
            "Check its disk, and the kernel's log for hung tasks; volplug continues once they end",
        )


_POOLS: Final[WeakSet[Pool]] = WeakSet()


def pool_loads() -> Sequence[PoolLoad]:
    """Return how much the pools of this process have to do; those of one name together."""
    loads: dict[str, PoolLoad] = {}
    for load in [pool.load for pool in _POOLS]:
        other = loads.get(load.name, PoolLoad(load.name, 0, 0))
        loads[load.name] = PoolLoad(load.name, other.threads + load.threads, other.calls + load.calls)
    return [loads[name] for name in sorted(loads)]


async def run_to_completion(work: Awaitable[_T]) -> _T:
    """Await work that changes something; a cancellation is raised only after the work has ended."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await wait_until_done(running)
        raise


async def wait_until_done(running: asyncio.Future[_T]) -> None:
    """Wait for a call to end, also if the waiting task is cancelled, even repeatedly."""
    while not running.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({running})
    if not running.cancelled():
        running.exception()  # retrieved, or asyncio would log it: the caller was cancelled


class BoundedQueries:
    """Runs queries that may never return, such as of devices on a file server that does not respond.

    Args:
        timeout_s: How long one query may take.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._running: dict[str, threading.Thread] = {}

    def run(self, names: Sequence[str], query: Callable[[str], _T]) -> tuple[list[_T], list[str]]:
        """Query one name after the other; blocks.

        A name whose earlier query still runs is not queried again, so that threads do not accumulate.

        Returns:
            The results, and the names whose query failed or took too long.
        """
        results: list[_T] = []
        unanswered: list[str] = []
        for name in names:
            earlier = self._running.get(name)
            if earlier is not None and earlier.is_alive():
                unanswered.append(name)
                continue
            result: list[_T] = []
            thread = threading.Thread(target=_store_result, args=(query, name, result), daemon=True)
            thread.start()
            thread.join(self._timeout_s)
            if result:
                results += result
            else:
                self._running[name] = thread
                unanswered.append(name)
        return results, unanswered


def _store_result(query: Callable[[str], _T], name: str, result: list[_T]) -> None:
    with contextlib.suppress(VolplugError):  # a failed query has no result either
        result.append(query(name))
