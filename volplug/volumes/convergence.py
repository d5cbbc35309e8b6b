"""The decision: from what is observed and what is wanted to the one next step, or a refusal.

`decide` is pure and total: every combination of observations has an answer, and every combination that is
impossible or dangerous is refused. All paths use it: Docker's calls, recovery at start, and retries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Final

from volplug.models import ContentKind, FilesystemPhase, MountState


class Goal(StrEnum):
    """What a volume should become on this host."""

    PRESENT = auto()
    MOUNTED = auto()
    RELEASED = auto()
    DETACHED = auto()
    ABSENT = auto()


class Record(StrEnum):
    """What the backend says of the volume, from this host's point of view.

    INCOMPLETE: its creation was interrupted; CREATING: the backend is still at it. DETACHING: from this node,
    or from one that the backend does not name. LEAVING: from another node.
    """

    ABSENT = auto()
    INCOMPLETE = auto()
    CREATING = auto()
    AVAILABLE = auto()
    HERE = auto()
    ELSEWHERE = auto()
    DETACHING = auto()
    LEAVING = auto()
    DELETING = auto()
    ERROR = auto()
    DUPLICATE = auto()
    UNREACHABLE = auto()


class Device(StrEnum):
    """What this host's kernel shows of the volume.

    OUTDATED: the device that the volume was attached as, but no longer the volume's storage.
    """

    NONE = auto()
    RIGHT = auto()
    OUTDATED = auto()
    WRONG = auto()


class Kernel(StrEnum):
    """Whether anybody uses the device: the result of opening it exclusively."""

    UNTESTED = auto()
    FREE = auto()
    HELD = auto()


class Standing(StrEnum):
    """What another node's hold on the volume means for a Mount here; asked only where that matters.

    AWAITED: it may let go in time. KEPT: it is left alone. DEAD: proven dead, and may be succeeded.
    FENCEABLE: nobody knows whether it lives, and it may be stopped.
    """

    UNASKED = auto()
    AWAITED = auto()
    KEPT = auto()
    DEAD = auto()
    FENCEABLE = auto()


class Step(StrEnum):
    """One step towards a goal; those not in `PASSIVE_STEPS` change the world."""

    DONE = auto()
    AWAIT_BACKEND = auto()
    AWAIT_NEWS = auto()
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
    INITIALISE = auto()
    UNMOUNT = auto()
    DETACH = auto()
    DELETE = auto()


WAITING_STEPS: Final = frozenset({Step.AWAIT_BACKEND, Step.AWAIT_NEWS, Step.AWAIT_HOLDER})
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


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything the decision depends on.

    Attributes:
        record: What the backend says.
        device: What the kernel shows.
        contents: What reading the device found, None while unread.
        phase: What the volume's own metadata says of its filesystem.
        mount: What is mounted at the volume's place.
        kernel: The result of the release test, if it was made since the last change.
        remounted: Whether a read-only mount has been replaced once already.
        standing: What is to be made of another node that holds the volume.
        confirmed: Whether the record was asked for often enough to be no view of the past.
    """

    record: Record = Record.ABSENT
    device: Device = Device.NONE
    contents: ContentKind | None = None
    phase: FilesystemPhase = FilesystemPhase.PENDING
    mount: MountState = MountState.NONE
    kernel: Kernel = Kernel.UNTESTED
    remounted: bool = False
    standing: Standing = Standing.UNASKED
    confirmed: bool = True


Decision = Step | Refusal

_UNUSABLE: Final = {
    Record.ABSENT: Reason.NOT_FOUND,
    Record.ELSEWHERE: Reason.HELD_ELSEWHERE,
    Record.DELETING: Reason.BEING_DELETED,
    Record.ERROR: Reason.IN_ERROR,
    Record.DUPLICATE: Reason.DUPLICATE,
    Record.UNREACHABLE: Reason.UNREACHABLE,
}


def decide(seen: Observed, goal: Goal) -> Decision:
    """Return the next step towards the goal, DONE if it is reached, or why it is refused."""
    return _RULES[goal](seen)


def _towards_present(seen: Observed) -> Decision:
    match seen.record:
        case Record.ABSENT | Record.INCOMPLETE:
            return Step.CREATE
        case Record.CREATING:
            return Step.AWAIT_BACKEND
        case Record.DELETING:
            return _towards_absent(seen)
        case Record.AVAILABLE | Record.HERE | Record.ELSEWHERE | Record.DETACHING | Record.LEAVING:
            return Step.DONE
        case Record.ERROR | Record.DUPLICATE | Record.UNREACHABLE:
            return Refusal(_UNUSABLE[seen.record])


def _towards_mounted(seen: Observed) -> Decision:
    if seen.record is Record.ELSEWHERE:
        return _from_elsewhere(seen)
    if seen.record in _UNUSABLE:
        return Refusal(_UNUSABLE[seen.record])
    if seen.device in (Device.WRONG, Device.OUTDATED):
        return Refusal(Reason.WRONG_DEVICE)
    match seen.record:
        case Record.INCOMPLETE:
            return Step.CREATE if seen.device is Device.NONE else Refusal(Reason.CONTRADICTION)
        case Record.CREATING | Record.DETACHING:
            return Step.AWAIT_BACKEND
        case Record.LEAVING:
            return _after_leaving(seen)
        case Record.AVAILABLE:
            return Step.ATTACH if seen.device is Device.NONE else Step.AWAIT_BACKEND
        case _ if seen.device is Device.NONE:
            return Step.ATTACH
        case _:
            return _mount_device(seen)


