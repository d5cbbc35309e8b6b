"""Keeps why the last operation on a volume failed, for `docker volume inspect`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final, TypeVar

from volplug.errors import ClientGone, ErrorContext, OperationCancelled, OperationTimeout, VolplugError
from volplug.models import VolumeState
from volplug.volumes.ledger import Entry, Failure
from volplug.volumes.node import LocalNode
from volplug.volumes.operations import Operation

_T = TypeVar("_T")
_UNFINISHED: Final = frozenset({VolumeState.INCOMPLETE, VolumeState.CREATING, VolumeState.ERROR})


async def wait_for(
    node: LocalNode,
    kind: str,
    name: str,
    work: Callable[[Operation], Coroutine[object, object, _T]],
    deadline_s: float,
) -> _T:
    """Run an operation as `Operations.wait_for` does; its failure is kept, and dropped by a success.

    Raises:
        OperationTimeout: If the deadline is over.
        VolplugError: What the work raises, in its context.
    """
    try:
        return await node.operations.wait_for(
            kind, name, partial(observed, node, kind, name, work), deadline_s
        )
    except OperationTimeout as error:
        keep_failure(node, kind, name, error)
        raise


async def observed(
    node: LocalNode,
    kind: str,
    name: str,
    work: Callable[[Operation], Coroutine[object, object, _T]],
    operation: Operation,
) -> _T:
    """Do the work of an operation; its failure is kept, and dropped by a success."""
    try:
        result = await work(operation)
    except Exception as error:
        if isinstance(error, VolplugError):
            error.in_context(ErrorContext(kind, name))
        keep_failure(node, kind, name, error)
        raise
    drop_failure(node, name, kind)
    return result


def keep_failure(node: LocalNode, kind: str, name: str, error: Exception) -> None:
    """Keep a failure of a volume that this host knows, without a wait for the disk.

    A client that left or cancelled it is none, nor is a creation that found the volume to exist.
    """
    entry = node.ledger.get(name)
    is_unwanted = isinstance(error, (ClientGone, OperationCancelled))
    if entry is None or is_unwanted or (kind == "create" and not _is_unfinished(entry)):
        return
    failed = Failure.of(kind, error, node.wall_clock())
    node.tasks.start_write(node.ledger.update(name, lambda now: now.with_failure(failed)))


def drop_failure(node: LocalNode, name: str, *kinds: str) -> None:
    """Drop the failure of a volume if it is one of these kinds of operations."""
    entry = node.ledger.get(name)
    if entry is not None and entry.without_failure(*kinds) is not entry:
        node.tasks.start_write(node.ledger.update(name, lambda now: now.without_failure(*kinds)))


def _is_unfinished(entry: Entry) -> bool:
    return entry.record is not None and entry.record.state in _UNFINISHED
