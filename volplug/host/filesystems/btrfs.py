"""The btrfs filesystem. Superblock: `struct btrfs_super_block` in include/uapi/linux/btrfs_tree.h.

btrfs replays its log at mount, and records in the superblock neither mounts nor whether it is clean.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from volplug.host.filesystems.base import Filesystem, Superblock, uuid_at
from volplug.sizes import GIB, KIB, MIB

_MAGIC: Final = b"_BHRfS_M"
_MAGIC_UNFINISHED: Final = b"!BHRfS_M"  # mkfs.btrfs writes the final one last
_COPIES: Final = (64 * MIB, 256 * GIB)  # mirrors of the superblock


def _parse_superblock(block: bytes) -> Superblock | None:
    magic = block[64:72]
    if magic not in (_MAGIC, _MAGIC_UNFINISHED):
        return None
    (total_bytes,) = struct.unpack_from("<Q", block, 112)
    return Superblock("btrfs", uuid_at(block, 32), total_bytes, magic == _MAGIC, is_clean=True)


def _mkfs_argv(device: str, options: Sequence[str], uuid: str) -> tuple[str, ...]:
    return ("mkfs.btrfs", "-q", "-K", "-U", uuid, *options, device)


BTRFS: Final = Filesystem(
    name="btrfs",
    package="btrfs-progs",
    version_flag="--version",
    minimum_size_bytes=128 * MIB,  # btrfs-progs 6.2
    mkfs_flags=frozenset(  # mkfs.btrfs(8)
        {"-d", "-L", "-m", "-n", "-O", "-R", "-s", "--checksum", "--csum"}
    ),
    label_bytes=255,  # BTRFS_LABEL_SIZE without its final NUL
    mkfs_argv=_mkfs_argv,
    wiped_end_bytes=2 * MIB,  # ZERO_DEV_BYTES of btrfs-progs
    superblock_offset=64 * KIB,
    parse_superblock=_parse_superblock,
    copies=lambda _: _COPIES,
    samples=lambda _: _COPIES,
    # Since Linux 6.2 it discards by default, which would punch holes into preallocated images.
    default_mount_options=("nodiscard",),
    forbidden_mount_options=frozenset(
        {"degraded", "device", "nologreplay", "norecovery", "rescue", "subvol", "subvolid"}
    ),
    repair_command="btrfs check",
    superblock_command="btrfs rescue super-recover",
    has_anonymous_device=True,
)
