"""The nouns: frozen values that every layer speaks in. No behaviour beyond reading and writing them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from volplug.errors import UnexpectedState


class VolumeState(StrEnum):
    """The state of a volume at its backend, in the words of EBS and Cinder.

    CREATING and DETACHING are transitions: they end by themselves, and nothing else can be done before that.
    ATTACHING is IN_USE by the node that attaches, and a transition if the backend does not name that node.
    INCOMPLETE is no word of theirs: a creation was interrupted, and only the same `create` finishes it.
    """

    INCOMPLETE = "incomplete"
    CREATING = "creating"
    AVAILABLE = "available"
    ATTACHING = "attaching"
    IN_USE = "in-use"
    DETACHING = "detaching"
    DELETING = "deleting"
    ERROR = "error"


class FilesystemPhase(StrEnum):
    """How far the one-time format of a volume has come."""

    PENDING = "pending"
    FORMATTING = "formatting"
    FORMATTED = "formatted"

    @property
    def rank(self) -> int:
        """Return the place in the order of a format, which only advances."""
        return list(FilesystemPhase).index(self)


@dataclass(frozen=True, slots=True)
class FilesystemTag:
    """The volume's own metadata on its contents. It alone can permit mkfs.

    Attributes:
        phase: PENDING only on volumes that volplug created blank.
        fs_type: Empty while pending.
        uuid: The planned (FORMATTING) or expected (FORMATTED) filesystem UUID; empty while pending.
    """

    phase: FilesystemPhase = FilesystemPhase.PENDING
    fs_type: str = ""
    uuid: str = ""

    def to_text(self) -> str:
        """Return the value of the `fs` tag: `pending`, `formatting:TYPE:UUID` or `TYPE`."""
        if self.phase is FilesystemPhase.PENDING:
            return "pending"
        if self.phase is FilesystemPhase.FORMATTING:
            return f"formatting:{self.fs_type}:{self.uuid}"
        return self.fs_type

    @classmethod
    def from_text(cls, text: str, uuid: str) -> FilesystemTag:
        """Read the `fs` tag and its companion, the `fs-uuid` tag.

        Raises:
            UnexpectedState: If the tag cannot be read; nothing may be concluded from it then.
        """
        if text == "pending":
            return cls()
        if text.startswith("formatting:"):
            match text.split(":"):
                case [_, fs_type, planned] if fs_type and planned:
                    return cls(FilesystemPhase.FORMATTING, fs_type, planned)
        elif text and ":" not in text:
            return cls(FilesystemPhase.FORMATTED, text, uuid)
        raise UnexpectedState(
            f"the volume's filesystem tag {text!r} cannot be read", "Nothing was changed; correct the tag"
        )


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """What a volume was asked to be; kept with the volume.

    Attributes:
        name: Docker's name.
        size_bytes: A whole number of the driver's allocation units.
        fs_type: ext4, xfs or btrfs, or that of the driver's own filesystems.
        mkfs_options: Extra arguments of mkfs, already checked.
        mount_options: Extra options of mount, already checked.
        uid: Owner of the data directory, applied once at format.
        gid: Group of the data directory, applied once at format.
        mode: Permission bits of the data directory, applied once at format.
        profile: The profile chosen, for display.
        driver_options: Options only the driver understands, as sorted pairs.
    """

    name: str
    size_bytes: int
    fs_type: str = "ext4"
    mkfs_options: tuple[str, ...] = ()
    mount_options: tuple[str, ...] = ()
    uid: int = 0
    gid: int = 0
    mode: int = 0o755
    profile: str = "default"
    driver_options: tuple[tuple[str, str], ...] = ()


Detail = str | int | bool


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume as its backend describes it.

    Attributes:
        name: Docker's name.
        volume_id: The backend's name for it; a volume created anew under an old name has another id.
        backend: Name of the configured backend.
        size_bytes: Its real size.
        state: As the backend reports it.
        spec: What it was asked to be.
        filesystem: Its metadata on its contents.
        subpath: Directory inside the filesystem that containers see; empty for the root.
        created_at: With time zone, or None where the backend does not know.
        holder: Node id of the host that has it attached, or None.
        detail: Why the state is `error`.
        details: What else `docker volume inspect` shows of it, such as its type, as pairs in their order.
            They rarely change: each change is written to this host's state.
    """

    name: str
    volume_id: str
    backend: str
    size_bytes: int
    state: VolumeState
    spec: VolumeSpec
    filesystem: FilesystemTag = field(default_factory=FilesystemTag)
    subpath: str = "data"
    created_at: datetime | None = None
    holder: str | None = None
    detail: str = ""
    details: tuple[tuple[str, Detail], ...] = ()


