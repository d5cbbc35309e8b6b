"""Operations: each piece of work on a volume, while it runs and for a while after; of the API also durably."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from volplug.volumes.ledger import Failure

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

    def __str__(self) -> str:
        return f"{self.kind} {self.operation_id}"


class Operations:
    """The operations that run, and the last 1,000 that ended."""

    def list(self, *, volume: str = "", state: OperationState | None = None) -> Sequence[Operation]:
        """Return operations, the newest first; of one volume, or in one state, if given."""
        raise NotImplementedError

    def get(self, operation_id: str) -> Operation:
        """Return an operation.

        Raises:
            OperationNotFound: If it is not known, or not any more.
        """
        raise NotImplementedError

    async def wait(self, operation_id: str, timeout_s: float) -> Operation:
        """Return an operation once it has ended, or as it is after the time.

        Raises:
            OperationNotFound: If it is not known, or not any more.
        """
        raise NotImplementedError

    def cancel(self, operation_id: str) -> Operation:
        """Ask an operation of the API to end before its next step; `wait` shows whether it still could.

        Raises:
            OperationNotFound: If it is not known, or not any more.
            NotCancellable: If it has ended, or is not one of the API.
        """
        raise NotImplementedError
