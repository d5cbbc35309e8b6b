"""Waits for operations and shows how far they are: in place on a terminal, else a line for each phase."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from volplug.api.client import Json
from volplug.api.client_errors import DaemonUnreachable, WaitTimedOut, answered_error
from volplug.cli.session import Session
from volplug.cli.terminal import Terminal
from volplug.cli.units import human_duration, seconds_since

if TYPE_CHECKING:
    from rich.status import Status

_LOOK_S: Final = 1.0  # shorter operations show nothing


class LeftRunning(Exception):
    """A person has interrupted the wait for an operation, which continues; `operation_id` names it."""

    def __init__(self, operation_id: str) -> None:
        super().__init__(operation_id)
        self.operation_id = operation_id


class Progress:
    """Shows the phases of one operation; at the end of the context nothing of it is left on a terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._stack = ExitStack()
        self._status: Status | None = None
        self._phase = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def show(self, operation: Json) -> None:
        """Show an operation that runs."""
        line = f"{operation['kind']} {operation['volume']}: {operation['phase']}"
        if not self._terminal.is_watched:
            if operation["phase"] != self._phase:
                self._terminal.tell(line)
        elif self._status is None:
            self._status = self._stack.enter_context(_status(line))
        else:
            duration = human_duration(seconds_since(operation["started_at"]))
            self._status.update(f"{line} ({duration})")
        self._phase = operation["phase"]


def _status(line: str) -> Status:
    from rich.console import Console  # slow to load, and only needed for what takes long

    return Console(stderr=True, highlight=False, markup=False).status(line)


def wait_for(session: Session, operation: Json, timeout_s: float | None) -> None:
    """Wait until an operation has succeeded.

    Raises:
        VolplugError: Why it has not.
        WaitTimedOut: If it still runs after the time.
        LeftRunning: If a person interrupts.
    """
    try:
        operation = _ended(session, operation, timeout_s)
    except KeyboardInterrupt:
        raise LeftRunning(operation["id"]) from None
    except DaemonUnreachable as error:
        remedy = f"Once it runs, volplug operation watch {operation['id']} tells how the operation ended"
        raise DaemonUnreachable(error.cause, remedy) from error
    if operation["failure"] is not None:
        raise answered_error({**operation["failure"], "volume": operation["volume"]})


def _ended(session: Session, operation: Json, timeout_s: float | None) -> Json:
    until = None if timeout_s is None else time.monotonic() + timeout_s
    with Progress(session.terminal) as progress:
        while operation["state"] == "running":
            left = _LOOK_S if until is None else min(_LOOK_S, until - time.monotonic())
            if left <= 0:
                raise WaitTimedOut(
                    f"operation {operation['id']} has not ended within {timeout_s:g} s, and continues",
                    f"volplug operation watch {operation['id']} waits for its end",
                )
            operation = session.client.operation(operation["id"], left)
            if operation["state"] == "running":
                progress.show(operation)
    return operation


def finish(
    session: Session, operation: Json, results: Sequence[str], *, wait: bool, timeout_s: float | None
) -> None:
    """Wait for an operation and write its results, or write its id if it is not waited for."""
    if wait:
        wait_for(session, operation, timeout_s)
    for line in results if wait else (operation["id"],):
        session.terminal.write(line)
