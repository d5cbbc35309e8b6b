import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.host.disks import FS_TYPES, MIB, SMALL_MIB, Disk, Disks, mkfs_argv, plan, run
from volplug.errors import HostError
from volplug.host.filesystems.base import is_outgrown
from volplug.host.usage import read_usage
from volplug.models import Usage


def mounted(disks: Disks, fs_type: str) -> tuple[Disk, str]:
    disk, target = disks.blank(SMALL_MIB[fs_type]), disks.target()
    run(*mkfs_argv(disk, plan(fs_type)))
    os.makedirs(target)
    run("mount", disk.path, target)
    return disk, target


def grow_device(disk: Disk, size_bytes: int) -> None:
    os.truncate(disk.image, size_bytes)
    run("losetup", "--set-capacity", disk.path)


def is_filesystem_outgrown(usage: Usage) -> bool:
    assert usage.filesystem_bytes is not None
    return is_outgrown(usage.filesystem_bytes, usage.device_bytes)


@pytest.mark.loop
@pytest.mark.parametrize("fs_type", FS_TYPES)
def test_usage_adds_up_and_shows_a_device_that_was_grown_under_its_filesystem(
    disks: Disks, fs_type: str
) -> None:
    disk, target = mounted(disks, fs_type)
    size_bytes = SMALL_MIB[fs_type] * MIB
    usage = read_usage(target, None)
    assert (usage.device, usage.device_bytes) == (disk.path, size_bytes)
    assert not is_filesystem_outgrown(usage)
    assert 0 < usage.used_bytes < usage.total_bytes <= size_bytes
    assert 0 < usage.free_bytes <= usage.total_bytes - usage.used_bytes
    assert (0 < usage.used_inodes < usage.inodes) == (fs_type != "btrfs")

    grow_device(disk, 4 * size_bytes)
    grown = read_usage(target, usage)
    assert grown.device_bytes == 4 * size_bytes
    assert is_filesystem_outgrown(grown)


@pytest.mark.loop
def test_a_filesystem_that_was_grown_while_mounted_shows_its_new_size(disks: Disks) -> None:
    disk, target = mounted(disks, "btrfs")
    grow_device(disk, 2 * SMALL_MIB["btrfs"] * MIB)
    before = read_usage(target, None)
    assert is_filesystem_outgrown(before)
    run("btrfs", "filesystem", "resize", "max", target)
    run("btrfs", "filesystem", "sync", target)
    assert not is_filesystem_outgrown(read_usage(target, before))


@pytest.mark.loop
def test_the_superblock_is_read_again_only_if_it_may_have_changed(disks: Disks) -> None:
    """Otherwise a device that hangs would keep a thread for each volume that is inspected."""
    _, target = mounted(disks, "ext4")
    usage = read_usage(target, None)
    known = replace(usage, filesystem_bytes=usage.device_bytes - 1)
    assert read_usage(target, known).filesystem_bytes == usage.device_bytes - 1
    for other in (
        replace(known, total_bytes=1),
        replace(known, device="/dev/other"),
        replace(known, device_bytes=1),
    ):
        assert read_usage(target, other).filesystem_bytes == usage.filesystem_bytes


def test_a_place_where_nothing_is_mounted_has_no_usage(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="nothing is mounted at"):
        read_usage(str(tmp_path / "missing"), None)
