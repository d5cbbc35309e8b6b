"""What volplug has to know of a filesystem type: frozen data, and pure functions of bytes and sizes."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from volplug.sizes import MIB

# What filesystems report for metadata that is damaged; the kernel's texts are "Structure needs cleaning" and
# "Bad message".
DAMAGED: Final = frozenset({errno.EUCLEAN, errno.EBADMSG})
SUPERBLOCK_BYTES: Final = 1024
_PAGE_BYTES: Final = 4096

# The most that mkfs without options leaves unused at the end of a device up to 16 TiB. xfs drops a last
# allocation group of less than 16 MiB (XFS_AG_MIN_BLOCKS in mkfs/xfs_mkfs.c). ext4 drops a last block group
# without room for 50 blocks and its metadata: 2 MiB of inodes, and up to 12 MiB of group descriptors if it
# has a copy of them (ext2fs_initialize() in lib/ext2fs/initialize.c). btrfs rounds down to its sectors.
MAX_UNUSED_BYTES: Final = 16 * MIB


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a device, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Superblock:
    """One superblock, as far as volplug reads it.

    Attributes:
        fs_type: Name of the filesystem type.
        uuid: In lower case with hyphens.
        size_bytes: The size of the filesystem, or None if the superblock states none that is possible.
        is_finished: False while mkfs has not reached its end.
        is_clean: False if the filesystem is mounted, was not unmounted, or has recorded errors. Always True
            for types that record none of these in the superblock.
        was_mounted: True only if the superblock records a mount; some types record none.
        needs_replay: Whether the journal has to be replayed before the check.
    """

    fs_type: str
    uuid: str
    size_bytes: int | None
    is_finished: bool
    is_clean: bool
    was_mounted: bool = False
    needs_replay: bool = False


class CheckResult(Enum):
    """How a check ended. FAILED: the check itself failed, which proves nothing about the filesystem."""

    SOUND = auto()
    ERRORS_LEFT = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class FilesystemCheck:
    """A program that repairs, before a mount, what can be repaired without questions.

    Attributes:
        argv: Program and flags; the device follows. On SIGTERM the program stops cleanly.
        read_exit_code: Returns the result for an exit code of 0 to 255.
    """

    argv: tuple[str, ...]
    read_exit_code: Callable[[int], CheckResult]


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A filesystem type.

    Attributes:
        name: As mount(2) takes it; its mkfs program is `mkfs.NAME`.
        package: The package of Debian that has its programs.
        version_flag: Makes the mkfs program print its version.
        minimum_size_bytes: The smallest device that mkfs accepts, rounded up.
        mkfs_flags: The flags of mkfs that users may give: each takes one value and shapes only the new
            filesystem. Flags that name another device or file, force, or set the UUID are not among them.
        label_bytes: The longest label, set with the flag `-L`.
        mkfs_argv: Returns the command line for a device, the user's options and a UUID. It has no force flag
            and never discards: that would punch holes into preallocated images, and takes long on a new cloud
            disk.
        wiped_end_bytes: What mkfs overwrites with zeros at the end of a device and then leaves unused. The
            mark of a format in progress is just before it.
        superblock_offset: Where the primary superblock starts.
        parse_superblock: Reads a superblock from its first 1024 bytes; returns None for other data.
        copies: Returns where mkfs places the first copies of the superblock on a device of some size.
        samples: Returns where a device of some size has metadata of this type other than near its start and
            its end, so that a device is not taken for blank if only its start was overwritten.
        default_mount_options: Each is set unless the user sets it, or its opposite.
        forbidden_mount_options: Keys that users may not set: those that name devices or other roots, skip
            the journal, or are set by volplug.
        repair_command: What an operator runs on the unused device, or image, of a damaged filesystem; its
            path follows.
        superblock_command: The same for a damaged superblock, which has copies, if it is another one.
        check: The check before a mount, or None if mounting itself does all that is needed.
        has_anonymous_device: Whether mountinfo and stat show an anonymous device number instead of the
            block device's.
    """

    name: str
    package: str
    version_flag: str
    minimum_size_bytes: int
    mkfs_flags: frozenset[str]
    label_bytes: int
    mkfs_argv: Callable[[str, Sequence[str], str], tuple[str, ...]]
    wiped_end_bytes: int
    superblock_offset: int
    parse_superblock: Callable[[bytes], Superblock | None]
    copies: Callable[[int], Sequence[int]]
    samples: Callable[[int], Sequence[int]]
    default_mount_options: tuple[str, ...]
    forbidden_mount_options: frozenset[str]
    repair_command: str
    superblock_command: str = ""
    check: FilesystemCheck | None = None
    has_anonymous_device: bool = False

    @property
    def superblock_page(self) -> Region:
        """Return the page that holds the primary superblock."""
        return Region(self.superblock_offset // _PAGE_BYTES * _PAGE_BYTES, _PAGE_BYTES)

    @property
    def how_to_repair(self) -> str:
        """Return the remedy of errors about a damaged filesystem."""
        return f"Run {self.repair_command} on the volume's device, or image, while it is not in use"

    @property
    def how_to_repair_superblock(self) -> str:
        """Return the remedy of errors about a superblock that may be damaged."""
        command = self.superblock_command or self.repair_command
        return (
            f"Run {command} on its unused device or image if its superblock is damaged, else restore a backup"
        )

    def primary_superblock(self, page: bytes) -> Superblock | None:
        """Return the superblock in the bytes of `superblock_page`, or None as `superblock` does."""
        return self.superblock(page[self.superblock_offset - self.superblock_page.offset :])

    def superblock(self, data: bytes) -> Superblock | None:
        """Return the superblock that the data begins with, or None if there is none, or it is cut off."""
        return self.parse_superblock(data) if len(data) >= SUPERBLOCK_BYTES else None


def is_outgrown(filesystem_bytes: int, device_bytes: int) -> bool:
    """Return whether a device has room that its filesystem does not use, more than mkfs leaves."""
    return filesystem_bytes + MAX_UNUSED_BYTES < device_bytes


def uuid_at(data: bytes, offset: int) -> str:
    """Return the UUID whose 16 bytes are at an offset."""
    return str(uuid.UUID(bytes=data[offset : offset + 16]))
