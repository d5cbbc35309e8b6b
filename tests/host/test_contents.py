import hashlib
import itertools
import os
import struct
import uuid
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host.disks import FS_TYPES, MIB, SMALL_MIB, Disk, Disks, formatted, plan, run, spec_of
from tests.host.pool import POOL
from volplug.errors import FilesystemMismatch, HostError
from volplug.host import formatting
from volplug.host.contents import read_contents, sample_regions
from volplug.models import ContentKind, Contents, FilesystemPhase, FilesystemTag

PENDING = FilesystemTag()
BLANK = Contents(ContentKind.BLANK, "only zeros")


def unclaimed(offset: int) -> Contents:
    return Contents(ContentKind.UNCLAIMED, f"data at byte {offset} that no known filesystem claims")


FORMATTED = FilesystemTag(FilesystemPhase.FORMATTED, "ext4", str(uuid.uuid4()))
TAGS = (PENDING, plan("ext4"), FORMATTED)


def lvm_label() -> bytes:
    """The second sector of an LVM physical volume; its checksum is LVM's own start value over CRC-32."""
    label = bytearray(512)
    struct.pack_into("<8sQII8s", label, 0, b"LABELONE", 1, 0, 32, b"LVM2 001")
    label[32:64] = b"A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6"
    checksum = zlib.crc32(label[20:], 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    struct.pack_into("<I", label, 16, checksum)
    return bytes(label)


def luks_header() -> bytes:
    header = bytearray(592)
    header[:8] = b"LUKS\xba\xbe\x00\x01"
    header[168:204] = str(uuid.uuid4()).encode()
    return bytes(header)


def partition_table() -> bytes:
    sector = bytearray(512)
    sector[440:444] = b"\x01\x02\x03\x04"
    sector[446:462] = struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 0x83, b"\xff\xff\xff", 2048, 4096)
    sector[510:] = b"\x55\xaa"
    return bytes(sector)


SIGNATURES = {
    "an LVM2_member signature": (512, lvm_label()),
    "a crypto_LUKS signature": (0, luks_header()),
    "a dos partition table": (0, partition_table()),
}


def digest(disk: Disk) -> str:
    return hashlib.sha256(disk.image.read_bytes()).hexdigest()


async def make(disk: Disk, fs_type: str) -> FilesystemTag:
    tag = plan(fs_type)
    await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), tag)
    return tag


@pytest.mark.loop
@pytest.mark.parametrize("tag", TAGS, ids=lambda tag: tag.phase)
async def test_zeros_are_blank_under_any_tag(disks: Disks, tag: FilesystemTag) -> None:
    assert await read_contents(POOL, disks.blank(64).path, tag) == BLANK


@pytest.mark.loop
async def test_on_a_device_the_plan_of_what_no_device_holds_permits_nothing(disks: Disks) -> None:
    disk, tag = disks.blank(64), FilesystemTag(FilesystemPhase.FORMATTING, "zfs", str(uuid.uuid4()))
    assert await read_contents(POOL, disk.path, tag) == BLANK
    with pytest.raises(FilesystemMismatch, match="does not permit mkfs"):
        await formatting.make_filesystem(POOL, disk.source, spec_of("ext4"), tag)
    finished = replace(tag, phase=FilesystemPhase.FORMATTED)
    assert (await read_contents(POOL, disk.path, finished)).kind is ContentKind.BLANK


@pytest.mark.loop
@pytest.mark.parametrize("tag", TAGS, ids=lambda tag: tag.phase)
@pytest.mark.parametrize("description", SIGNATURES)
async def test_what_belongs_to_others_is_foreign_under_any_tag_and_stays_as_it_is(
    disks: Disks, tag: FilesystemTag, description: str
) -> None:
    disk = disks.blank(64)
    disk.write(*SIGNATURES[description])
    before = digest(disk)
    assert await read_contents(POOL, disk.path, tag) == Contents(ContentKind.FOREIGN, description)
    assert digest(disk) == before


