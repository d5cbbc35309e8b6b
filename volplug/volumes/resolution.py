"""Resolution: what became of operations of the control API that the end of a process interrupted.

None is repeated: the host may have been down for days, and what was wanted then may destroy what is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog

from volplug.errors import OperationInterrupted, VolplugError, internal_error
from volplug.models import Volume, VolumeState
from volplug.volumes.catalog import Catalog
from volplug.volumes.create import Creator, request_from_json
from volplug.volumes.durable_operations import DurableOperations
from volplug.volumes.ledger import Desired, Entry
from volplug.volumes.node import LocalNode
from volplug.volumes.operations import ApiVerb, Operation

_LOG = structlog.get_logger(__name__)
_FIRST_RETRY_S: Final = 1.0
_USABLE: Final = frozenset(
    {VolumeState.AVAILABLE, VolumeState.ATTACHING, VolumeState.IN_USE, VolumeState.DETACHING}
)
_REMEDY: Final = "Repeat the request: it continues from what was reached"


def is_reached(verb: str, volume: Volume | None, node_id: str) -> bool:
    """Tell whether what an operation was to reach is what the backend shows. Pure.

    Args:
        verb: What was to be done.
        volume: As the backend describes it; None if it has none.
        node_id: This host's id at the backend; empty if it is not known.
    """
    if volume is None:
        return verb == ApiVerb.DELETE
    match verb:
        case ApiVerb.CREATE:
            return volume.state in _USABLE
        case ApiVerb.RELEASE:
            is_elsewhere = bool(node_id) and volume.holder not in (None, node_id)
            return is_elsewhere or volume.state is VolumeState.AVAILABLE
        case ApiVerb.TAKEOVER:
            is_here = bool(node_id) and volume.holder == node_id
            return is_here or volume.state is VolumeState.AVAILABLE
        case _:
            return False


def is_pending(verb: str, entry: Entry | None) -> bool:
    """Tell whether recovery still works on what the operation was to reach. Pure."""
    if entry is None:
        return False
    is_detaching = entry.desired is Desired.DETACHED and entry.failure is None
    return entry.desired in {Desired.PRESENT, Desired.ABSENT} or (verb == ApiVerb.RELEASE and is_detaching)


class Resolution:
    """Resolves interrupted operations, each once recovery is done with its volume."""

    def __init__(
        self, node: LocalNode, durable: DurableOperations, creator: Creator, catalog: Catalog
    ) -> None:
        self._node = node
        self._durable = durable
        self._creator = creator
        self._catalog = catalog
        self._may_be_stale = any(driver.info.remote for driver in node.backends.values())

    def begin(self) -> None:
        """Start to resolve what an earlier process has left; recovery has its volumes' locks already."""
        retry_s = min(_FIRST_RETRY_S, self._node.deadlines.retry_max_s)
        for operation in self._durable.running:
            self._node.tasks.keep(asyncio.create_task(self._resolve(operation, retry_s)))

    async def _resolve(self, operation: Operation, retry_s: float, *, is_last_look: bool = False) -> None:
        node = self._node
        longer_s = min(retry_s * 2, node.deadlines.retry_max_s)
        retry = partial(self._resolve, operation, longer_s, is_last_look=is_last_look)
        async with node.locks.of(operation.volume):
            if is_pending(operation.kind, node.ledger.get(operation.volume)):
                self._schedule(operation, retry_s, retry)
                return
            self._catalog.invalidate(operation.volume)
            try:
                error = await self._error_of(operation)
            except VolplugError as unknown:
                if unknown.retryable:
                    self._schedule(operation, retry_s, retry)
                    return
                error = _interrupted(f"what became of it is not known: {unknown.cause}")
            except Exception as bug:  # it must not run for ever
                _LOG.exception("internal error", operation=operation)
                error = _interrupted(f"what became of it is not known: {internal_error(bug).cause}")
        if isinstance(error, OperationInterrupted) and self._may_be_stale and not is_last_look:
            # The cloud may serve stale reads of changes made just before the restart.
            again = partial(self._resolve, operation, retry_s, is_last_look=True)
            self._schedule(operation, node.deadlines.mount_grace_s, again)
            return
        failure = node.operations.failure_of(operation, error) if error else None
        await self._durable.end(operation, failure)

    def _schedule(self, operation: Operation, delay_s: float, again: Callable[[], Awaitable[None]]) -> None:
        # No volume has a blank in its name.
        self._node.timers.schedule(f"resolution of {operation.operation_id}", delay_s, again)

    async def _error_of(self, operation: Operation) -> VolplugError | None:
        """Return why an operation has failed; None if what it was to reach is reached.

        Raises:
            VolplugError: If that cannot be told.
        """
        volume = await self._catalog.find(operation.volume)
        node_id = self._node.driver(volume.backend).node_id if volume else ""
        if not is_reached(operation.kind, volume, node_id):
            return _interrupted("its goal was not reached")
        if operation.kind == ApiVerb.CREATE and volume is not None:
            try:
                self._creator.check_same(request_from_json(operation.request), volume)
            except VolplugError as error:
                return error
        return None


def _interrupted(what: str) -> OperationInterrupted:
    return OperationInterrupted(f"volplug was restarted while it ran, and {what}", _REMEDY)
