"""Pools of threads for calls that may block on a device.

They are ours alone: the event loop's default pool also serves name look-ups, and a dead device must not
stop those. Each backend has pools of its own, so that devices that hang stop no other backend.

A pool is bounded, and a call that finds no free thread waits for one. That is right as long as threads become
free: hundreds of volumes that are mounted at once take turns. It is wrong once every thread hangs. Only time
tells a call that hangs from one that takes long: a `DevicePool` hangs if every thread is taken and none has
become free for `HUNG_AFTER_S`. Until one does, it refuses all calls, those that come and those that wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from volplug.errors import BackendUnavailable, VolplugError

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Long, for on a slow disk dozens of calls may end together, behind one commit of a journal. But a call that
# waits has to be refused within the 50 s that there are to answer an Unmount.
HUNG_AFTER_S: Final = 45.0


class Pool:
    """Threads for one kind of work, so that what hangs in it leaves the threads of other work alone.

    Args:
        name: Shown in the names of its threads.
        size: How many calls may hang before the next has to wait.
    """

    def __init__(self, name: str, size: int) -> None:
        self._executor = ThreadPoolExecutor(max_workers=size, thread_name_prefix=f"volplug-{name}")

    def submit(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> asyncio.Future[_T]:
        """Start a call and return a future of the running event loop."""
        return asyncio.wrap_future(self._executor.submit(function, *args, **kwargs))

    async def blocking(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a call that may block in a thread and return its result.

        A cancelled await does not stop the thread: what the call does to the machine is done, only later.
        Keep the lock on what it changes until it has ended. The interpreter's normal exit joins these
        threads, so a process that has to end in spite of a dead device leaves by `os._exit`.
        """
        return await self.submit(function, *args, **kwargs)

    async def to_the_end(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a call that changes something; cancelled, it ends only when the thread has ended.

        Whoever holds a lock around it holds it long enough by that.
        """
        return await run_to_completion(self.submit(function, *args, **kwargs))


class DevicePool(Pool):
    """Threads for the calls on one backend's devices; refuses calls while every thread hangs.

    Attributes:
        programs: Threads that wait for programs. The check of a large filesystem rightly takes long, so that
            a program which has to wait for its turn is not refused.

    Args:
        name: Shown in the names of its threads.
        size: How many calls may hang.
        backend: Named in the refusal.
        hung_after_s: How long no thread has become free in a pool that hangs.
        clock: Seconds that never go back.
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
        self._size = size
        self._backend = backend
        self._hung_after_s = hung_after_s
        self._clock = clock
        self._open: set[Future[Any]] = set()  # calls that run or wait for a thread
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
            raise self._refusal()  # without a place in the queue, which would grow for as long as it hangs
        must_wait = self._is_full()
        if not must_wait:
            self._last_free_s = self._clock()
        call = self._executor.submit(function, *args, **kwargs)
        self._open.add(call)
        call.add_done_callback(self._end)
        answer = asyncio.wrap_future(call)
        if must_wait:
            await self._wait_for_thread(call, answer)
        return await answer

    async def _wait_for_thread(self, call: Future[_T], answer: asyncio.Future[_T]) -> None:
        """Wait until the call runs or has ended; withdraw it if the pool hangs meanwhile."""
        try:
            while not (call.running() or answer.done()):
                await asyncio.wait({answer}, timeout=self._last_free_s + self._hung_after_s - self._clock())
                if self._hangs() and call.cancel():
                    raise self._refusal()
        except asyncio.CancelledError:
            answer.cancel()
            raise

    def _end(self, call: Future[Any]) -> None:
        """Note the end of a call; in its thread, or where it was withdrawn."""
        self._open.discard(call)
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
            "Look at its disk and at hung tasks in the kernel's log; volplug goes on by itself once they end",
        )


async def run_to_completion(work: Awaitable[_T]) -> _T:
    """Do work that changes something; cancelled, it ends only when the work has ended."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await ended(running)
        raise


async def ended(running: asyncio.Future[_T]) -> None:
    """Wait for a call to end, however often that is cancelled, too."""
    while not running.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({running})
    if not running.cancelled():
        running.exception()  # its caller has gone, nobody else is going to ask


class Asking:
    """Asks a question of several who may never answer, such as devices of a file server that is gone.

    Args:
        patience_s: How long one answer may take.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._open: dict[str, threading.Thread] = {}

    def ask(self, names: Sequence[str], question: Callable[[str], _T]) -> tuple[list[_T], list[str]]:
        """Ask one after the other; blocks.

        One of which an earlier question is still open is not asked again, so threads do not add up.

        Returns:
            The answers, and the names of those that did not answer.
        """
        answers: list[_T] = []
        silent: list[str] = []
        for name in names:
            earlier = self._open.get(name)
            if earlier is not None and earlier.is_alive():
                silent.append(name)
                continue
            answer: list[_T] = []
            thread = threading.Thread(target=_answer, args=(question, name, answer), daemon=True)
            thread.start()
            thread.join(self._patience_s)
            if answer:
                answers += answer
            else:
                self._open[name] = thread
                silent.append(name)
        return answers, silent


def _answer(question: Callable[[str], _T], name: str, answer: list[_T]) -> None:
    with contextlib.suppress(VolplugError):  # no answer either
        answer.append(question(name))