@pytest.mark.loop
@pytest.mark.parametrize("tag", TAGS, ids=lambda tag: tag.phase)
async def test_a_filesystem_with_another_uuid_is_foreign_under_any_tag(
    disks: Disks, tag: FilesystemTag
) -> None:
    disk = disks.blank(8)
    other = str(uuid.uuid4())
    run("mkfs.ext4", "-q", "-U", other, disk.path)
    before = digest(disk)
    contents = await read_contents(POOL, disk.path, tag)
    assert contents.kind is ContentKind.FOREIGN
    assert contents.description.startswith("an ext4 filesystem")
    assert other in contents.description
    assert digest(disk) == before


@pytest.mark.loop
async def test_contradicting_signatures_are_foreign(disks: Disks, captures: Path) -> None:
    disk = disks.blank(8)
    tag = await make(disk, "ext4")
    disk.write(0, (captures / "xfs.bin").read_bytes()[:512])
    assert await read_contents(POOL, disk.path, tag) == Contents(
        ContentKind.FOREIGN, "several contradicting signatures"
    )


@pytest.mark.loop
async def test_a_planned_filesystem_below_a_partition_table_is_foreign(disks: Disks) -> None:
    disk = disks.blank(8)
    tag = await make(disk, "ext4")
    entry = struct.pack("<BBBBBBBBII", 0, 0, 2, 0, 0x83, 0, 0, 0, 2048, 2048)  # one Linux partition
    disk.write(0, bytes(446) + entry + bytes(48) + b"\x55\xaa")
    assert (await read_contents(POOL, disk.path, tag)).kind is ContentKind.FOREIGN


@pytest.mark.loop
@pytest.mark.parametrize("tag", TAGS, ids=lambda tag: tag.phase)
async def test_garbage_is_not_blank_and_stays_as_it_is(disks: Disks, tag: FilesystemTag) -> None:
    disk = disks.blank(64)
    disk.write(MIB, b"\x07" + os.urandom(4095))
    before = digest(disk)
    assert await read_contents(POOL, disk.path, tag) == unclaimed(MIB)
    assert digest(disk) == before


@pytest.mark.loop
@pytest.mark.parametrize(
    "offset", [0, 1, 4 * MIB - 1, 8 * MIB, 32 * MIB, 50 * MIB, 64 * MIB, 150 * MIB, 200 * MIB - 1]
)
async def test_one_byte_at_a_place_where_formats_keep_data_is_not_blank(disks: Disks, offset: int) -> None:
    disk = disks.blank(200)
    disk.write(offset, b"\x01")
    assert await read_contents(POOL, disk.path, PENDING) == unclaimed(offset)


@pytest.mark.loop
@pytest.mark.parametrize("place", ["start", "end"])
async def test_a_device_that_cannot_be_read_is_an_error_and_never_blank(disks: Disks, place: str) -> None:
    disk = disks.blank(64)
    os.truncate(disk.image, 0 if place == "start" else 60 * MIB)
    for tag in TAGS:
        with pytest.raises(HostError, match="Input/output error"):
            await read_contents(POOL, disk.path, tag)


@pytest.mark.loop
async def test_data_before_a_place_that_cannot_be_read_is_an_error_too(disks: Disks) -> None:
    disk = disks.blank(64)
    disk.write(MIB, b"data")
    os.truncate(disk.image, 60 * MIB)
    with pytest.raises(HostError, match="Input/output error"):
        await read_contents(POOL, disk.path, PENDING)


