"""Waiting for several things at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from volplug.host.threads import ended

_T = TypeVar("_T")


async def first_of(*waits: Coroutine[Any, Any, _T | None]) -> _T | None:
    """Return the first answer that is not None, or None if all end without one; the rest is cancelled.

    What one raises is raised. If several have an answer, that of the earlier argument counts.
    """
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    pending = set(tasks)
    try:
        while pending:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done() and (answer := task.result()) is not None:
                    return answer
        return None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def to_the_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Do work that changes something; cancelled, it ends only when the work has ended."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await ended(running)
        raise