def _from_elsewhere(seen: Observed) -> Decision:
    if seen.device is not Device.NONE:
        return _if_confirmed(seen, Reason.CONTRADICTION)
    match seen.standing:
        case Standing.UNASKED:
            return Step.ASK_HOLDER
        case Standing.AWAITED:
            return Step.AWAIT_HOLDER
        case Standing.FENCEABLE:
            return Step.FENCE
        case Standing.DEAD:
            return Step.TAKE_OVER
        case Standing.KEPT:
            return Refusal(Reason.HELD_ELSEWHERE)


def _after_leaving(seen: Observed) -> Decision:
    """Wait for another node to let go, unless it is dead and will never finish."""
    if seen.device is Device.NONE and seen.standing is Standing.UNASKED:
        return Step.ASK_HOLDER
    is_dead = seen.device is Device.NONE and seen.standing is Standing.DEAD
    return Step.TAKE_OVER if is_dead else Step.AWAIT_BACKEND


def _if_confirmed(seen: Observed, reason: Reason) -> Decision:
    """Refuse for a record that contradicts this host only once it is no view of the past."""
    return Refusal(reason) if seen.confirmed else Step.AWAIT_NEWS


def _mount_device(seen: Observed) -> Decision:
    match seen.mount:
        case MountState.OK:
            return Step.DONE if seen.phase is FilesystemPhase.FORMATTED else _finish_format(seen)
        case MountState.STALE:
            return Step.UNMOUNT
        case MountState.READ_ONLY:
            return Refusal(Reason.READ_ONLY) if seen.remounted else Step.UNMOUNT
        case MountState.NONE:
            return Step.READ_CONTENTS if seen.contents is None else _use_contents(seen)


def _finish_format(seen: Observed) -> Decision:
    """A mount before the format is finished is our own, or somebody tampered with the tag."""
    if seen.phase is FilesystemPhase.FORMATTING:
        return Step.INITIALISE
    return _if_confirmed(seen, Reason.MOUNTED_UNFORMATTED)


def _use_contents(seen: Observed) -> Decision:
    match seen.phase:
        case FilesystemPhase.PENDING:
            if seen.contents is not ContentKind.BLANK:
                return _if_confirmed(seen, Reason.NOT_BLANK)
            return _if_free(seen, Step.TAG_FORMATTING)
        case FilesystemPhase.FORMATTING:
            return _resume_format(seen)
        case FilesystemPhase.FORMATTED:
            if seen.contents is ContentKind.OURS:
                return Step.MOUNT
            if seen.contents is ContentKind.DIRTY:
                return _check_if_free(seen)
            return Refusal(Reason.FILESYSTEM_GONE)


def _resume_format(seen: Observed) -> Decision:
    if seen.contents is ContentKind.FOREIGN:
        return _if_confirmed(seen, Reason.FOREIGN_DURING_FORMAT)
    if seen.contents is ContentKind.OURS:
        return Step.MOUNT
    if seen.contents is ContentKind.DIRTY:
        return _check_if_free(seen)
    return _if_free(seen, Step.MAKE_FILESYSTEM)


def _check_if_free(seen: Observed) -> Decision:
    """A filesystem in use elsewhere on this host looks dirty and must not be checked: it is mounted again."""
    if seen.kernel is Kernel.UNTESTED:
        return Step.TEST_RELEASE
    return Step.CHECK_FILESYSTEM if seen.kernel is Kernel.FREE else Step.MOUNT


def _if_free(seen: Observed, step: Step) -> Decision:
    match seen.kernel:
        case Kernel.UNTESTED:
            return Step.TEST_RELEASE
        case Kernel.HELD:
            return Refusal(Reason.HELD_HERE)
        case Kernel.FREE:
            return step


def _towards_released(seen: Observed) -> Decision:
    if seen.mount is not MountState.NONE:
        is_nameless = seen.device is Device.NONE and seen.record in {Record.UNREACHABLE, Record.DUPLICATE}
        # After the unmount nobody could tell which device to test.
        return Refusal(_UNUSABLE[seen.record]) if is_nameless else Step.UNMOUNT
    match seen.device:
        case Device.NONE:
            return Step.DONE
        case Device.WRONG:
            return Refusal(Reason.WRONG_DEVICE)
        case Device.RIGHT | Device.OUTDATED:
            return _if_free(seen, Step.DONE)


def _towards_detached(seen: Observed) -> Decision:
    released = _towards_released(seen)
    if released is not Step.DONE:
        return released
    match seen.record:
        case Record.HERE:
            return Step.DETACH
        case Record.DETACHING:
            return Step.AWAIT_BACKEND
        case Record.DUPLICATE | Record.UNREACHABLE:
            return Refusal(_UNUSABLE[seen.record])
        case _ if seen.device is Device.NONE:
            return Step.DONE
        case Record.ABSENT | Record.ERROR:
            return Step.DETACH
        case Record.AVAILABLE:
            return Step.DETACH if seen.device is Device.OUTDATED else Step.AWAIT_BACKEND
        case Record.CREATING:
            return Step.AWAIT_BACKEND
        case Record.ELSEWHERE | Record.LEAVING | Record.INCOMPLETE | Record.DELETING:
            return Refusal(Reason.CONTRADICTION)


def _towards_absent(seen: Observed) -> Decision:
    detached = _towards_detached(seen)
    if detached is not Step.DONE:
        return detached
    match seen.record:
        case Record.ABSENT:
            return Step.DONE
        case Record.ELSEWHERE:
            return Refusal(Reason.HELD_ELSEWHERE)
        case Record.CREATING | Record.LEAVING:
            return Step.AWAIT_BACKEND
        case _:
            return Step.DELETE


_RULES: Final[dict[Goal, Callable[[Observed], Decision]]] = {
    Goal.PRESENT: _towards_present,
    Goal.MOUNTED: _towards_mounted,
    Goal.RELEASED: _towards_released,
    Goal.DETACHED: _towards_detached,
    Goal.ABSENT: _towards_absent,
}
