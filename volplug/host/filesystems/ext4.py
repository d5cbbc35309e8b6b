"""The ext4 filesystem. Superblock: Documentation/filesystems/ext4/super.rst of Linux."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from volplug.host.filesystems.base import CheckResult, Filesystem, FilesystemCheck, Superblock, uuid_at
from volplug.sizes import KIB, MIB

# The second block group, which has the first copy, at block sizes of 1, 2 and 4 KiB. At 1 KiB it starts one
# block late.
_COPIES: Final = (8 * MIB + KIB, 32 * MIB, 128 * MIB)
_SAMPLES: Final = (8 * MIB, 32 * MIB, 128 * MIB)
_MAGIC: Final = 0xEF53
_STATE_VALID: Final = 0x1
_STATE_ERROR: Final = 0x2
_INCOMPAT_RECOVER: Final = 0x4
_INCOMPAT_JOURNAL_DEV: Final = 0x8
_INCOMPAT_64BIT: Final = 0x80
_MAX_LOG_BLOCK_SIZE: Final = 6  # EXT4_MAX_BLOCK_LOG_SIZE, 64 KiB

# e2fsck(8): 1 errors corrected, 2 reboot (of a root filesystem), 4 errors left, 8 operational error,
# 16 usage, 32 cancelled, 128 library error.
_FSCK_FINE: Final = range(4)
_FSCK_ERRORS_LEFT: Final = 4
_FSCK_INCOMPLETE: Final = 8 | 16 | 32 | 128


def _parse_superblock(block: bytes) -> Superblock | None:
    (mounted_at,) = struct.unpack_from("<I", block, 0x2C)
    (mounts,) = struct.unpack_from("<H", block, 0x34)
    magic, state = struct.unpack_from("<HH", block, 0x38)
    (incompatible,) = struct.unpack_from("<I", block, 0x60)
    if magic != _MAGIC or incompatible & _INCOMPAT_JOURNAL_DEV:
        return None
    needs_replay = bool(incompatible & _INCOMPAT_RECOVER)
    is_sound = bool(state & _STATE_VALID) and not state & _STATE_ERROR
    return Superblock(
        "ext4",
        uuid_at(block, 0x68),
        _size_bytes(block, bool(incompatible & _INCOMPAT_64BIT)),
        is_finished=True,
        is_clean=is_sound and not needs_replay,
        was_mounted=bool(mounted_at or mounts or needs_replay),
        needs_replay=needs_replay,
    )


def _size_bytes(block: bytes, has_high_half: bool) -> int | None:
    (blocks_low,) = struct.unpack_from("<I", block, 0x4)
    (log_block_size,) = struct.unpack_from("<I", block, 0x18)
    (blocks_high,) = struct.unpack_from("<I", block, 0x150)
    if log_block_size > _MAX_LOG_BLOCK_SIZE:
        return None
    blocks = blocks_low + (blocks_high << 32 if has_high_half else 0)
    return int(blocks << (10 + log_block_size))


def _mkfs_argv(device: str, options: Sequence[str], uuid: str) -> tuple[str, ...]:
    others, extended = _split_extended(options)
    return ("mkfs.ext4", "-q", "-U", uuid, "-E", ",".join(("nodiscard", *extended)), *others, device)


def _split_extended(options: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the values of -E from the other options: mke2fs uses only its last -E."""
    others: list[str] = []
    extended: list[str] = []
    rest = iter(options)
    for option in rest:
        if option == "-E":
            extended.append(next(rest, ""))
        else:
            others.append(option)
    return others, [part for part in extended if part]


def _read_exit_code(code: int) -> CheckResult:
    if code in _FSCK_FINE:
        return CheckResult.SOUND
    is_complete = code & _FSCK_ERRORS_LEFT and not code & _FSCK_INCOMPLETE
    return CheckResult.ERRORS_LEFT if is_complete else CheckResult.FAILED


EXT4: Final = Filesystem(
    name="ext4",
    package="e2fsprogs",
    version_flag="-V",
    minimum_size_bytes=8 * MIB,  # e2fsprogs 1.47
    mkfs_flags=frozenset(  # mke2fs(8)
        {"-b", "-C", "-E", "-G", "-i", "-I", "-L", "-m", "-N", "-O", "-T"}
    ),
    label_bytes=16,  # EXT2_LABEL_LEN
    mkfs_argv=_mkfs_argv,
    wiped_end_bytes=128 * KIB,  # e2fsprogs wipes 64 to 128 KiB, by alignment
    superblock_offset=KIB,
    parse_superblock=_parse_superblock,
    copies=lambda _: _COPIES,
    samples=lambda _: _SAMPLES,
    default_mount_options=("errors=remount-ro",),  # stop writing at the first error
    forbidden_mount_options=frozenset({"journal_dev", "journal_path", "noload", "norecovery", "sb"}),
    repair_command="e2fsck -f",
    check=FilesystemCheck(("fsck.ext4", "-p"), _read_exit_code),
)
