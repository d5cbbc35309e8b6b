"""Waiting for several things at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


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
