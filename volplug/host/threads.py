"""One pool of threads for system calls that may block on a device.

The pool is ours alone: the event loop's default pool also serves name look-ups, and a dead device must
not stop those. Sixty-four threads, so that some volumes whose devices hang leave room for all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

_POOL: Final = ThreadPoolExecutor(max_workers=64, thread_name_prefix="volplug-host")


def submit(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> asyncio.Future[_T]:
    """Start a call in the pool and return a future of the running event loop."""
    return asyncio.wrap_future(_POOL.submit(function, *args, **kwargs))


async def blocking(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run a call that may block in a thread of the pool and return its result.

    A cancelled await does not stop the thread: what the call does to the machine is done, only later. Keep
    the lock on what it changes until it has ended. The interpreter's normal exit joins these threads, so a
    process that has to end in spite of a dead device leaves by `os._exit`.
    """
    return await submit(function, *args, **kwargs)
