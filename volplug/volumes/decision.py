"""The decision: maps an observation and a goal to the one next step, or to a refusal.

`decide` is pure and total: every combination of observations has an answer, and every combination that is
impossible or dangerous is refused. All paths use it: Docker's calls, recovery at start, and retries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Final

from volplug.models import ContentKind, FilesystemPhase, MountState
from volplug.volumes.observed import BackendState, DeviceMatch, DeviceUse, HolderVerdict, Observed, SizeMatch


class Goal(StrEnum):
    """What a volume should become on this host; UNHELD: no other node has it."""

    PRESENT = auto()
    MOUNTED = auto()
    RELEASED = auto()
    DETACHED = auto()
    ABSENT = auto()
    UNHELD = auto()


class Step(StrEnum):
    """One step towards a goal; those not in `PASSIVE_STEPS` change the world."""

    DONE = auto()
    AWAIT_BACKEND = auto()
    RECHECK_RECORD = auto()
    ASK_HOLDER = auto()
    AWAIT_HOLDER = auto()
    FENCE = auto()
    TAKE_OVER = auto()
    READ_CONTENTS = auto()
    TEST_RELEASE = auto()
    CREATE = auto()
    ATTACH = auto()
    TAG_FORMATTING = auto()
    MAKE_FILESYSTEM = auto()
    CHECK_FILESYSTEM = auto()
    MOUNT = auto()
    FINISH_FORMAT = auto()
    UNMOUNT = auto()
    DETACH = auto()
    DELETE = auto()


WAITING_STEPS: Final = frozenset({Step.AWAIT_BACKEND, Step.RECHECK_RECORD, Step.AWAIT_HOLDER})
PASSIVE_STEPS: Final = WAITING_STEPS | {Step.DONE, Step.ASK_HOLDER, Step.READ_CONTENTS, Step.TEST_RELEASE}


class Reason(StrEnum):
    """Why a goal is refused."""

    NOT_FOUND = auto()
    UNREACHABLE = auto()
    DUPLICATE = auto()
    BEING_DELETED = auto()
    IN_ERROR = auto()
    HELD_ELSEWHERE = auto()
    HELD_HERE = auto()
    WRONG_DEVICE = auto()
    WRONG_SIZE = auto()
    CUT_OFF = auto()
    CONTRADICTION = auto()
    MOUNTED_UNFORMATTED = auto()
    NOT_BLANK = auto()
    FOREIGN_DURING_FORMAT = auto()
    FILESYSTEM_GONE = auto()
    READ_ONLY = auto()


@dataclass(frozen=True, slots=True)
class Refusal:
    """The goal cannot be reached safely from here."""

    reason: Reason

    def __str__(self) -> str:
        """Return it in words, for the log."""
        return f"refused: {self.reason}"


Decision = Step | Refusal

_OTHER_DEVICE_SIZES: Final = frozenset({SizeMatch.DEVICE_SMALLER, SizeMatch.DEVICE_LARGER})
_UNUSABLE: Final = {
    BackendState.ABSENT: Reason.NOT_FOUND,
    BackendState.ELSEWHERE: Reason.HELD_ELSEWHERE,
    BackendState.DELETING: Reason.BEING_DELETED,
    BackendState.ERROR: Reason.IN_ERROR,
    BackendState.DUPLICATE: Reason.DUPLICATE,
    BackendState.UNREACHABLE: Reason.UNREACHABLE,
}


def decide(seen: Observed, goal: Goal) -> Decision:
    """Return the next step towards the goal, DONE if it is reached, or why it is refused."""
    return _RULES[goal](seen)


def _towards_present(seen: Observed) -> Decision:
    match seen.backend_state:
        case BackendState.ABSENT | BackendState.INCOMPLETE:
            return Step.CREATE
        case BackendState.CREATING:
            return Step.AWAIT_BACKEND
        case BackendState.DELETING:
            return _towards_absent(seen)
        case (
            BackendState.AVAILABLE
            | BackendState.HERE
            | BackendState.ELSEWHERE
            | BackendState.DETACHING
            | BackendState.LEAVING
        ):
            return Step.DONE
        case BackendState.ERROR | BackendState.DUPLICATE | BackendState.UNREACHABLE:
            return Refusal(_UNUSABLE[seen.backend_state])


def _towards_mounted(seen: Observed) -> Decision:
    if seen.backend_state is BackendState.ELSEWHERE:
        return _from_elsewhere(seen)
    if seen.backend_state in _UNUSABLE:
        return Refusal(_UNUSABLE[seen.backend_state])
    if seen.device in (DeviceMatch.WRONG, DeviceMatch.OUTDATED):
        return Refusal(Reason.WRONG_DEVICE)
    match seen.backend_state:
        case BackendState.INCOMPLETE:
            return Step.CREATE if seen.device is DeviceMatch.NONE else Refusal(Reason.CONTRADICTION)
        case BackendState.CREATING | BackendState.DETACHING:
            return Step.AWAIT_BACKEND
        case BackendState.LEAVING:
            return _after_leaving(seen)
        case BackendState.AVAILABLE:
            return Step.ATTACH if seen.device is DeviceMatch.NONE else Step.AWAIT_BACKEND
        case _ if seen.device is DeviceMatch.NONE:
            return Step.ATTACH
        case _:
            return _mount_device(seen)


def _towards_unheld(seen: Observed) -> Decision:
    match seen.backend_state:
        case BackendState.ELSEWHERE:
            return _from_elsewhere(seen)
        case BackendState.LEAVING:
            return _after_leaving(seen)
        case BackendState.DETACHING:
            return Step.AWAIT_BACKEND
        case BackendState.INCOMPLETE | BackendState.CREATING | BackendState.AVAILABLE | BackendState.HERE:
            return Step.DONE
        case _:
            return Refusal(_UNUSABLE[seen.backend_state])


def _from_elsewhere(seen: Observed) -> Decision:
    if seen.device is not DeviceMatch.NONE:
        return _if_confirmed(seen, Reason.CONTRADICTION)
    match seen.holder:
        case HolderVerdict.UNASKED:
            return Step.ASK_HOLDER
        case HolderVerdict.AWAITED:
            return Step.AWAIT_HOLDER
        case HolderVerdict.FENCEABLE:
            return Step.FENCE
        case HolderVerdict.DEAD:
            return Step.TAKE_OVER
        case HolderVerdict.KEPT:
            return Refusal(Reason.HELD_ELSEWHERE)


def _after_leaving(seen: Observed) -> Decision:
    """Wait for the detach from another node to end, unless that node is dead and will never finish it."""
    if seen.device is DeviceMatch.NONE and seen.holder is HolderVerdict.UNASKED:
        return Step.ASK_HOLDER
    is_dead = seen.device is DeviceMatch.NONE and seen.holder is HolderVerdict.DEAD
    return Step.TAKE_OVER if is_dead else Step.AWAIT_BACKEND


def _if_confirmed(seen: Observed, reason: Reason) -> Decision:
    """Refuse for a record that contradicts this host only once it is not a stale read."""
    return Refusal(reason) if seen.is_confirmed else Step.RECHECK_RECORD


def _mount_device(seen: Observed) -> Decision:
    match seen.mount:
        case MountState.OK:
            return Step.DONE if seen.format_phase is FilesystemPhase.FORMATTED else _finish_format(seen)
        case MountState.STALE:
            return Step.UNMOUNT
        case MountState.READ_ONLY:
            return Refusal(Reason.READ_ONLY) if seen.was_remounted else Step.UNMOUNT
        case MountState.NONE if _has_wrong_size(seen):
            return _if_confirmed(seen, Reason.WRONG_SIZE)
        case MountState.NONE if seen.contents is None:
            return Step.READ_CONTENTS
        case MountState.NONE if seen.size is SizeMatch.FILESYSTEM_LARGER:
            return Refusal(Reason.CUT_OFF)
        case MountState.NONE:
            return _use_contents(seen)


def _has_wrong_size(seen: Observed) -> bool:
    """Tell whether the size forbids a mount: a filesystem that has all its data is mounted, none is made."""
    if seen.format_phase is FilesystemPhase.FORMATTED:
        return seen.contents is not None and seen.size in _OTHER_DEVICE_SIZES
    return seen.size in _OTHER_DEVICE_SIZES or seen.size is SizeMatch.FILESYSTEM_FITS


def _finish_format(seen: Observed) -> Decision:
    """A mount before the format is finished is our own, or the tag was changed by hand."""
    if seen.format_phase is FilesystemPhase.FORMATTING:
        return Step.FINISH_FORMAT
    return _if_confirmed(seen, Reason.MOUNTED_UNFORMATTED)


def _use_contents(seen: Observed) -> Decision:
    match seen.format_phase:
        case FilesystemPhase.PENDING:
            if seen.contents is ContentKind.BLANK or _is_noise(seen):
                return _if_free(seen, Step.TAG_FORMATTING)
            return _if_confirmed(seen, Reason.NOT_BLANK)
        case FilesystemPhase.FORMATTING:
            return _resume_format(seen)
        case FilesystemPhase.FORMATTED:
            if seen.contents is ContentKind.OURS:
                return Step.MOUNT
            if seen.contents is ContentKind.DIRTY:
                return _check_if_free(seen)
            return Refusal(Reason.FILESYSTEM_GONE)


def _resume_format(seen: Observed) -> Decision:
    if seen.contents in (ContentKind.BLANK, ContentKind.PARTIAL) or _is_noise(seen):
        return _if_free(seen, Step.MAKE_FILESYSTEM)
    if seen.contents is ContentKind.OURS:
        return Step.MOUNT
    if seen.contents is ContentKind.DIRTY:
        return _check_if_free(seen)
    return _if_confirmed(seen, Reason.FOREIGN_DURING_FORMAT)


def _is_noise(seen: Observed) -> bool:
    return seen.contents is ContentKind.UNCLAIMED and seen.may_hold_noise


def _check_if_free(seen: Observed) -> Decision:
    """A filesystem in use on this host, in another mount namespace, reads as dirty: it is not checked."""
    if seen.device_use is DeviceUse.UNTESTED:
        return Step.TEST_RELEASE
    return Step.CHECK_FILESYSTEM if seen.device_use is DeviceUse.FREE else Step.MOUNT


def _if_free(seen: Observed, step: Step) -> Decision:
    match seen.device_use:
        case DeviceUse.UNTESTED:
            return Step.TEST_RELEASE
        case DeviceUse.BUSY:
            return Refusal(Reason.HELD_HERE)
        case DeviceUse.FREE:
            return step


def _towards_released(seen: Observed) -> Decision:
    if seen.mount is not MountState.NONE:
        is_nameless = seen.device is DeviceMatch.NONE and seen.backend_state in {
            BackendState.UNREACHABLE,
            BackendState.DUPLICATE,
        }
        # After the unmount it could not be told which device to test.
        return Refusal(_UNUSABLE[seen.backend_state]) if is_nameless else Step.UNMOUNT
    match seen.device:
        case DeviceMatch.NONE:
            return Step.DONE
        case DeviceMatch.WRONG:
            return Refusal(Reason.WRONG_DEVICE)
        case DeviceMatch.RIGHT | DeviceMatch.OUTDATED:
            return _if_free(seen, Step.DONE)


def _towards_detached(seen: Observed) -> Decision:
    released = _towards_released(seen)
    if released is not Step.DONE:
        return released
    match seen.backend_state:
        case BackendState.HERE:
            return Step.DETACH
        case BackendState.DETACHING:
            return Step.AWAIT_BACKEND
        case BackendState.DUPLICATE | BackendState.UNREACHABLE:
            return Refusal(_UNUSABLE[seen.backend_state])
        case _ if seen.device is DeviceMatch.NONE:
            return Step.DONE
        case BackendState.ABSENT | BackendState.ERROR:
            return Step.DETACH
        case BackendState.AVAILABLE:
            return Step.DETACH if seen.device is DeviceMatch.OUTDATED else Step.AWAIT_BACKEND
        case BackendState.CREATING:
            return Step.AWAIT_BACKEND
        case BackendState.ELSEWHERE | BackendState.LEAVING | BackendState.INCOMPLETE | BackendState.DELETING:
            return Refusal(Reason.CONTRADICTION)


def _towards_absent(seen: Observed) -> Decision:
    detached = _towards_detached(seen)
    if detached is not Step.DONE:
        return detached
    match seen.backend_state:
        case BackendState.ABSENT:
            return Step.DONE
        case BackendState.ELSEWHERE:
            return Refusal(Reason.HELD_ELSEWHERE)
        case BackendState.CREATING | BackendState.LEAVING:
            return Step.AWAIT_BACKEND
        case _:
            return Step.DELETE


_RULES: Final[dict[Goal, Callable[[Observed], Decision]]] = {
    Goal.PRESENT: _towards_present,
    Goal.MOUNTED: _towards_mounted,
    Goal.RELEASED: _towards_released,
    Goal.DETACHED: _towards_detached,
    Goal.ABSENT: _towards_absent,
    Goal.UNHELD: _towards_unheld,
}
