"""The tree of all errors that users see.

An error is raised where its cause is known, gets its context (operation, volume, backend, node) where that is
known, and is logged once where it is handled. Its text is one ASCII line:

    <cause> [<operation> "<volume>", <backend> <id>, node <node>]. <what to do>.

The cause comes first because lists of tasks cut lines: `docker service ps` shows 30 characters. For the same
reason names are shortened, and the line has at most 300 characters, cut between words. Secrets are masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from volplug.masking import masked

MAX_TEXT_LENGTH = 300
_MAX_NAME_LENGTH = 24


@dataclass(frozen=True, slots=True)
class ErrorContext:
    """The operation during which an error occurred, and its volume."""

    operation: str
    volume: str = ""
    backend: str = ""
    volume_id: str = ""
    node_id: str = ""


class VolplugError(Exception):
    """Base of all errors that users see.

    Attributes:
        code: Stable kebab-case name, listed in docs/errors.md.
        retryable: Whether the same request may succeed later without any other change.
        is_bounded: Whether its text is at most 300 characters long.
        cause: Why it failed, without a final full stop.
        remedy: What the user can do, without a final full stop; may be empty.
        context: Where it failed; None until a caller that knows adds it.
    """

    code: ClassVar[str] = "internal-error"
    retryable: ClassVar[bool] = False
    is_bounded: ClassVar[bool] = True

    def __init__(self, cause: str, remedy: str = "") -> None:
        self.cause = masked(cause)  # now, because a caller may quote a part of it
        self.remedy = masked(remedy)
        super().__init__(self.cause)
        self.context: ErrorContext | None = None

    def in_context(self, context: ErrorContext) -> Self:
        """Add the context unless it has one, from a caller nearer to the cause."""
        if self.context is None:
            self.context = context
        return self

    def __str__(self) -> str:
        cause = _one_line(self.cause.removesuffix("."))
        context = f" [{_describe(self.context)}]" if self.context else ""
        remedy = f" {_one_line(_sentence(self.remedy))}" if self.remedy else ""
        if self.is_bounded:
            room = MAX_TEXT_LENGTH - len(context) - 1
            remedy = _shorten(remedy, max(room - len(cause), MAX_TEXT_LENGTH // 2))
            cause = _shorten(cause, room - len(remedy))
        return _sentence(cause + context) + remedy


def internal_error(error: Exception) -> VolplugError:
    """Return the error for an unexpected exception, that is, a bug in volplug."""
    return VolplugError(f"internal error: {error!r}", "See the log of volplug")


def _describe(context: ErrorContext) -> str:
    volume = f' "{middle_out(context.volume)}"' if context.volume else ""
    place = " ".join(middle_out(part) for part in (context.backend, context.volume_id) if part)
    node = f"node {middle_out(context.node_id)}" if context.node_id else ""
    return ", ".join(part for part in (f"{context.operation}{volume}", place, node) if part)


def middle_out(name: str) -> str:
    """Return a name in ASCII, without its middle if it is long."""
    name = _one_line(name)
    return name if len(name) <= _MAX_NAME_LENGTH else f"{name[:12]}..{name[-10:]}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _one_line(text: str) -> str:
    flat = "".join(char if char.isprintable() else " " for char in text)
    return flat.encode("ascii", "backslashreplace").decode("ascii")


def _shorten(text: str, room: int) -> str:
    """Cut between words, or within one that would leave less than half of the room."""
    if len(text) <= room:
        return text
    cut = text[: max(room - 3, 0)]
    words = cut.rpartition(" ")[0].rstrip(" ,;:.")
    return f"{words if len(words) * 2 > len(cut) else cut}..."


class InvalidRequest(VolplugError):
    """The request can never succeed as it stands."""

    code = "invalid-request"


class InvalidName(InvalidRequest):
    """The volume name breaks the naming rule."""

    code = "invalid-name"


class InvalidOption(InvalidRequest):
    """An option is unknown or its value is."""

    code = "invalid-option"


class OptionHelp(InvalidOption):
    """The options that `-o help` asks for; no failure, but only errors reach the user of `docker volume`."""

    code = "option-help"
    is_bounded = False


class InvalidSize(InvalidRequest):
    """A size cannot be read or is out of range."""

    code = "invalid-size"


class IdempotencyKeyReused(InvalidRequest):
    """The idempotency key was used for another request."""

    code = "idempotency-key-reused"


class RequestTooLarge(InvalidRequest):
    """The request's body is longer than the control API reads."""

    code = "request-too-large"


class RequestTooSlow(InvalidRequest):
    """The request's body did not arrive in time."""

    code = "request-too-slow"
    retryable = True


class WrongMediaType(InvalidRequest):
    """The request's body is not declared as JSON."""

    code = "wrong-media-type"


