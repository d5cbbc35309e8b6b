"""The mark of a format in progress, and the judgement of a device that has it. Nothing here writes.

The mark is one sector. It is written before mkfs starts, to a device that was found blank, and cleared once
mkfs has ended, before the filesystem is first mounted. So a marked device holds what an interrupted mkfs
left, and no user's data.
"""

from __future__ import annotations

from typing import Final

from volplug.host.direct import PAGE_BYTES, DirectReader
from volplug.host.filesystems import FILESYSTEMS
from volplug.host.filesystems.base import Region
from volplug.host.signatures import with_article
from volplug.models import ContentKind, Contents, FilesystemTag

SECTOR_BYTES: Final = 512


def mark_of(tag: FilesystemTag) -> bytes:
    """Return the sector that marks a device as being formatted by this plan. Pure."""
    return f"volplug {tag.to_text()}\n".encode().ljust(SECTOR_BYTES, b"\0")


def mark_region(fs_type: str, size_bytes: int) -> Region:
    """Return the page that begins with the mark. Pure."""
    wiped = (size_bytes - FILESYSTEMS[fs_type].wiped_end_bytes) // PAGE_BYTES * PAGE_BYTES
    return Region(max(wiped - PAGE_BYTES, 0), PAGE_BYTES)


def read_remnants(device: str, tag: FilesystemTag) -> Contents | None:
    """Judge what an interrupted format by this plan left. Blocks.

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
    """Describe unknown data by its place."""
    return f"data at byte {offset} that no known filesystem claims"


def _found_in_head(reader: DirectReader, tag: FilesystemTag) -> str:
    """Describe data before the superblock, or a superblock that an interrupted format does not leave."""
    filesystem = FILESYSTEMS[tag.fs_type]
    page, start = filesystem.superblock_page, filesystem.superblock_offset
    head = reader.read(0, page.offset + page.length)
    found = filesystem.superblock(head[start:])
    if found is not None and found.uuid == tag.uuid.lower():
        if found.was_mounted:
            return f"its {tag.fs_type} filesystem, which was mounted by hand"
        head = head[:start]
    head = head[: start + SECTOR_BYTES]
    zeros = len(head) - len(head.lstrip(b"\0"))
    return data_at(zeros) if zeros < len(head) else ""


def _found_in_copies(reader: DirectReader, tag: FilesystemTag) -> str:
    """Describe a copy of the superblock of another filesystem."""
    for filesystem in FILESYSTEMS.values():
        for offset in filesystem.copies(reader.size_bytes):
            start = offset // PAGE_BYTES * PAGE_BYTES
            found = filesystem.superblock(reader.read(start, PAGE_BYTES)[offset - start :])
            if found is not None and found.uuid != tag.uuid.lower():
                what = f"{with_article(filesystem.name)} filesystem ({found.uuid})"
                return f"a copy of the superblock of {what} at byte {offset}"
    return ""


def _found_in_tail(reader: DirectReader, region: Region) -> str:
    """Describe data after the mark, where a backup GPT or RAID metadata would be."""
    offset = reader.first_data(region.offset + region.length, reader.size_bytes)
    return "" if offset is None else data_at(offset)
