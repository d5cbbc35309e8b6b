"""The mark of a format under way, and what may lie beside it. Nothing here writes.

The mark is one sector. It is written before mkfs starts, to a device that was found blank, and cleared once
mkfs has ended, before the filesystem is first mounted. So a device that bears it holds what an interrupted
mkfs left, and nothing that volplug has served.
"""

from __future__ import annotations

from typing import Final

from volplug.host.direct import PAGE_BYTES, DirectReader
from volplug.host.signatures import with_article
from volplug.host.superblocks import MIB, PRIMARY, STARTS, Region, copies, parse
from volplug.models import FILESYSTEMS, ContentKind, Contents, FilesystemTag

SECTOR_BYTES: Final = 512

# What mkfs wipes at the end of a device and leaves free: e2fsprogs 64 to 128 KiB, by alignment; xfsprogs
# 128 KiB (WHACK_SIZE); btrfs-progs 2 MiB (ZERO_DEV_BYTES). The mark lies just before it.
_WIPED_BYTES: Final = {"ext4": 128 * 1024, "xfs": 128 * 1024, "btrfs": 2 * MIB}


def mark_of(tag: FilesystemTag) -> bytes:
    """Return the sector that marks a device as being formatted by this plan. Pure."""
    return f"volplug {tag.to_text()}\n".encode().ljust(SECTOR_BYTES, b"\0")


def mark_region(fs_type: str, size_bytes: int) -> Region:
    """Return the page that begins with the mark. Pure."""
    wiped = (size_bytes - _WIPED_BYTES[fs_type]) // PAGE_BYTES * PAGE_BYTES
    return Region(max(wiped - PAGE_BYTES, 0), PAGE_BYTES)


def read_remnants(device: str, tag: FilesystemTag) -> Contents | None:
    """Judge what a format by this plan left behind. Blocks.

    Returns:
        PARTIAL; or FOREIGN if there is anything that no interrupted format leaves; or None without the mark.

    Raises:
        HostError: If any part that has to be read cannot be read.
    """
    with DirectReader(device) as reader:
        region = mark_region(tag.fs_type, reader.size_bytes)
        if reader.read(region.offset, region.length) != mark_of(tag).ljust(PAGE_BYTES, b"\0"):
            return None
        found = _found_in_head(reader, tag) or _found_in_copies(reader, tag) or _found_in_tail(reader, region)
    if found:
        return Contents(ContentKind.FOREIGN, found)
    return Contents(ContentKind.PARTIAL, f"an interrupted {tag.fs_type} format")


def data_at(offset: int) -> str:
    """Say where unknown data was found."""
    return f"data at byte {offset} that no known filesystem claims"


def _found_in_head(reader: DirectReader, tag: FilesystemTag) -> str:
    """Up to the superblock there have to be zeros; its first sector may bear our UUID instead."""
    primary, start = PRIMARY[tag.fs_type], STARTS[tag.fs_type]
    head = reader.read(0, primary.offset + primary.length)
    found = parse(tag.fs_type, head[primary.offset :])
    if found is not None and found.uuid == tag.uuid.lower():
        if found.was_mounted:
            return f"its {tag.fs_type} filesystem, which was mounted by hand"
        head = head[:start]
    head = head[: start + SECTOR_BYTES]
    zeros = len(head) - len(head.lstrip(b"\0"))
    return data_at(zeros) if zeros < len(head) else ""


def _found_in_copies(reader: DirectReader, tag: FilesystemTag) -> str:
    """No copy of a superblock may be that of another filesystem."""
    for fs_type in FILESYSTEMS:
        for region in copies(fs_type, reader.size_bytes):
            start = region.offset // PAGE_BYTES * PAGE_BYTES
            data = reader.read(start, PAGE_BYTES + region.length)[region.offset - start :]
            found = parse(fs_type, data)
            if found is not None and found.uuid != tag.uuid.lower():
                what = f"{with_article(fs_type)} filesystem ({found.uuid})"
                offset = region.offset + STARTS[fs_type] - PRIMARY[fs_type].offset
                return f"a copy of the superblock of {what} at byte {offset}"
    return ""


def _found_in_tail(reader: DirectReader, region: Region) -> str:
    """Behind the mark there have to be zeros: that is where a backup GPT lies, and RAID metadata."""
    offset = reader.first_data(region.offset + region.length, reader.size_bytes)
    return "" if offset is None else data_at(offset)