class MethodNotAllowed(InvalidRequest):
    """The control API has the path, but not with this method; `allowed` lists those that it has."""

    code = "method-not-allowed"

    def __init__(self, cause: str, remedy: str = "", *, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(cause, remedy)
        self.allowed = allowed


class WrongHost(InvalidRequest):
    """The request is addressed to a name that this host's control API does not have."""

    code = "wrong-host"


class Unauthenticated(VolplugError):
    """The client of the control API has shown no token or certificate that is known here."""

    code = "unauthenticated"


class Forbidden(VolplugError):
    """The client of the control API is known, and its role does not permit the request."""

    code = "forbidden"


class TooManyWaiting(VolplugError):
    """As many requests wait, or operations of the control API run, as are permitted."""

    code = "too-many-waiting"
    retryable = True


class ConfigurationError(InvalidRequest):
    """The settings of this host are missing something or contradict each other.

    `mistakes` are all that were found, if it stands for several; else it is empty.
    """

    code = "configuration-error"

    def __init__(self, cause: str, remedy: str = "", *, mistakes: Sequence[ConfigurationError] = ()) -> None:
        super().__init__(cause, remedy)
        self.mistakes = tuple(mistakes)


class NotFound(VolplugError):
    """Something named in the request does not exist."""

    code = "not-found"


class VolumeNotFound(NotFound):
    """No volume of this name or id exists at the backend."""

    code = "volume-not-found"


class OperationNotFound(NotFound):
    """No operation of this id is known, or not any more."""

    code = "operation-not-found"


class BackendNotFound(NotFound):
    """No backend of this name is configured."""

    code = "backend-not-found"


class Conflict(VolplugError):
    """The request contradicts what exists."""

    code = "conflict"


class PreconditionFailed(Conflict):
    """The volume is not what the request's If-Match says."""

    code = "precondition-failed"


class VolumeExists(Conflict):
    """A volume of this name exists and differs from the requested one."""

    code = "volume-exists"


class VolumeInUse(Conflict):
    """The volume is in use; `holder` names the node or process, if known."""

    code = "volume-in-use"
    retryable = True

    def __init__(self, cause: str, remedy: str = "", *, holder: str = "") -> None:
        super().__init__(cause, remedy)
        self.holder = holder


class DuplicateVolumes(Conflict):
    """Several volumes have one name; `volume_ids` lists them."""

    code = "duplicate-volumes"

    def __init__(self, cause: str, remedy: str = "", *, volume_ids: tuple[str, ...] = ()) -> None:
        super().__init__(cause, remedy)
        self.volume_ids = volume_ids


class ClientGone(Conflict):
    """The client disconnected before its Mount was answered; the Mount is not counted."""

    code = "client-gone"


class NotCancellable(Conflict):
    """The operation has ended, or was not started through the control API."""

    code = "not-cancellable"


class OperationCancelled(Conflict):
    """The operation was cancelled by a client of the control API."""

    code = "cancelled"


class OperationInterrupted(VolplugError):
    """volplug was restarted while the operation ran, and its goal is not reached."""

    code = "interrupted"
    retryable = True


class LimitExceeded(VolplugError):
    """A quota, a limit of the backend or the free space would be exceeded."""

    code = "limit-exceeded"


class Unsupported(VolplugError):
    """The driver or this host cannot do this."""

    code = "unsupported"


class BackendError(VolplugError):
    """Unexpected failure of the backend."""

    code = "backend-error"


class BackendUnavailable(BackendError):
    """The backend does not answer."""

    code = "backend-unavailable"
    retryable = True
    is_throttled = False  # whether it limits how often it is called; set where that is known


class BackendDenied(BackendError):
    """The backend refuses our credentials."""

    code = "backend-denied"
    permission = ""  # what they lack, in the backend's words; "" if they are not accepted at all


class UnexpectedState(BackendError):
    """The backend reports a state that this operation cannot start from."""

    code = "unexpected-state"


class OperationTimeout(VolplugError):
    """The time limit for an answer has passed; the operation continues and a retry joins it."""

    code = "operation-timeout"
    retryable = True


class HostError(VolplugError):
    """Something on this host failed."""

    code = "host-error"


class StateUnusable(HostError):
    """The state directory is not the one used before, or is from a newer volplug."""

    code = "state-unusable"


class AlreadyRunning(HostError):
    """Another process serves this state directory or socket."""

    code = "already-running"


class CommandFailed(HostError):
    """A program ended with an exit code that means failure."""

    code = "command-failed"

    def __init__(self, argv: tuple[str, ...], exit_code: int, output: str) -> None:
        quoted = f": {output.strip()}" if output.strip() else ""
        super().__init__(f"{argv[0]} ended with exit code {exit_code}{quoted}")
        self.argv = argv
        self.exit_code = exit_code
        self.output = output


class DeviceNotFound(HostError):
    """The device of an attached volume is missing."""

    code = "device-not-found"
    retryable = True


class DeviceMismatch(HostError):
    """A device or image is not the one that the volume's record describes."""

    code = "device-mismatch"


class FilesystemMismatch(HostError):
    """A device does not hold the filesystem that the volume's record describes."""

    code = "filesystem-mismatch"


class MountFailed(HostError):
    """The kernel refused to mount or unmount."""

    code = "mount-failed"


class DirectoryUnavailable(VolplugError):
    """The directory of the cluster's nodes, etcd, does not answer."""

    code = "directory-unavailable"
    retryable = True


class DirectoryDenied(VolplugError):
    """etcd refuses the user, password or certificate."""

    code = "directory-denied"


class NeedsEtcd(Unsupported):
    """Nodes have to agree on it, and the cluster has no etcd to do so."""

    code = "needs-etcd"


class NotMember(Conflict):
    """This host is a member of no cluster."""

    code = "not-a-member"


class AlreadyMember(Conflict):
    """This host is a member of a cluster, or the cluster exists."""

    code = "already-a-member"


class NodeExists(Conflict):
    """The cluster has a node of this name or address."""

    code = "node-exists"


class NodeNotFound(NotFound):
    """The cluster has no node of this name."""

    code = "node-not-found"


class NotSigner(Conflict):
    """The node does not have the key of the cluster's authority."""

    code = "not-a-signer"


class JoinRefused(Forbidden):
    """The join token is unknown, was used, or has expired."""

    code = "join-refused"


class PeerUnreachable(VolplugError):
    """Another node does not answer."""

    code = "peer-unreachable"
    retryable = True


class PeerInvalid(VolplugError):
    """Another node answers what cannot be used, or is not the node that was meant."""

    code = "peer-invalid"
