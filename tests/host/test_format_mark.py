"""What mkfs may run over again: what an interrupted format of ours left, and nothing else."""

import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host.disks import (
    FS_TYPES,
    MIB,
    SMALL_MIB,
    Disk,
    Disks,
    formatted,
    mark,
    mkfs_argv,
    plan,
    run,
    spec_of,
)
from tests.host.pool import POOL
from volplug.errors import CommandFailed
from volplug.host import formatting
from volplug.host.contents import read_contents
from volplug.host.filesystems import FILESYSTEMS
from volplug.host.format_mark import mark_of, mark_region
from volplug.host.signatures import with_article
from volplug.models import ContentKind, Contents, FilesystemTag

OTHER = "11111111-2222-4333-8444-555555555555"
PAGE = 4096

# Options that move metadata about. mkfs must not touch the mark whatever it is told.
SHAPES = {
    "ext4": [
        "",
        "-b 4096",
        "-O ^flex_bg -i 1024",
        "-E packed_meta_blocks=1",
        "-O bigalloc",
        "-O sparse_super2",
    ],
    "xfs": ["", "-d agcount=2", "-l agnum=3"],
    "btrfs": ["", "-m single", "-n 65536"],
}


def mark_is_on(disk: Disk, tag: FilesystemTag) -> bool:
    region = mark_region(tag.fs_type, disk.source.size_bytes)
    with disk.image.open("rb") as file:
        file.seek(region.offset)
        return file.read(region.length).rstrip(b"\0") == mark_of(tag).rstrip(b"\0")


@pytest.mark.parametrize("fs_type", FS_TYPES)
@given(size=st.integers(min_value=1, max_value=2**50).map(lambda sectors: sectors * 512))
def test_the_mark_is_a_page_inside_the_device(fs_type: str, size: int) -> None:
    region = mark_region(fs_type, size)
    assert region.offset % PAGE == 0
    assert size < 3 * MIB or size - 3 * MIB < region.offset < size - 128 * 1024 - PAGE + 1
    assert len(mark_of(plan(fs_type))) == 512


@pytest.mark.loop
@pytest.mark.parametrize(("fs_type", "shape"), [(name, shape) for name in FS_TYPES for shape in SHAPES[name]])
def test_mkfs_leaves_the_mark_and_the_zeros_behind_it(disks: Disks, fs_type: str, shape: str) -> None:
    """So no part of what it writes, in whatever order it reaches the disk, touches them either."""
    disk, tag = disks.blank(SMALL_MIB[fs_type]), plan(fs_type)
    mark(disk, tag)
    run(*mkfs_argv(disk, tag, shape.split()))
    assert mark_is_on(disk, tag)
    behind = mark_region(fs_type, disk.source.size_bytes).offset + PAGE
    assert not any(offset >= behind for offset in sectors(disk.image))


@pytest.mark.loop
@pytest.mark.parametrize("fs_type", FS_TYPES)
async def test_the_mark_is_there_until_mkfs_has_ended_well(
    disks: Disks, fs_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, tag = disks.blank(SMALL_MIB[fs_type]), plan(fs_type)
    program = tmp_path / f"mkfs.{fs_type}"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        with pytest.raises(CommandFailed):
            await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), tag)
    assert mark_is_on(disk, tag)
    assert (await read_contents(POOL, disk.path, tag)).kind is ContentKind.PARTIAL
    assert (await read_contents(POOL, disk.path, plan(fs_type))).kind is ContentKind.UNCLAIMED
    await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), tag)
    assert not mark_is_on(disk, tag)
    assert (await read_contents(POOL, disk.path, tag)).kind is ContentKind.OURS


@pytest.mark.loop
@pytest.mark.faults
@pytest.mark.parametrize("fs_type", FS_TYPES)
async def test_any_part_of_what_mkfs_writes_is_an_interrupted_format(disks: Disks, fs_type: str) -> None:
    """A kill leaves the first writes, and a power cut any of them, sector by sector."""
    whole, tag = disks.blank(SMALL_MIB[fs_type], "whole"), plan(fs_type)
    run(*mkfs_argv(whole, tag))
    written = sectors(whole.image)
    behead(whole, fs_type)  # mkfs.btrfs wants UUIDs to be unique on a machine
    disk = disks.blank(SMALL_MIB[fs_type])
    mark(disk, tag)
    for share in (0.05, 0.5, 0.95):
        write_some(disk, written, share)
        found = await read_contents(POOL, disk.path, tag)
        assert found == Contents(ContentKind.PARTIAL, f"an interrupted {fs_type} format"), share
    await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), tag)
    assert (await read_contents(POOL, disk.path, formatted(tag))).kind is ContentKind.OURS


def write_some(disk: Disk, written: dict[int, bytes], share: float) -> None:
    chance = random.Random(share)  # noqa: S311 -- no secret; the same choice in every run
    with open(disk.path, "r+b", buffering=0) as device:
        for offset, data in written.items():
            os.pwrite(device.fileno(), data if chance.random() < share else bytes(512), offset)
        os.fsync(device.fileno())


