"""Work that outlives its request: tasks, and what is scheduled for later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

_LOG = structlog.get_logger(__name__)
_T = TypeVar("_T")


class BackgroundTasks:
    """The tasks of this process that change volumes; none is ever cancelled."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[Any]] = set()

    @property
    def running(self) -> set[asyncio.Future[Any]]:
        """Return the tasks that run now."""
        return set(self._tasks)

    def start_write(self, write: Coroutine[object, object, None]) -> None:
        """Start a write of the ledger that no caller waits for."""
        self.keep(asyncio.create_task(write))

    def keep(self, task: asyncio.Future[Any]) -> None:
        """Hold a reference to a task until it ends, as the event loop does not."""
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()


@dataclass(frozen=True, slots=True)
class _Scheduled:
    handle: asyncio.TimerHandle
    action: Callable[[], Awaitable[None]]
    at_stop: bool


class Timers:
    """Scheduled actions, at most one per name; a new one replaces the old."""

    def __init__(self) -> None:
        self._scheduled: dict[str, _Scheduled] = {}
        self._running: set[asyncio.Future[None]] = set()

    def schedule(
        self, name: str, delay_s: float, action: Callable[[], Awaitable[None]], *, at_stop: bool = False
    ) -> None:
        """Run the action after the delay, in a task of its own; or at once when the process stops."""
        self.cancel(name)
        handle = asyncio.get_running_loop().call_later(
            delay_s,
            self._start,
            name,
            context=Context(),  # the log's lines of the action are not part of what scheduled it
        )
        self._scheduled[name] = _Scheduled(handle, action, at_stop)

    def cancel(self, name: str) -> None:
        """Drop what is scheduled under the name; an action that runs already is not affected."""
        if scheduled := self._scheduled.pop(name, None):
            scheduled.handle.cancel()

    def flush(self) -> None:
        """Start now what was scheduled to happen at the latest when the process stops."""
        for name, scheduled in list(self._scheduled.items()):
            if scheduled.at_stop:
                scheduled.handle.cancel()
                self._start(name)

    @property
    def running(self) -> set[asyncio.Future[None]]:
        """Return the actions that run now."""
        return set(self._running)

    def _start(self, name: str) -> None:
        task = asyncio.ensure_future(self._scheduled.pop(name).action())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
