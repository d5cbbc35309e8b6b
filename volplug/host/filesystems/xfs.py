"""The xfs filesystem. Superblock: `struct xfs_dsb` in fs/xfs/libxfs/xfs_format.h.

xfs replays its log at mount, and records in the superblock neither mounts nor whether it is clean.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from volplug.host.filesystems.base import Filesystem, Superblock, uuid_at
from volplug.sizes import KIB, MIB

_MAGIC: Final = b"XFSB"
_BLOCK_BYTES: Final = 4096
_MAX_GROUP_BYTES: Final = 1024**4


def _parse_superblock(block: bytes) -> Superblock | None:
    if not block.startswith(_MAGIC):
        return None
    block_bytes, blocks = struct.unpack_from(">IQ", block, 4)  # sb_blocksize, sb_dblocks
    is_finished = block[126] == 0  # sb_inprogress
    return Superblock("xfs", uuid_at(block, 32), block_bytes * blocks, is_finished, is_clean=True)


def _copies(size_bytes: int) -> tuple[int, ...]:
    """Return the start of the second allocation group; mkfs makes four, or more on a huge device."""
    blocks = size_bytes // _BLOCK_BYTES
    return (min(-(-blocks // 4) * _BLOCK_BYTES, _MAX_GROUP_BYTES),)


def _samples(size_bytes: int) -> tuple[int, ...]:
    return tuple(size_bytes * part // 4 // _BLOCK_BYTES * _BLOCK_BYTES for part in (1, 2, 3))


def _mkfs_argv(device: str, options: Sequence[str], uuid: str) -> tuple[str, ...]:
    return ("mkfs.xfs", "-q", "-K", "-m", f"uuid={uuid}", *options, device)


XFS: Final = Filesystem(
    name="xfs",
    package="xfsprogs",
    version_flag="-V",
    minimum_size_bytes=300 * MIB,  # xfsprogs 6.1
    mkfs_flags=frozenset({"-b", "-d", "-i", "-l", "-L", "-m", "-n", "-s"}),  # mkfs.xfs(8)
    label_bytes=12,  # XFSLABEL_MAX
    mkfs_argv=_mkfs_argv,
    wiped_end_bytes=128 * KIB,  # WHACK_SIZE of xfsprogs
    superblock_offset=0,
    parse_superblock=_parse_superblock,
    copies=_copies,
    samples=_samples,
    # Clones of a volume share its UUID; the device's serial and the volume's record distinguish them.
    default_mount_options=("nouuid",),
    forbidden_mount_options=frozenset({"logdev", "norecovery", "nouuid", "rtdev"}),
    repair_command="xfs_repair",
)
