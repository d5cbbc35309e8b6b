"""Exit codes of the command line, and which error has which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from volplug.api.client_errors import DaemonUnreachable, WaitTimedOut
from volplug.errors import (
    BackendNotFound,
    Forbidden,
    InvalidRequest,
    NotFound,
    OperationNotFound,
    Unauthenticated,
    VolplugError,
    VolumeInUse,
    VolumeNotFound,
    WrongHost,
)


class ExitCode(IntEnum):
    """How a command ended; docs/cli.md lists them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    IN_USE = 4
    UNREACHABLE = 5
    DENIED = 6
    TIMED_OUT = 7
    INTERRUPTED = 130  # as of shells: 128 and the number of SIGINT


# An error that is not listed has the code of the nearest of its bases.
_CODES: Final[Mapping[type[VolplugError], ExitCode]] = {
    VolplugError: ExitCode.FAILED,
    InvalidRequest: ExitCode.USAGE,
    NotFound: ExitCode.NOT_FOUND,
    VolumeInUse: ExitCode.IN_USE,
    DaemonUnreachable: ExitCode.UNREACHABLE,
    Unauthenticated: ExitCode.DENIED,
    Forbidden: ExitCode.DENIED,
    WrongHost: ExitCode.DENIED,
    WaitTimedOut: ExitCode.TIMED_OUT,
}
# In place of the API's own advice, which is for its other clients.
_REMEDIES: Final[Mapping[type[VolplugError], str]] = {
    VolumeNotFound: "volplug volume ls lists those that exist",
    BackendNotFound: "volplug backend ls lists those that are configured",
    OperationNotFound: "volplug operation ls lists those that are known",
    Unauthenticated: "Name a token by --token-file, or a certificate by --tlscert and --tlskey",
}


def exit_code_of(error: VolplugError) -> ExitCode:
    """Return the exit code of a command that fails with an error."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def told(error: VolplugError) -> str:
    """Return the line that tells an error to a person."""
    shown = type(error)(error.cause, _REMEDIES[type(error)]) if type(error) in _REMEDIES else error
    shown.context = error.context
    return f"volplug: {shown}"
