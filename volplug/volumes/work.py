"""Work that outlives its answer: waited for up to a limit, kept until it ends, and never cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

import structlog

from volplug.errors import ErrorContext, OperationTimeout, VolplugError

_LOG = structlog.get_logger(__name__)
_T = TypeVar("_T")


class Work:
    """What runs now, whether somebody waits for it or not."""

    def __init__(self) -> None:
        self._running: set[asyncio.Future[Any]] = set()

    @property
    def running(self) -> set[asyncio.Future[Any]]:
        """Return what runs now."""
        return set(self._running)

    async def answered(
        self, work: Coroutine[object, object, _T], limit_s: float, context: ErrorContext
    ) -> _T:
        """Wait for work up to the limit of an answer; the work itself goes on and a retry joins it.

        Raises:
            OperationTimeout: If the limit is over.
            VolplugError: What the work raises, in its context.
        """
        task = asyncio.ensure_future(work)
        self.keep(task)
        done, _ = await asyncio.wait({task}, timeout=limit_s)
        if not done:
            task.add_done_callback(partial(_log_late, context))
            raise OperationTimeout(
                f"not finished after {limit_s:.0f} s and still going on", "Try again: a retry joins it"
            ).in_context(context)
        try:
            return task.result()
        except VolplugError as error:
            raise error.in_context(context) from error.__cause__

    async def behind(self, write: Coroutine[object, object, object]) -> None:
        """Let a change of the ledger reach memory now and the disk behind the answer."""
        self.keep(asyncio.ensure_future(write))
        await asyncio.sleep(0)

    def keep(self, task: asyncio.Future[Any]) -> None:
        """Hold a task until it ends, as the event loop does not."""
        self._running.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()


def _log_late(context: ErrorContext, task: asyncio.Future[Any]) -> None:
    """Say how work ended for which nobody waits any more."""
    error = None if task.cancelled() else task.exception()
    log = _LOG.warning if error else _LOG.info
    log(
        "ended after its answer was due",
        operation=context.operation,
        volume=context.volume,
        error=str(error or ""),
    )