def sectors(image: Path) -> dict[int, bytes]:
    """The sectors of an image that are not zero."""
    found: dict[int, bytes] = {}
    with image.open("rb") as file:
        for start in range(0, image.stat().st_size, MIB):
            chunk = file.read(MIB)
            if chunk != bytes(len(chunk)):
                parts = ((start + at, chunk[at : at + 512]) for at in range(0, len(chunk), 512))
                found |= {offset: part for offset, part in parts if any(part)}
    return found


def random_data(disk: Disk) -> str:
    """As an encrypted disk without a header."""
    disk.write(0, b"\x07" + os.urandom(disk.source.size_bytes - 1))
    return "data at byte 0 that no known filesystem claims"


def backup_gpt(sector_bytes: int) -> Callable[[Disk], str]:
    def write(disk: Disk) -> str:
        last = disk.source.size_bytes // sector_bytes - 1
        entries = (b"\x0f" * 16 + bytes(112)).ljust(128 * 128, b"\0")
        first = last - len(entries) // sector_bytes
        ids = (bytes(16), first, 128, 128, zlib.crc32(entries))
        fields = [b"EFI PART", 0x10000, 92, 0, 0, last, 1, 34, first - 1, *ids]
        fields[3] = zlib.crc32(struct.pack("<8sIIIIQQQQ16sQIII", *fields))
        disk.write(last * sector_bytes, struct.pack("<8sIIIIQQQQ16sQIII", *fields))
        disk.write(first * sector_bytes, entries)
        return f"data at byte {first * sector_bytes} that no known filesystem claims"

    return write


def beheaded(fs_type: str, options: str, copy_at: int) -> Callable[[Disk], str]:
    def write(disk: Disk) -> str:
        uuid_option = ("-m", f"uuid={OTHER}") if fs_type == "xfs" else ("-U", OTHER)
        run(f"mkfs.{fs_type}", "-q", *uuid_option, *options.split(), disk.path)
        behead(disk, fs_type)
        return f"a copy of the superblock of {with_article(fs_type)} filesystem ({OTHER}) at byte {copy_at}"

    return write


def behead(disk: Disk, fs_type: str) -> None:
    page = FILESYSTEMS[fs_type].superblock_page
    disk.write(page.offset, bytes(page.length))


INTRUDERS = {
    "random data": (16, random_data),
    "a backup GPT": (16, backup_gpt(512)),
    "a backup GPT of large sectors": (16, backup_gpt(4096)),
    "ext4": (16, beheaded("ext4", "", 8 * MIB + 1024)),
    "ext4 of medium blocks": (48, beheaded("ext4", "-b 2048", 32 * MIB)),
    "ext4 of large blocks": (160, beheaded("ext4", "-b 4096", 128 * MIB)),
    "xfs": (301, beheaded("xfs", "", 301 * MIB // 4)),
    "btrfs": (128, beheaded("btrfs", "", 64 * MIB)),
}


@pytest.mark.loop
@pytest.mark.parametrize("fs_type", FS_TYPES)
@pytest.mark.parametrize("intruder", INTRUDERS)
async def test_what_somebody_else_left_is_refused_even_beside_the_mark(
    disks: Disks, fs_type: str, intruder: str
) -> None:
    """Filesystems without their superblocks, and what blkid does not know."""
    size_mib, write = INTRUDERS[intruder]
    disk, tag = disks.blank(size_mib), plan(fs_type)
    expected = write(disk)
    found = await read_contents(POOL, disk.path, tag)
    assert (found.kind, found.description[:13]) == (ContentKind.UNCLAIMED, "data at byte ")
    mark(disk, tag)
    found = await read_contents(POOL, disk.path, tag)
    assert found.kind in (ContentKind.FOREIGN, ContentKind.UNCLAIMED)
    if fs_type == "ext4":  # the others read more, and find it sooner
        assert found.description == expected


@pytest.mark.loop
@pytest.mark.parametrize("fs_type", FS_TYPES)
async def test_our_own_filesystem_with_data_and_without_its_superblock_is_refused(
    disks: Disks, fs_type: str
) -> None:
    """The mark was cleared before it was first mounted."""
    disk, tag = disks.blank(SMALL_MIB[fs_type]), plan(fs_type)
    await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), tag)
    write_by_hand(disks, disk)
    behead(disk, fs_type)
    assert (await read_contents(POOL, disk.path, tag)).kind is ContentKind.UNCLAIMED


@pytest.mark.loop
async def test_a_whole_ext4_beside_the_mark_that_was_mounted_by_hand_is_refused(disks: Disks) -> None:
    disk, tag = disks.blank(SMALL_MIB["ext4"]), plan("ext4")
    mark(disk, tag)
    run(*mkfs_argv(disk, tag))
    assert (await read_contents(POOL, disk.path, tag)).kind is ContentKind.PARTIAL
    write_by_hand(disks, disk)
    assert await read_contents(POOL, disk.path, tag) == Contents(
        ContentKind.FOREIGN, "its ext4 filesystem, which was mounted by hand"
    )


def write_by_hand(disks: Disks, disk: Disk) -> None:
    mountpoint = disks.directory / "mountpoint"
    mountpoint.mkdir()
    run("mount", disk.path, str(mountpoint))
    (mountpoint / "file").write_text("precious")
    run("umount", str(mountpoint))
