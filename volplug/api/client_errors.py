"""Errors of a client of the control API, and those that volplug has answered it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from volplug.errors import CommandFailed, ErrorContext, InvalidRequest, VolplugError


class DaemonUnreachable(VolplugError):
    """volplug does not answer a client of its control API."""

    code = "daemon-unreachable"
    retryable = True


class VersionMismatch(VolplugError):
    """A client of the control API and volplug are more than one minor version apart."""

    code = "version-mismatch"


class WaitTimedOut(VolplugError):
    """An operation has not ended in the time that a client waits for it; it continues."""

    code = "wait-timed-out"
    retryable = True


class UsageError(InvalidRequest):
    """A command has an option, an argument or a value that it does not take."""

    code = "usage"


def answered_error(body: Mapping[str, Any], operation: str = "") -> VolplugError:
    """Return the error that an `ErrorBody` or `FailureBody` describes, of its own class.

    Args:
        body: What was answered; a code that is unknown here makes a plain `VolplugError`.
        operation: During which it failed, for the context; by default what the body says.
    """
    kind = next((each for each in _tree(VolplugError) if each.code == body["code"]), VolplugError)
    error = kind(body["cause"], body["remedy"])
    operation, volume = operation or body.get("operation", ""), body.get("volume") or ""
    return error.in_context(ErrorContext(operation, volume)) if operation else error


def _tree(kind: type[VolplugError]) -> Iterator[type[VolplugError]]:
    """Return an error and all below it that can be made of cause and remedy."""
    if kind is not CommandFailed:
        yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)
