"""Judges what a device holds against the filesystem tag of its volume. Nothing here writes.

The result decides whether mkfs may run, so it errs towards "not blank": a part that cannot be read is an
error, and a byte that is not zero is data.
"""

from __future__ import annotations

from typing import Final

from volplug.host import signatures
from volplug.host.direct import PAGE_BYTES, DirectReader
from volplug.host.filesystems import FILESYSTEMS
from volplug.host.filesystems.base import Region, Superblock
from volplug.host.format_mark import data_at, read_remnants
from volplug.host.signatures import Signature, with_article
from volplug.host.threads import DevicePool, wait_until_done
from volplug.models import ContentKind, Contents, FilesystemPhase, FilesystemTag
from volplug.sizes import KIB, MIB

_EDGE_BYTES: Final = 4 * MIB
_SAMPLE_BYTES: Final = 64 * KIB


async def read_contents(pool: DevicePool, device: str, tag: FilesystemTag) -> Contents:
    """Read a device and judge it.

    Under the tag FORMATTED the expected superblock is enough, so that the usual mount starts no program.

    Raises:
        HostError: If any part that has to be read cannot be read.
        Unsupported: If a program that is needed is not installed.
    """
    if (judged := await pool.blocking(judge_superblock, device, tag)) is not None:
        return judged
    # Read at the same time as blkid runs, which takes as long: a new volume, which this is about, needs both.
    samples = pool.submit(_read_samples, device)
    try:
        signature = await signatures.probe(pool, device)
        is_ours = tag.phase is FilesystemPhase.FORMATTING and tag.fs_type in FILESYSTEMS
        if is_ours and (signature is None or _is_planned(signature, tag)):
            planned = await pool.blocking(_read_planned, device, tag)
            if planned is not None:
                return planned
        if signature is None:
            return await samples
        return Contents(ContentKind.FOREIGN, _foreign(signature, tag))
    finally:
        await wait_until_done(samples)


def judge_superblock(device: str, tag: FilesystemTag) -> Contents | None:
    """Judge a device by its superblock alone. Blocks.

    Returns:
        What it holds, or None if more has to be read: the tag is not FORMATTED, or the superblock is another.

    Raises:
        HostError: If it cannot be read.
    """
    if tag.phase is not FilesystemPhase.FORMATTED:
        return None
    found = read_superblock(device, tag.fs_type)
    return _formatted(found) if found is not None and is_expected(found, tag) else None


def read_superblock(device: str, fs_type: str) -> Superblock | None:
    """Read the primary superblock of one type. Blocks.

    Returns:
        The superblock, or None if there is none of this type, or the type is unknown.

    Raises:
        HostError: If it cannot be read.
    """
    filesystem = FILESYSTEMS.get(fs_type)
    if filesystem is None:
        return None
    page = filesystem.superblock_page
    with DirectReader(device) as reader:
        return filesystem.primary_superblock(reader.read(page.offset, page.length))


def is_expected(found: Superblock, tag: FilesystemTag) -> bool:
    """Return whether a superblock is the tag's; any UUID fits a volume whose UUID was never recorded."""
    return found.fs_type == tag.fs_type and tag.uuid.lower() in ("", found.uuid)


def sample_regions(size_bytes: int) -> list[Region]:
    """Return what has to be zero on a blank device of this size: sorted, without overlaps, inside. Pure."""
    samples = (start for filesystem in FILESYSTEMS.values() for start in filesystem.samples(size_bytes))
    last = max(size_bytes - _EDGE_BYTES, 0) // PAGE_BYTES * PAGE_BYTES
    wanted = [(0, _EDGE_BYTES), (last, size_bytes)]
    wanted += [(start, start + _SAMPLE_BYTES) for start in samples]
    regions: list[Region] = []
    covered = 0
    for start, end in sorted(wanted):
        first, beyond = max(start, covered), min(end, size_bytes)
        if first < beyond:
            regions.append(Region(first, beyond - first))
            covered = beyond
    return regions


def _read_planned(device: str, tag: FilesystemTag) -> Contents | None:
    """Judge what the planned format made, if it made anything: by its mark, or without one by its superblock.

    Without the mark a filesystem may have been mounted and hold data in spite of the tag, which may be a
    stale read of a volume whose format another host has completed.
    """
    remnants = read_remnants(device, tag)
    if remnants is not None:
        return remnants
    found = read_superblock(device, tag.fs_type)
    return _formatted(found) if found is not None and is_expected(found, tag) else None


def _read_samples(device: str) -> Contents:
    with DirectReader(device) as reader:
        regions = sample_regions(reader.size_bytes)
        # All are read, also after data was found: a region that cannot be read is an error, not data.
        found = [reader.first_data(region.offset, region.length) for region in regions]
    offset = next((offset for offset in found if offset is not None), None)
    if offset is None:
        return Contents(ContentKind.BLANK, "only zeros")
    return Contents(ContentKind.UNCLAIMED, data_at(offset))


def _formatted(found: Superblock) -> Contents:
    if not found.is_finished:
        return Contents(ContentKind.FOREIGN, f"an unfinished {found.fs_type} format")
    name = f"its {found.fs_type} filesystem"
    if not found.is_clean:
        return Contents(ContentKind.DIRTY, f"{name}, not cleanly unmounted", found.size_bytes)
    return Contents(ContentKind.OURS, name, found.size_bytes)


def _is_planned(signature: Signature, tag: FilesystemTag) -> bool:
    found = (signature.fs_type, signature.uuid.lower(), signature.partition_table)
    return found == (tag.fs_type, tag.uuid.lower(), "")


def _foreign(signature: Signature, tag: FilesystemTag) -> str:
    if signature.fs_type and signature.fs_type == tag.fs_type and signature.uuid.lower() != tag.uuid.lower():
        return f"{with_article(signature.fs_type)} filesystem with another UUID ({signature.uuid})"
    return signature.describe()
