"""What is observed of a volume before each decision: at its backend, on this host, and on its device."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum, auto

from volplug.models import ContentKind, FilesystemPhase, MountState


class BackendState(StrEnum):
    """The volume's state at its backend, from this node's point of view.

    HERE, ELSEWHERE: attached to this node, or to another. INCOMPLETE: its creation was interrupted. CREATING,
    DETACHING, LEAVING and DELETING are transitions; DETACHING is from this node, or from or to one that the
    backend does not name, LEAVING from another node.
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


class DeviceMatch(StrEnum):
    """Whether this host has the volume's device, by identity.

    OUTDATED: the device that the volume was attached as, but no longer the volume's storage. WRONG: a device
    with another identity is where the volume's should be.
    """

    NONE = auto()
    RIGHT = auto()
    OUTDATED = auto()
    WRONG = auto()


class SizeMatch(StrEnum):
    """How the sizes of the backend's record, the device and the filesystem on it compare.

    DEVICE_SMALLER, DEVICE_LARGER: than the record, and the size of the filesystem is not known.
    FILESYSTEM_FITS: the device is not of the record's size, and has all of the filesystem.
    FILESYSTEM_SMALLER, FILESYSTEM_LARGER: than the device.
    """

    EQUAL = auto()
    DEVICE_SMALLER = auto()
    DEVICE_LARGER = auto()
    FILESYSTEM_FITS = auto()
    FILESYSTEM_SMALLER = auto()
    FILESYSTEM_LARGER = auto()


class DeviceUse(StrEnum):
    """Whether the device is in use: the result of opening it exclusively."""

    UNTESTED = auto()
    FREE = auto()
    BUSY = auto()


class HolderVerdict(StrEnum):
    """What a Mount here does about another node that has the volume; judged only where that matters.

    AWAITED: waits, it may detach in time. KEPT: leaves it alone. DEAD: takes over, it is proven dead.
    FENCEABLE: stops it first, its state is unknown and the policy allows it.
    """

    UNASKED = auto()
    AWAITED = auto()
    KEPT = auto()
    DEAD = auto()
    FENCEABLE = auto()


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything the decision depends on.

    Attributes:
        backend_state: The volume's state at its backend.
        device: Whether this host has its device.
        contents: What the device holds, None while unread.
        format_phase: How far its format has come, by its own metadata.
        mount: What is mounted at the volume's place.
        device_use: The result of the release test, if it was made since the last change.
        was_remounted: Whether a read-only mount has been replaced once already.
        holder: What to do about another node that has the volume.
        is_confirmed: Whether the record was read often enough not to be a stale read.
        size: How record, device and filesystem compare in size.
        may_hold_noise: Whether data without a signature on the device may be overwritten by its first format.
    """

    backend_state: BackendState = BackendState.ABSENT
    device: DeviceMatch = DeviceMatch.NONE
    contents: ContentKind | None = None
    format_phase: FilesystemPhase = FilesystemPhase.PENDING
    mount: MountState = MountState.NONE
    device_use: DeviceUse = DeviceUse.UNTESTED
    was_remounted: bool = False
    holder: HolderVerdict = HolderVerdict.UNASKED
    is_confirmed: bool = True
    size: SizeMatch = SizeMatch.EQUAL
    may_hold_noise: bool = False

    def __str__(self) -> str:
        """Return what differs from the defaults, for the log."""
        values = ((each.name, getattr(self, each.name), each.default) for each in fields(self))
        return " ".join(f"{name}={value}" for name, value, default in values if value != default)