@pytest.mark.loop
@pytest.mark.parametrize("fs_type", FS_TYPES)
async def test_the_recorded_filesystem_is_ours_and_no_program_is_needed_to_see_it(
    disks: Disks, fs_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = disks.blank(SMALL_MIB[fs_type])
    tag = await make(disk, fs_type)
    monkeypatch.setattr("volplug.host.process.search_path", lambda: "/nonexistent")
    found = await read_contents(POOL, disk.path, formatted(tag))
    assert found == Contents(ContentKind.OURS, f"its {fs_type} filesystem", disk.source.size_bytes)


@pytest.mark.loop
async def test_a_volume_whose_uuid_was_never_recorded_takes_any_filesystem_of_its_type(disks: Disks) -> None:
    disk = disks.blank(8)
    await make(disk, "ext4")
    assert (
        await read_contents(POOL, disk.path, FilesystemTag(FilesystemPhase.FORMATTED, "ext4"))
    ).kind is ContentKind.OURS
    assert (
        await read_contents(POOL, disk.path, FilesystemTag(FilesystemPhase.FORMATTED, "xfs"))
    ).kind is ContentKind.FOREIGN


@pytest.mark.loop
@pytest.mark.parametrize("fs_type", FS_TYPES)
async def test_a_finished_format_is_ours_under_its_plan_and_foreign_where_no_format_was_planned(
    disks: Disks, fs_type: str
) -> None:
    disk = disks.blank(SMALL_MIB[fs_type])
    tag = await make(disk, fs_type)
    before = digest(disk)
    assert (await read_contents(POOL, disk.path, tag)).kind is ContentKind.OURS
    assert (await read_contents(POOL, disk.path, PENDING)).kind is ContentKind.FOREIGN
    assert (await read_contents(POOL, disk.path, plan(fs_type))).kind is ContentKind.FOREIGN
    assert digest(disk) == before


@pytest.mark.loop
async def test_the_copy_of_a_mounted_filesystem_is_dirty(disks: Disks) -> None:
    disk = disks.blank(8)
    tag = formatted(await make(disk, "ext4"))
    copy = copy_while_mounted(disks, disk)
    assert (await read_contents(POOL, disk.path, tag)).kind is ContentKind.OURS
    found = await read_contents(POOL, disks.attach(copy).path, tag)
    assert found == Contents(ContentKind.DIRTY, "its ext4 filesystem, not cleanly unmounted", 8 * MIB)


def copy_while_mounted(disks: Disks, disk: Disk) -> Path:
    mountpoint, copy = disks.directory / "mountpoint", disks.directory / "copy"
    mountpoint.mkdir()
    run("mount", disk.path, str(mountpoint))
    (mountpoint / "file").write_text("written before the crash")
    run("sync", "--file-system", str(mountpoint / "file"))
    run("cp", "--sparse=always", str(disk.image), str(copy))
    run("umount", str(mountpoint))
    return copy


@pytest.mark.loop
async def test_an_image_of_another_type_than_recorded_is_foreign(disks: Disks) -> None:
    disk = disks.blank(8)
    tag = await make(disk, "ext4")
    expected = FilesystemTag(FilesystemPhase.FORMATTED, "xfs", tag.uuid)
    found = await read_contents(POOL, disk.path, expected)
    assert found == Contents(ContentKind.FOREIGN, f"an ext4 filesystem ({tag.uuid})")


@pytest.mark.loop
@pytest.mark.parametrize("name", ["lvm", "dos"])
def test_blkid_says_what_its_captures_say(disks: Disks, captures: Path, name: str) -> None:
    disk = disks.blank(64)
    disk.write(*SIGNATURES["an LVM2_member signature" if name == "lvm" else "a dos partition table"])
    said = run("blkid", "-p", "-o", "export", disk.path).splitlines()
    recorded = (captures / f"blkid-{name}.txt").read_text().splitlines()
    assert said[1:] == recorded[1:]  # all but the device's name


@given(size=st.integers(min_value=1, max_value=2**50).map(lambda sectors: sectors * 512))
def test_samples_lie_inside_the_device_in_order_without_overlaps_and_cover_both_ends(size: int) -> None:
    regions = sample_regions(size)
    assert regions[0].offset == 0
    assert regions[-1].offset + regions[-1].length == size
    for one, following in itertools.pairwise(regions):
        assert one.offset + one.length <= following.offset
    assert all(region.offset % 4096 == 0 and region.length > 0 for region in regions)


def test_a_small_device_is_read_whole() -> None:
    assert sum(region.length for region in sample_regions(8 * MIB)) == 8 * MIB


@pytest.mark.parametrize(
    "offset_mib", [0, 3, 8, 32, 64, 128, 256 * 1024, 250 * 1024, 500 * 1024, 750 * 1024, 1000 * 1024 - 4]
)
def test_samples_cover_the_places_of_copies(offset_mib: int) -> None:
    regions = sample_regions(1000 * 1024 * MIB)
    start = offset_mib * MIB
    assert any(region.offset <= start and start + 4096 <= region.offset + region.length for region in regions)
