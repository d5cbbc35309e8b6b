"""What the superblocks of ext4, xfs and btrfs say. Pure: bytes in, facts out.

Offsets: for ext4 the kernel's Documentation/filesystems/ext4/super.rst, for xfs `struct xfs_dsb` in
fs/xfs/libxfs/xfs_format.h, for btrfs `struct btrfs_super_block` in include/uapi/linux/btrfs_tree.h.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import Final

MIB: Final = 1024**2


@dataclass(frozen=True, slots=True)
class Superblock:
    """One superblock.

    Attributes:
        fs_type: ext4, xfs or btrfs.
        uuid: In lower case with hyphens.
        is_finished: False while mkfs has not reached its end.
        is_clean: False if the filesystem is in use, was not unmounted, or has noted errors. xfs and btrfs
            keep no such note in the superblock and replay their logs at mount: always True.
        was_mounted: True only if it certainly was. ext4 notes the time of its last mount; xfs and btrfs
            keep no such note: never True.
        needs_replay: Whether an ext4 journal has yet to be replayed.
    """

    fs_type: str
    uuid: str
    is_finished: bool
    is_clean: bool
    was_mounted: bool = False
    needs_replay: bool = False


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a device, in bytes."""

    offset: int
    length: int


PRIMARY: Final = {
    "ext4": Region(0, 4096),
    "xfs": Region(0, 4096),
    "btrfs": Region(64 * 1024, 4096),
}

_EXT_OFFSET: Final = 1024

# Where the superblocks themselves start.
STARTS: Final = {"ext4": _EXT_OFFSET, "xfs": 0, "btrfs": 64 * 1024}

# ext4's second block group at block sizes of 1, 2 and 4 KiB. At 1 KiB it starts one block late.
_EXT_COPIES: Final = (8 * MIB, 32 * MIB - _EXT_OFFSET, 128 * MIB - _EXT_OFFSET)
_BTRFS_COPIES: Final = (64 * MIB, 256 * 1024 * MIB)
_XFS_BLOCK_BYTES: Final = 4096
_XFS_MAX_GROUP_BYTES: Final = 1024**4
_EXT_MAGIC: Final = 0xEF53
_EXT_STATE_VALID: Final = 0x1
_EXT_STATE_ERROR: Final = 0x2
_EXT_INCOMPAT_RECOVER: Final = 0x4
_EXT_INCOMPAT_JOURNAL_DEV: Final = 0x8
_XFS_MAGIC: Final = b"XFSB"
_BTRFS_MAGIC: Final = b"_BHRfS_M"
_BTRFS_MAGIC_UNFINISHED: Final = b"!BHRfS_M"  # mkfs.btrfs writes the real one last


def copies(fs_type: str, size_bytes: int) -> tuple[Region, ...]:
    """Return where the first copies of a superblock are on a device of this size, as mkfs places them.

    Such a region reads like the primary one: ext4's superblock is at 1024 in it.
    """
    # xfs has four allocation groups, or more on a device that is huge.
    blocks = size_bytes // _XFS_BLOCK_BYTES
    group = min(-(-blocks // 4) * _XFS_BLOCK_BYTES, _XFS_MAX_GROUP_BYTES)
    starts = {"ext4": _EXT_COPIES, "xfs": (group,), "btrfs": _BTRFS_COPIES}[fs_type]
    return tuple(Region(start, PRIMARY[fs_type].length) for start in starts)


def parse(fs_type: str, data: bytes) -> Superblock | None:
    """Read the superblock of one filesystem type from the bytes of its region.

    Returns:
        The superblock, or None if the bytes are none of this type, or too few.
    """
    if len(data) < PRIMARY[fs_type].length:
        return None
    return {"ext4": _parse_ext4, "xfs": _parse_xfs, "btrfs": _parse_btrfs}[fs_type](data)


def _parse_ext4(data: bytes) -> Superblock | None:
    block = data[_EXT_OFFSET:]
    (mounted_at,) = struct.unpack_from("<I", block, 0x2C)
    (mounts,) = struct.unpack_from("<H", block, 0x34)
    magic, state = struct.unpack_from("<HH", block, 0x38)
    (incompatible,) = struct.unpack_from("<I", block, 0x60)
    if magic != _EXT_MAGIC or incompatible & _EXT_INCOMPAT_JOURNAL_DEV:
        return None
    needs_replay = bool(incompatible & _EXT_INCOMPAT_RECOVER)
    is_sound = bool(state & _EXT_STATE_VALID) and not state & _EXT_STATE_ERROR
    return Superblock(
        "ext4",
        _uuid(block, 0x68),
        is_finished=True,
        is_clean=is_sound and not needs_replay,
        was_mounted=bool(mounted_at or mounts or needs_replay),
        needs_replay=needs_replay,
    )


def _parse_xfs(data: bytes) -> Superblock | None:
    if not data.startswith(_XFS_MAGIC):
        return None
    return Superblock("xfs", _uuid(data, 32), is_finished=data[126] == 0, is_clean=True)


def _parse_btrfs(data: bytes) -> Superblock | None:
    magic = data[64:72]
    if magic not in (_BTRFS_MAGIC, _BTRFS_MAGIC_UNFINISHED):
        return None
    return Superblock("btrfs", _uuid(data, 32), is_finished=magic == _BTRFS_MAGIC, is_clean=True)


def _uuid(data: bytes, offset: int) -> str:
    return str(uuid.UUID(bytes=data[offset : offset + 16]))
