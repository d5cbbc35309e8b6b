import subprocess
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host.disks import FS_TYPES, MIB
from volplug.host.filesystems import FILESYSTEMS
from volplug.host.filesystems.base import MAX_UNUSED_BYTES, SUPERBLOCK_BYTES, Superblock
from volplug.sizes import GIB

UUID = "0f1e2d3c-4b5a-4968-8796-a5b4c3d2e1f0"
EXT4_BYTES, XFS_BYTES, BTRFS_BYTES = 64 * MIB, 300 * MIB, 128 * MIB


def captured(captures: Path, name: str) -> tuple[bytes, str]:
    return (captures / f"{name}.bin").read_bytes(), name.partition("-")[0]


@pytest.mark.parametrize(
    ("capture", "expected"),
    [
        ("ext4-clean", Superblock("ext4", UUID, EXT4_BYTES, is_finished=True, is_clean=True)),
        (
            "ext4-mounted",
            Superblock("ext4", UUID, EXT4_BYTES, True, False, was_mounted=True, needs_replay=True),
        ),
        ("ext4-after-error", Superblock("ext4", UUID, EXT4_BYTES, True, is_clean=False, was_mounted=True)),
        ("xfs", Superblock("xfs", UUID, XFS_BYTES, is_finished=True, is_clean=True)),
        ("xfs-unfinished", Superblock("xfs", UUID, XFS_BYTES, is_finished=False, is_clean=True)),
        ("btrfs", Superblock("btrfs", UUID, BTRFS_BYTES, is_finished=True, is_clean=True)),
        ("btrfs-unfinished", Superblock("btrfs", UUID, 300 * MIB, is_finished=False, is_clean=True)),
    ],
)
def test_a_real_superblock_is_read(captures: Path, capture: str, expected: Superblock) -> None:
    page, fs_type = captured(captures, capture)
    assert FILESYSTEMS[fs_type].primary_superblock(page) == expected


@pytest.mark.parametrize(("fs_type", "capture"), [("ext4", "xfs"), ("xfs", "btrfs"), ("btrfs", "ext4-clean")])
def test_a_superblock_of_another_type_is_none(captures: Path, fs_type: str, capture: str) -> None:
    assert FILESYSTEMS[fs_type].primary_superblock(captured(captures, capture)[0]) is None


@pytest.mark.parametrize("capture", ["ext4-clean", "xfs", "btrfs"])
def test_a_superblock_that_is_cut_off_is_none(captures: Path, capture: str) -> None:
    page, fs_type = captured(captures, capture)
    filesystem = FILESYSTEMS[fs_type]
    start = filesystem.superblock_offset - filesystem.superblock_page.offset
    assert filesystem.superblock(page[start : start + SUPERBLOCK_BYTES]) is not None
    assert filesystem.superblock(page[start : start + SUPERBLOCK_BYTES - 1]) is None


@pytest.mark.parametrize(
    ("offset", "patch", "size_bytes"),
    [
        (0x150, 1, EXT4_BYTES + (1024 << 32)),  # the high half of the number of blocks, of 1 KiB here
        (0x18, 6, EXT4_BYTES * 64),  # the largest block
        (0x18, 7, None),
        (0x18, 255, None),
    ],
)
def test_the_size_of_an_ext4_is_its_blocks_times_a_possible_block_size(
    captures: Path, offset: int, patch: int, size_bytes: int | None
) -> None:
    page = bytearray(captured(captures, "ext4-clean")[0])
    page[1024 + offset] = patch
    found = FILESYSTEMS["ext4"].primary_superblock(bytes(page))
    assert found is not None
    assert found.size_bytes == size_bytes


def test_an_external_journal_is_not_an_ext4_filesystem(captures: Path) -> None:
    page = bytearray(captured(captures, "ext4-clean")[0])
    page[1024 + 0x60] |= 0x8
    assert FILESYSTEMS["ext4"].primary_superblock(bytes(page)) is None


@pytest.mark.parametrize("fs_type", FS_TYPES)
def test_zeros_are_none(fs_type: str) -> None:
    assert FILESYSTEMS[fs_type].primary_superblock(bytes(4096)) is None


@given(fs_type=st.sampled_from(FS_TYPES), data=st.binary(max_size=5000))
def test_any_bytes_are_read_without_an_error(fs_type: str, data: bytes) -> None:
    found = FILESYSTEMS[fs_type].superblock(data)
    assert found is None or found.fs_type == fs_type


SIZES = {
    "ext4": [("", 8 * MIB), ("-b 4096", 386 * MIB), ("-b 1024", 57 * MIB), ("", 20 * GIB + 2 * MIB)],
    "xfs": [("", 300 * MIB), ("-d agsize=128m", 399 * MIB), ("-d agsize=128m", 400 * MIB), ("", 20 * GIB)],
    "btrfs": [("", 128 * MIB), ("-s 65536", 129 * MIB), ("", 20 * GIB)],
}


@pytest.mark.parametrize("odd_bytes", [0, 512, MIB - 512])
@pytest.mark.parametrize(
    ("fs_type", "options", "size_bytes"), [(name, *case) for name in FS_TYPES for case in SIZES[name]]
)
def test_a_filesystem_fills_its_device_but_for_a_little(
    tmp_path: Path, fs_type: str, options: str, size_bytes: int, odd_bytes: int
) -> None:
    device_bytes = size_bytes + odd_bytes
    unused_bytes = device_bytes - made_bytes(tmp_path / "image", device_bytes, fs_type, options)
    assert 0 <= unused_bytes <= MAX_UNUSED_BYTES


def test_the_little_may_be_nearly_a_whole_group_of_xfs(tmp_path: Path) -> None:
    unused_bytes = 399 * MIB - made_bytes(tmp_path / "image", 399 * MIB, "xfs", "-d agsize=128m")
    assert unused_bytes == 15 * MIB


def made_bytes(image: Path, size_bytes: int, fs_type: str, options: str) -> int:
    """Make a filesystem and return the size that its superblock states."""
    filesystem = FILESYSTEMS[fs_type]
    with image.open("x+b") as file:
        file.truncate(size_bytes)
        argv = filesystem.mkfs_argv(str(image), options.split(), str(uuid.uuid4()))
        subprocess.run(argv, check=True, capture_output=True)
        file.seek(filesystem.superblock_page.offset)
        found = filesystem.primary_superblock(file.read(filesystem.superblock_page.length))
    assert found is not None
    assert found.size_bytes is not None
    return found.size_bytes
