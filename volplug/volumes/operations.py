"""Operations: each piece of work on a volume, while it runs and for a while after.

Those of dockerd and of volplug itself are kept in memory only, so that a Mount costs no further write.
Those of the control API are durable: see `durable_operations`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from itertools import count
from typing import Any, Final, TypeVar

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars

from volplug.errors import (
    ErrorContext,
    NotCancellable,
    OperationCancelled,
    OperationNotFound,
    OperationTimeout,
    OptionHelp,
    VolplugError,
)
from volplug.metrics import Metrics
from volplug.volumes.background import BackgroundTasks
from volplug.volumes.events import EventKind, EventLog
from volplug.volumes.ledger import Failure

_LOG = structlog.get_logger(__name__)
_T = TypeVar("_T")
_KEPT: Final = 1_000

Work = Callable[["Operation"], Coroutine[object, object, _T]]
WAITING_FOR_LOCK: Final = "waiting"


class Origin(StrEnum):
    """Whose request an operation is: of Docker, of a client of the control API, or volplug's own."""

    DOCKER = "docker"
    API = "api"
    VOLPLUG = "volplug"


class OperationState(StrEnum):
    """Whether an operation runs, or how it ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ApiVerb(StrEnum):
    """The kinds of operations that the control API starts."""

    CREATE = "create"
    DELETE = "delete"
    RELEASE = "release"
    TAKEOVER = "takeover"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall:
    """The request of the control API that starts an operation.

    Attributes:
        request_id: For log and answers.
        idempotency_key: Chosen by the client; empty for none.
        fingerprint: Differs for requests that differ: a repeated key must come with the same one.
    """

    request_id: str
    idempotency_key: str = ""
    fingerprint: str = ""


@dataclass(slots=True)
class Operation:
    """One piece of work on one volume. Its phase, and how it ended, change in place; all else stays.

    Attributes:
        operation_id: `RUN-N`: unique, also across restarts, and in the order of their begin.
        kind: A verb: `create`, `mount`, `detach`, ...; of the API: `create`, `delete`, `takeover`, `release`.
        volume: Docker's name of the volume.
        phase: The step that it is at; `waiting` until it has the volume's lock.
        origin: Whose request it is.
        state: Whether it runs, or how it ended.
        started_at: With time zone.
        ended_at: With time zone; None while it runs.
        failure: Why it failed, or what it was cancelled with; None otherwise.
        request_id: Of the API's request; empty for others.
        idempotency_key: Of the API's request; empty for none.
        fingerprint: Of the API's request.
        request: What a creation of the API asked for, as JSON; empty for all else.
        is_cancelled: Whether a client has asked it to end.
    """

    operation_id: str
    kind: str
    volume: str
    phase: str = WAITING_FOR_LOCK
    origin: Origin = Origin.VOLPLUG
    state: OperationState = OperationState.RUNNING
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended_at: datetime | None = None
    failure: Failure | None = None
    request_id: str = ""
    idempotency_key: str = ""
    fingerprint: str = ""
    request: str = ""
    is_cancelled: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.operation_id}"

    @property
    def is_running(self) -> bool:
        """Tell whether it has not ended yet."""
        return self.state is OperationState.RUNNING

    def check_wanted(self) -> None:
        """Check that no client has cancelled it.

        Raises:
            OperationCancelled: If one has.
        """
        if self.is_cancelled:
            raise OperationCancelled("cancelled through the control API", "Repeat the request to continue")


def _now() -> datetime:
    return datetime.now(UTC)


class Operations:
    """The operations that run, those of the API that are kept durably, and the last 1,000 others that ended.

    Args:
        events: Where they are reported.
        tasks: Where they run.
        kept: Those of the API that an earlier run has kept.
        clock: The time, with its zone.
        metrics: Where their ends are counted.

    Attributes:
        events: As given.
        tasks: As given.
        metrics: As given.
    """

    def __init__(
        self,
        events: EventLog | None = None,
        tasks: BackgroundTasks | None = None,
        kept: Sequence[Operation] = (),
        clock: Callable[[], datetime] = _now,
        metrics: Metrics | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self.events = events or EventLog()
        self.tasks = tasks or BackgroundTasks()
        self._clock = clock
        self._numbers = count(1)
        self._running: dict[str, Operation] = {}
        self._ended: OrderedDict[str, Operation] = OrderedDict()
        self._durable = {each.operation_id: each for each in kept}
        self._waited_for: dict[str, asyncio.Event] = {}

    # Reading

    def list(self) -> Sequence[Operation]:
        """Return all operations, the newest first."""
        return sorted((*self._durable.values(), *self._ended.values(), *self._running.values()), key=_age)

    def get(self, operation_id: str) -> Operation:
        """Return an operation.

        Raises:
            OperationNotFound: If it is not known, or not any more.
        """
        for place in (self._running, self._durable, self._ended):
            if (found := place.get(operation_id)) is not None:
                return found
        raise OperationNotFound("no such operation", "See those that are known: GET /v1/operations")

    async def wait(self, operation_id: str, timeout_s: float) -> Operation:
        """Return an operation once it has ended, or as it is after the time.

        Raises:
            OperationNotFound: If it is not known, or not any more.
        """
        operation = self.get(operation_id)
        if operation.is_running:
            ended = self._waited_for.setdefault(operation_id, asyncio.Event())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await ended.wait()
        return operation

    def cancel(self, operation_id: str) -> Operation:
        """Ask an operation of the API to end before its next step; `wait` shows whether it still could.

        Raises:
            OperationNotFound: If it is not known, or not any more.
            NotCancellable: If it has ended, or is not one of the API.
        """
        operation = self.get(operation_id)
        if not operation.is_running:
            raise NotCancellable(f"the operation has {operation.state} already")
        if operation.origin is not Origin.API:
            raise NotCancellable(f"the operation was started by {operation.origin}, not by the control API")
        operation.is_cancelled = True
        return operation

    @property
    def running(self) -> Sequence[Operation]:
        """Return the operations in progress, the oldest first."""
        return [*self._running.values(), *(each for each in self._durable.values() if each.is_running)]

    # Of volplug and dockerd: in memory

    @contextmanager
    def operation(self, kind: str, volume: str) -> Iterator[Operation]:
        """Run an operation of volplug's own as long as the context is open.

        It has failed if it raises, or if its `failure` was set.
        """
        operation = self._begin(kind, volume, Origin.VOLPLUG)
        try:
            with bound_contextvars(operation=operation):
                yield operation
        except Exception as error:
            operation.failure = self.failure_of(operation, error)
            raise
        finally:
            self.end(operation, operation.failure)

    def run(
        self, kind: str, volume: str, work: Work[_T], origin: Origin = Origin.VOLPLUG
    ) -> asyncio.Task[_T]:
        """Start an operation in a task of its own."""
        operation = self._begin(kind, volume, origin)
        context = copy_context()
        context.run(bind_contextvars, operation=operation)
        task = asyncio.create_task(work(operation), context=context)
        task.add_done_callback(partial(self._end_with_task, operation))
        self.tasks.keep(task)
        return task

    async def wait_for(self, kind: str, volume: str, work: Work[_T], deadline_s: float) -> _T:
        """Run an operation of dockerd's and wait for it up to a deadline; if it misses that, it goes on.

        Raises:
            OperationTimeout: If the deadline is over. A retry waits for the same lock as the work.
            VolplugError: What the work raises, in its context.
        """
        context = ErrorContext(kind, volume)
        task = self.run(kind, volume, work, Origin.DOCKER)
        done, _ = await asyncio.wait({task}, timeout=deadline_s)
        if not done:
            task.add_done_callback(partial(self._report_late_end, context))
            raise OperationTimeout(
                f"still in progress after {deadline_s:.0f} s", "Try again: a retry joins it"
            ).in_context(context)
        try:
            return task.result()
        except VolplugError as error:
            raise error.in_context(context) from error.__cause__

    # Of the API

    @property
    def durable(self) -> Sequence[Operation]:
        """Return the operations of the API that run or are remembered, the oldest first."""
        return [*self._durable.values()]

    def begin_durable(self, operation: Operation) -> None:
        """Begin an operation whose row is on the disk."""
        self._durable[operation.operation_id] = operation
        self._report_begin(operation)

    def forget(self, operation_id: str) -> None:
        """Forget an operation of the API that has ended."""
        self._durable.pop(operation_id, None)

    # Begin and end

    def now(self) -> datetime:
        """Return the time, with its zone."""
        return self._clock()

    def new_id(self) -> str:
        """Return an id that no other operation has, of this run of volplug or of another one."""
        return f"{self.events.run}-{next(self._numbers)}"

    def _begin(self, kind: str, volume: str, origin: Origin) -> Operation:
        operation = Operation(self.new_id(), kind, volume, origin=origin, started_at=self._clock())
        self._running[operation.operation_id] = operation
        self._report_begin(operation)
        return operation

    def _report_begin(self, operation: Operation) -> None:
        by = {"request_id": operation.request_id} if operation.request_id else {}
        self.events.record(
            "debug",
            EventKind.OPERATION,
            "operation started",
            volume=operation.volume,
            operation=operation,
            origin=operation.origin,
            **by,
        )

    def _end_with_task(self, operation: Operation, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception) and not isinstance(error, OptionHelp):  # which is what was asked for
            operation.failure = self.failure_of(operation, error)
        self.end(operation, operation.failure)

    def failure_of(self, operation: Operation, error: Exception) -> Failure:
        """Return the failure of an operation that raised an error, and give the error its context."""
        if isinstance(error, VolplugError):
            error.in_context(ErrorContext(operation.kind, operation.volume))
        return Failure.of(operation.kind, error, self._clock())

    def end(self, operation: Operation, failure: Failure | None, ended_at: datetime | None = None) -> None:
        """End an operation, now or at the time that its row has; it has succeeded if it has no failure."""
        operation.state, operation.failure = state_after(failure), failure
        operation.ended_at = ended_at or self._clock()
        if operation.operation_id.startswith(f"{self.events.run}-"):  # not one that a restart interrupted
            what = operation.kind, operation.origin.value, operation.state.value
            duration = operation.ended_at - operation.started_at
            self.metrics.operations[what].add(duration.total_seconds())
        if self._running.pop(operation.operation_id, None) is not None:
            self._ended[operation.operation_id] = operation
            if len(self._ended) > _KEPT:
                self._ended.popitem(last=False)
        self._report_end(operation)
        if (waited_for := self._waited_for.pop(operation.operation_id, None)) is not None:
            waited_for.set()

    def _report_end(self, operation: Operation) -> None:
        """Report an end; a failure of the API is logged here, others are by those who answer or retry."""
        failure, is_of_api = operation.failure, operation.origin is Origin.API
        is_failed = operation.state is OperationState.FAILED
        more = {"code": failure.code, "error": failure.text} if failure else {}
        by = {"request_id": operation.request_id} if operation.request_id else {}
        self.events.record(
            "warning" if is_failed and is_of_api else "debug",
            EventKind.ERROR if is_failed else EventKind.OPERATION,
            f"operation {operation.state}",
            volume=operation.volume,
            operation=operation,
            origin=operation.origin,
            **by,
            **more,
        )

    def _report_late_end(self, context: ErrorContext, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        self.events.record(
            "warning" if error else "info",
            EventKind.OPERATION,
            "operation ended after its deadline",
            operation=context.operation,
            volume=context.volume,
            error=str(error or ""),
        )


def state_after(failure: Failure | None) -> OperationState:
    """Return the state of an operation that ended with a failure, or with none."""
    if failure is None:
        return OperationState.SUCCEEDED
    is_cancelled = failure.code == OperationCancelled.code
    return OperationState.CANCELLED if is_cancelled else OperationState.FAILED


def _age(operation: Operation) -> tuple[float, int]:
    """Order operations from the newest to the oldest."""
    number = operation.operation_id.rpartition("-")[2]
    return (-operation.started_at.timestamp(), -int(number) if number.isdecimal() else 0)