def not_older(found: Volume, known: Volume | None) -> Volume:
    """Return what was found, but without what may not replace what is known of the same volume.

    A read of a cloud may be stale: an old filesystem tag, taken for the current one, would permit mkfs over
    data.
    """
    if known is None or known.volume_id != found.volume_id:
        return found
    if found.filesystem.phase.rank >= known.filesystem.phase.rank:
        return found
    return replace(found, filesystem=known.filesystem)


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """A mount source that is a block device: what mount(2) needs of an attached volume.

    Attributes:
        device: Path of the block device.
        serial: What identified the device as this volume's.
        size_bytes: Size of the device as the kernel reports it.
        outdated: Why the device is no longer the volume's storage, such as an image that was replaced; empty
            if it is. It is still what is mounted here, and has to be tested, released and detached.
        hidden_bytes: How much of the volume its attachment may keep for itself, such as the header of its
            encryption; the device may be smaller by that.
        may_hold_noise: Whether data without any signature on it is certainly no one's: the volume was created
            by this host, this is its first attachment, and its creator accepts that its blocks may not read
            as zeros. See docs/ARCHITECTURE.md, "When mkfs may run".
    """

    device: str
    serial: str
    size_bytes: int
    outdated: str = ""
    hidden_bytes: int = 0
    may_hold_noise: bool = False

    @property
    def name(self) -> str:
        """Return what mount(2) takes, and what errors and the log call it."""
        return self.device


@dataclass(frozen=True, slots=True)
class NamedFilesystem:
    """A mount source that is a filesystem without a device of its own, such as a dataset of ZFS.

    Attributes:
        name: What mount(2) takes, and what the kernel shows as the source of its mounts.
        serial: What identified it as this volume's.
        fs_type: A name in `volplug.host.filesystems.NAMED`.
        outdated: As that of a device.
        staging: The directory at which the filesystem's own tools mount it, where the kernel cannot; empty
            where mount(2) does.
    """

    name: str
    serial: str
    fs_type: str
    outdated: str = ""
    staging: str = ""


MountSource = BlockDevice | NamedFilesystem


class ContentKind(StrEnum):
    """What a device holds, judged against the volume's filesystem tag."""

    BLANK = "blank"
    OURS = "ours"
    DIRTY = "dirty"
    PARTIAL = "partial"
    UNCLAIMED = "unclaimed"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Contents:
    """What reading a device found.

    Attributes:
        kind: BLANK: no signature and zeros in all samples. OURS: the expected filesystem, cleanly
            unmounted. DIRTY: the expected filesystem, in use or not cleanly unmounted. PARTIAL: what an
            interrupted format of ours left, by its mark. UNCLAIMED: data without any signature, as a damaged
            superblock leaves it, or noise on a new disk. FOREIGN: anything else, such as another filesystem,
            a partition table, LVM or LUKS.
        description: For error messages: what is there, such as `an LVM2_member signature`.
        filesystem_bytes: Size of the expected filesystem by its superblock; None where it was not read.
    """

    kind: ContentKind
    description: str
    filesystem_bytes: int | None = None


class MountState(StrEnum):
    """What is mounted at a volume's place under the mount root."""

    NONE = "none"
    OK = "ok"
    STALE = "stale"
    READ_ONLY = "read-only"


class HolderState(StrEnum):
    """Whether the node that holds a volume is alive, as far as it can be proven."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


class TakeoverPolicy(StrEnum):
    """When a volume may be taken from a node that does not detach it.

    PROOF: if the backend proves the node dead. FENCE: if its state is unknown, the node is stopped first,
    which gives the proof; a node that is known to live is never stopped. NEVER: not at all.
    """

    PROOF = "proof"
    FENCE = "fence"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Usage:
    """Space in a mounted filesystem, and the device below it.

    Attributes:
        used_bytes: Used space.
        free_bytes: Space that users other than root can still use.
        total_bytes: All space, without the filesystem's own data.
        used_inodes: Used inodes.
        inodes: All inodes; 0 where the filesystem has no fixed number of them.
        device: Path of the block device.
        device_bytes: Its size.
        filesystem_bytes: Size of the filesystem by its superblock; None if that was not read.
    """

    used_bytes: int
    free_bytes: int
    total_bytes: int = 0
    used_inodes: int = 0
    inodes: int = 0
    device: str = ""
    device_bytes: int = 0
    filesystem_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """One run of the Docker engine: a pid alone may be used again.

    Attributes:
        pid: Its process id; 0 where it is in another pid namespace.
        started: When it started, in clock ticks since boot; the inode of its pidfd in another pid namespace.
    """

    pid: int
    started: int
