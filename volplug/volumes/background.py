"""Work that outlives its request: operations in progress, their tasks, and what is scheduled for later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, TypeVar

import structlog

from volplug.errors import ErrorContext, OperationTimeout, VolplugError
from volplug.volumes.operations import Operation

_LOG = structlog.get_logger(__name__)
_T = TypeVar("_T")


class BackgroundTasks:
    """The tasks of this process that change volumes; none is ever cancelled."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[Any]] = set()
        self._operations: dict[str, Operation] = {}
        self._numbers = count(1)

    @property
    def running(self) -> set[asyncio.Future[Any]]:
        """Return the tasks that run now."""
        return set(self._tasks)

    @property
    def operations(self) -> Sequence[Operation]:
        """Return the operations in progress, the oldest first."""
        return list(self._operations.values())

    @contextmanager
    def operation(self, kind: str, volume: str) -> Iterator[Operation]:
        """List an operation in `operations` for as long as the context is open."""
        operation = self._begin(kind, volume)
        try:
            yield operation
        finally:
            del self._operations[operation.operation_id]

    def _begin(self, kind: str, volume: str) -> Operation:
        operation = Operation(f"{next(self._numbers)}", kind, volume)
        self._operations[operation.operation_id] = operation
        return operation

    def run(
        self, kind: str, volume: str, work: Callable[[Operation], Coroutine[object, object, _T]]
    ) -> asyncio.Task[_T]:
        """Start an operation in a task of its own; it is listed from now on until the task ends."""
        operation = self._begin(kind, volume)
        task = asyncio.create_task(work(operation))
        task.add_done_callback(lambda _: self._operations.pop(operation.operation_id))
        self._keep(task)
        return task

    async def wait_for(
        self,
        kind: str,
        volume: str,
        work: Callable[[Operation], Coroutine[object, object, _T]],
        deadline_s: float,
    ) -> _T:
        """Run an operation and wait for it up to a deadline; its task is not cancelled if it misses that.

        Raises:
            OperationTimeout: If the deadline is over. A retry waits for the same lock as the work.
            VolplugError: What the work raises, in its context.
        """
        context = ErrorContext(kind, volume)
        task = self.run(kind, volume, work)
        done, _ = await asyncio.wait({task}, timeout=deadline_s)
        if not done:
            task.add_done_callback(partial(_log_late_end, context))
            raise OperationTimeout(
                f"still in progress after {deadline_s:.0f} s", "Try again: a retry joins it"
            ).in_context(context)
        try:
            return task.result()
        except VolplugError as error:
            raise error.in_context(context) from error.__cause__

    def start_write(self, write: Coroutine[object, object, None]) -> None:
        """Start a write of the ledger that no caller waits for."""
        self._keep(asyncio.create_task(write))

    def _keep(self, task: asyncio.Future[Any]) -> None:
        """Hold a reference to a task until it ends, as the event loop does not."""
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()


def _log_late_end(context: ErrorContext, task: asyncio.Future[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    log = _LOG.warning if error else _LOG.info
    log(
        "operation ended after its deadline",
        operation=context.operation,
        volume=context.volume,
        error=str(error or ""),
    )


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
        handle = asyncio.get_running_loop().call_later(delay_s, self._start, name)
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
