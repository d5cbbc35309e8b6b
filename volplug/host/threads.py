"""Pools of threads for calls that may block on a device.

They are ours alone: the event loop's default pool also serves name look-ups, and a dead device must not
stop those. The host's has sixty-four threads, so that some volumes whose devices hang leave room for others.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from volplug.errors import VolplugError

_P = ParamSpec("_P")
_T = TypeVar("_T")


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
        running = self.submit(function, *args, **kwargs)
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


_HOST: Final = Pool("host", 64)

submit: Final = _HOST.submit
blocking: Final = _HOST.blocking
