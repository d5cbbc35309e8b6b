import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.disks import Disk as SmallDisk
from tests.host.disks import Disk, Disks, formatted, plan, run, spec_of
from tests.host.pool import POOL
from tests.lab.waiting import wait_until
from volplug.errors import MountFailed
from volplug.host import formatting
from volplug.host.contents import read_contents
from volplug.models import ContentKind

pytestmark = [pytest.mark.loop, pytest.mark.faults]

FILES = [f"{number}/kept" for number in range(60)]


@pytest.fixture
def small_disk(disks: Disks) -> Iterator[SmallDisk]:
    directory = disks.directory / "small"
    directory.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(directory))
    try:
        yield SmallDisk(directory)
    finally:  # once the disk is gone, nobody finds what is attached on it
        for mountpoint in set(disks.mounted()) - {str(directory)}:
            run("umount", mountpoint)
        for device in disks.attached():
            run("losetup", "--detach", device)
        wait_until(lambda: not disks.attached(), 20, "nothing on the disk is attached")
        run("umount", str(directory))


def write_durably(mountpoint: Path) -> None:
    for file in FILES:
        (mountpoint / file).parent.mkdir()
        with (mountpoint / file).open("w") as opened:
            opened.write(file)
            opened.flush()
            os.fsync(opened.fileno())


async def unmounted_on_a_full_disk(disks: Disks, small_disk: SmallDisk) -> Disk:
    """A sparse filesystem whose journal holds what the full disk did not take at the unmount."""
    disk, tag = disks.attach(disks.image(64, "small/image")), plan("ext4")
    await formatting.make_filesystem(POOL, disk.source, spec_of("ext4"), tag)
    mountpoint = disks.directory / "mountpoint"
    mountpoint.mkdir()
    run("mount", "-o", "errors=remount-ro", disk.path, str(mountpoint))
    write_durably(mountpoint)
    small_disk.fill()
    run("umount", str(mountpoint))
    assert (await read_contents(POOL, disk.path, formatted(tag))).kind is ContentKind.DIRTY
    return disk


async def test_a_journal_that_the_disk_cannot_take_is_kept_until_it_can(
    disks: Disks, small_disk: SmallDisk
) -> None:
    """By itself, e2fsck empties the journal although what it replays does not reach the disk."""
    disk = await unmounted_on_a_full_disk(disks, small_disk)
    for _ in range(2):
        with pytest.raises(MountFailed) as refused:
            await formatting.check_filesystem(POOL, disk.path, "ext4")
        assert str(refused.value) == (
            f"the journal on {disk.path} cannot be replayed, and was kept: Input/output error. "
            "Check its disk: full, or failing? The kernel's log (dmesg) has the details."
        )
    (small_disk.directory / "filler").unlink()
    await formatting.check_filesystem(POOL, disk.path, "ext4")
    mountpoint = disks.directory / "mountpoint"
    run("mount", disk.path, str(mountpoint))
    assert [(mountpoint / file).read_text() for file in FILES] == FILES


async def test_without_fsopen_the_journal_is_left_to_the_check(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volplug.host.libc._SYS_FSOPEN", 100_000)  # a kernel before Linux 5.2
    disk = disks.blank(8)
    run("mkfs.ext4", "-q", disk.path)
    run("debugfs", "-w", "-R", "feature needs_recovery", disk.path)
    await formatting.check_filesystem(POOL, disk.path, "ext4")
    assert "needs_recovery" not in run("dumpe2fs", "-h", disk.path)
