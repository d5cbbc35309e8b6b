"""Durable operations: those of the control API, which survive a restart, and which no caller waits for.

A row is written before the work of an operation begins, and when it has ended. A row that still says
`running` at the start of a process is resolved by what is observed (`resolution`), never assumed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, Protocol

import structlog
from structlog.contextvars import bind_contextvars

from volplug.errors import HostError, IdempotencyKeyReused, TooManyWaiting, VolplugError
from volplug.steps import OnStep, WorldStep
from volplug.volumes.ledger import Failure
from volplug.volumes.operations import ApiCall, Operation, Operations, Origin, Work, state_after

_LOG = structlog.get_logger(__name__)
_KEPT: Final = 1_000
_KEPT_FOR: Final = timedelta(hours=24)
_MAX_RUNNING: Final = 1_000  # a client need not wait for one before it starts the next


class OperationStore(Protocol):
    """Where durable operations survive."""

    async def save_operation(self, operation: Operation, outdated: Sequence[str]) -> None:
        """Write an operation so that it survives a power cut, and remove others, by their ids."""
        ...


class DurableOperations:
    """The operations of the control API: started once per idempotency key, and kept for a day.

    Args:
        operations: All of this node.
        store: Where they survive; None for memory only.
        on_step: Called after every write.
    """

    def __init__(self, operations: Operations, store: OperationStore | None, on_step: OnStep) -> None:
        self._operations = operations
        self._store = store
        self._on_step = on_step
        self._starting = asyncio.Lock()
        self._unsaved: dict[str, Operation] = {}  # ended ones whose end could not be written

    async def start(
        self, kind: str, volume: str, caller: ApiCall, work: Work[object], request: str = ""
    ) -> Operation:
        """Start an operation, or return the one that was started with its idempotency key.

        Once begun, it does not end with its caller's task.

        Raises:
            IdempotencyKeyReused: If another request came with the key.
            TooManyWaiting: If too many of them run.
            HostError: If it cannot be kept durably; nothing was started.
        """
        operation = Operation(
            self._operations.new_id(),
            kind,
            volume,
            origin=Origin.API,
            started_at=self._operations.now(),
            request_id=caller.request_id,
            idempotency_key=caller.idempotency_key,
            fingerprint=caller.fingerprint,
            request=request,
        )
        starting = asyncio.create_task(self._start(operation, work))
        self._operations.tasks.keep(starting)
        return await asyncio.shield(starting)

    async def _start(self, operation: Operation, work: Work[object]) -> Operation:
        async with self._starting:  # so that of two requests with one key the second finds the first
            if (before := self._with_key_of(operation)) is not None:
                return before
            if (running := len(self.running)) >= _MAX_RUNNING:
                raise TooManyWaiting(f"{running} operations of the control API run", "Wait for some to end")
            await self._save(operation)
            self._operations.begin_durable(operation)
        self._operations.tasks.keep(asyncio.create_task(self._carry_out(operation, work)))
        return operation

    def _with_key_of(self, operation: Operation) -> Operation | None:
        key = operation.idempotency_key
        known = self._operations.durable if key else ()
        before = next((each for each in known if each.idempotency_key == key), None)
        if before is not None and before.fingerprint != operation.fingerprint:
            raise IdempotencyKeyReused(
                f"the idempotency key came with another request, which began {before}",
                "Choose a new key for each request",
            )
        return before

    async def _carry_out(self, operation: Operation, work: Work[object]) -> None:
        bind_contextvars(operation=operation)
        failure: Failure | None = None
        try:
            await work(operation)
        except Exception as error:  # no caller waits for it: it is the operation's result
            failure = self._operations.failure_of(operation, error)
            if not isinstance(error, VolplugError):
                _LOG.exception("internal error", operation=operation)
        await self.end(operation, failure)

    async def end(self, operation: Operation, failure: Failure | None) -> None:
        """End an operation, on the disk first: what a client was told of its end does not change."""
        ended_at = self._operations.now()
        ended = replace(operation, state=state_after(failure), ended_at=ended_at, failure=failure)
        try:
            await self._save(ended)
        except HostError as error:  # expected: disk full; written with the next one that can be
            self._unsaved[ended.operation_id] = ended
            _LOG.error("operation not saved", operation=operation, error=str(error))
        self._operations.end(operation, failure, ended_at)

    @property
    def running(self) -> Sequence[Operation]:
        """Return those that run; at the start, those that the end of an earlier process interrupted."""
        return [each for each in self._operations.durable if each.is_running]

    async def _save(self, operation: Operation) -> None:
        outdated = self._outdated()
        if self._store is not None:
            await self._store.save_operation(operation, outdated)
            self._on_step(WorldStep.OPERATION_WRITTEN)
        for operation_id in outdated:
            self._operations.forget(operation_id)
            self._unsaved.pop(operation_id, None)
        while self._unsaved and self._store is not None:
            _, late = self._unsaved.popitem()
            try:
                await self._store.save_operation(late, ())
            except HostError:
                self._unsaved[late.operation_id] = late
                return

    def _outdated(self) -> Sequence[str]:
        """Return which ended operations are too old, or too many; one more is about to be kept."""
        oldest = self._operations.now() - _KEPT_FOR
        ended = [each for each in self._operations.durable if not each.is_running]
        excess = len(ended) + 1 - _KEPT
        return [
            each.operation_id
            for place, each in enumerate(ended)
            if place < excess or (each.ended_at is not None and each.ended_at < oldest)
        ]
