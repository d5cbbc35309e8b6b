"""Rows of the store: values of the core as columns, and back; each row has a checksum. Pure."""

from __future__ import annotations

import json
import zlib
from dataclasses import astuple, replace
from datetime import datetime
from typing import Any

from volplug.errors import UnexpectedState
from volplug.models import Volume
from volplug.names import is_name
from volplug.volume_json import volume_from_json, volume_to_json
from volplug.volumes.ledger import Desired, Entry, Failure
from volplug.volumes.operations import Operation, OperationState, Origin


def with_checksum(values: tuple[object, ...]) -> tuple[object, ...]:
    """Return the columns of a row with their checksum."""
    return (*values, zlib.crc32(ascii(values).encode("ascii")))


def is_sound(row: tuple[object, ...]) -> bool:
    """Tell whether a row is as it was written."""
    return row == with_checksum(row[:-1])


def row_of(entry: Entry, boot_id: str) -> tuple[object, ...]:
    """Return the row of a volume."""
    return with_checksum(
        (
            entry.name,
            entry.backend,
            entry.desired.value,
            volume_to_json(entry.record) if entry.record else None,
            _failure_text(entry.failure),
            json.dumps(dict(entry.confirmed)),
            json.dumps(dict(entry.unconfirmed)),
            int(entry.holders_unknown),
            float(entry.mounted_at_s),
            boot_id,
        )
    )


def entry_of(row: tuple[Any, ...], boot_id: str) -> Entry:
    """Read the row of a volume; counts of another boot are dropped."""
    name, backend, desired, record, last_error, counts, doubts, unknown, mounted_at_s, of_boot, _ = row
    entry = Entry(
        name, backend, desired=Desired(desired), record=_record(record), failure=_failure(last_error)
    )
    if of_boot != boot_id:
        return entry
    return replace(
        entry,
        confirmed=json.loads(counts),
        unconfirmed=json.loads(doubts),
        holders_unknown=bool(unknown),
        mounted_at_s=mounted_at_s,
    )


def row_of_operation(operation: Operation) -> tuple[object, ...]:
    """Return the row of an operation of the control API."""
    ended_at = operation.ended_at
    return with_checksum(
        (
            operation.operation_id,
            operation.kind,
            operation.volume,
            operation.state.value,
            operation.started_at.isoformat(),
            ended_at.isoformat() if ended_at else None,
            _failure_text(operation.failure),
            operation.request_id,
            operation.idempotency_key,
            operation.fingerprint,
            operation.request,
        )
    )


def is_of_one_operation(row: tuple[Any, ...]) -> bool:
    """Tell whether a row can be read as an operation on a volume: a checksum is no secret."""
    try:
        return is_name(operation_of(row).volume)
    except (ValueError, TypeError):
        return False


def operation_of(row: tuple[Any, ...]) -> Operation:
    """Read the row of an operation.

    Raises:
        ValueError, TypeError: If another version of volplug wrote it.
    """
    operation_id, kind, volume, state, started_at, ended_at, failure, *of_request, _ = row
    request_id, idempotency_key, fingerprint, request = of_request
    return Operation(
        operation_id,
        kind,
        volume,
        origin=Origin.API,
        state=OperationState(state),
        started_at=datetime.fromisoformat(started_at),
        ended_at=datetime.fromisoformat(ended_at) if ended_at else None,
        failure=_failure(failure),
        request_id=request_id,
        idempotency_key=idempotency_key,
        fingerprint=fingerprint,
        request=request,
    )


def _failure_text(failure: Failure | None) -> str:
    """Write a failure as JSON; the column is of a version that kept the text alone."""
    return json.dumps(astuple(failure), default=datetime.isoformat) if failure else ""


def _failure(text: str) -> Failure | None:
    """Read a failure; the text alone, of an earlier version, says nothing of its time."""
    try:
        operation, code, cause, whole, at, *more = json.loads(text)
        remedy, retryable = more or ("", False)
        when = datetime.fromisoformat(at)
        return Failure(
            str(operation), str(code), str(cause), str(whole), when, str(remedy), retryable is True
        )
    except (ValueError, TypeError):
        return None


def is_of_one_volume(entry: Entry) -> bool:
    """Tell whether an entry has a valid name, and no record of another volume: a checksum is no secret."""
    return is_name(entry.name) and (entry.record is None or entry.record.name == entry.name)


def _record(text: str | None) -> Volume | None:
    """Read a last-known record; an unreadable one counts as absent, the backend is authoritative."""
    try:
        return volume_from_json(text) if text else None
    except UnexpectedState:
        return None
