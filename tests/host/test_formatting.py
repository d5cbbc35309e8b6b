import asyncio
import os
import signal
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from tests.host.disks import (
    FS_TYPES,
    MIB,
    SMALL_MIB,
    Disk,
    Disks,
    formatted,
    held,
    mark,
    mkfs_argv,
    plan,
    run,
    spec_of,
)
from tests.host.pool import POOL
from tests.host.test_contents import SIGNATURES
from volplug.errors import CommandFailed, DeviceNotFound, FilesystemMismatch, HostError, VolumeInUse
from volplug.host import formatting
from volplug.host.contents import read_contents
from volplug.host.filesystems import FILESYSTEMS
from volplug.host.format_mark import mark_of
from volplug.host.process import search_path
from volplug.models import ContentKind, Contents, FilesystemPhase, FilesystemTag

UUID = "0f1e2d3c-4b5a-4968-8796-a5b4c3d2e1f0"

# Smallest whole MiB that mkfs accepts: e2fsprogs 1.47 (with a journal), xfsprogs 6.1, btrfs-progs 6.2.
MINIMUM_MIB = {"ext4": 2, "xfs": 300, "btrfs": 109}


def test_the_installed_types_are_those_whose_mkfs_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert formatting.installed() == ("btrfs", "ext4", "xfs")
    program = tmp_path / "mkfs.xfs"
    program.touch(mode=0o755)
    monkeypatch.setattr("volplug.host.formatting.search_path", lambda: str(tmp_path))
    assert formatting.installed() == ("xfs",)


@pytest.mark.loop
@pytest.mark.parametrize("fs_type", FS_TYPES)
async def test_a_blank_device_becomes_the_planned_filesystem(disks: Disks, fs_type: str) -> None:
    disk, tag = disks.blank(SMALL_MIB[fs_type]), plan(fs_type)
    await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), tag)
    found = run("blkid", "-p", "-o", "export", disk.path)
    assert f"TYPE={fs_type}\n" in found
    assert f"UUID={tag.uuid}\n" in found
    assert (await read_contents(POOL, disk.path, formatted(tag))).kind is ContentKind.OURS


@pytest.mark.loop
@pytest.mark.parametrize("fs_type", FS_TYPES)
async def test_each_type_can_be_made_and_mounted_at_its_minimum_size(disks: Disks, fs_type: str) -> None:
    disk = disks.blank(MINIMUM_MIB[fs_type])
    await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), plan(fs_type))
    mountpoint = disks.directory / "mountpoint"
    mountpoint.mkdir()
    run("mount", disk.path, str(mountpoint))


@pytest.mark.loop
@pytest.mark.parametrize("fs_type", ["xfs", "btrfs"])
async def test_below_the_minimum_size_mkfs_says_what_it_needs(disks: Disks, fs_type: str) -> None:
    disk = disks.blank(MINIMUM_MIB[fs_type] - 1)
    with pytest.raises(CommandFailed, match=r"must be larger than 300MB|minimum size for each btrfs device"):
        await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), plan(fs_type))


@pytest.mark.loop
@pytest.mark.parametrize(("fs_type", "try_run"), [("ext4", "-n"), ("xfs", "-N")])
async def test_what_mkfs_claims_to_have_made_is_looked_at(disks: Disks, fs_type: str, try_run: str) -> None:
    disk = disks.blank(SMALL_MIB[fs_type])
    with pytest.raises(FilesystemMismatch, match=f"mkfs.{fs_type} reported success but {disk.path} does not"):
        await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type, [try_run]), plan(fs_type))


@pytest.mark.loop
def test_a_device_is_not_marked_under_a_holder_nor_where_it_is_dead_or_missing(disks: Disks) -> None:
    disk, tag = disks.blank(8), plan("ext4")
    with held(disk.path), pytest.raises(VolumeInUse):
        formatting._mark(disk.path, tag)
    with pytest.raises(DeviceNotFound):
        formatting._mark("/dev/nothing", tag)
    os.truncate(disk.image, 0)  # what the device has is nowhere
    with pytest.raises(HostError, match="cannot be written: Input/output error"):
        formatting._mark(disk.path, tag)


@pytest.mark.loop
async def test_a_preallocated_image_stays_allocated_through_mkfs(disks: Disks) -> None:
    for fs_type in FS_TYPES:
        image = disks.image(SMALL_MIB[fs_type], fs_type)
        allocate(image)
        disk = disks.attach(image)
        await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), plan(fs_type))
        assert image.stat().st_blocks * 512 >= image.stat().st_size, fs_type


def allocate(image: Path) -> None:
    with image.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, image.stat().st_size)


@pytest.mark.loop
async def test_mkfs_of_a_held_device_is_refused(disks: Disks) -> None:
    disk = disks.blank(8)
    with held(disk.path), pytest.raises(VolumeInUse):
        await formatting.make_filesystem(POOL, disk.source, spec_of("ext4"), plan("ext4"))
    assert not any(disk.image.read_bytes())


def replace_program(disks: Disks, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    program = disks.directory / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    path = f"{disks.directory}:{search_path()}"
    monkeypatch.setattr("volplug.host.process.search_path", lambda: path)


@pytest.mark.loop
async def test_an_mkfs_that_says_it_worked_and_made_nothing_is_an_error(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = disks.blank(8)
    replace_program(disks, monkeypatch, "mkfs.ext4", "exit 0")
    with pytest.raises(FilesystemMismatch, match=r"mkfs\.ext4 reported success but"):
        await formatting.make_filesystem(POOL, disk.source, spec_of("ext4"), plan("ext4"))


@pytest.mark.loop
def test_a_device_that_is_held_since_it_was_judged_is_not_written_to(disks: Disks) -> None:
    disk = disks.blank(8)
    with held(disk.path), pytest.raises(VolumeInUse):
        formatting._mark(disk.path, plan("ext4"))
    assert not any(disk.image.read_bytes())


@pytest.mark.loop
def test_a_mark_that_is_written_or_cleared_is_so_on_the_disk(disks: Disks) -> None:
    disk, tag = disks.blank(8), plan("ext4")
    with open(disk.path, "rb"):  # or the last close would write back what was not synced
        formatting._mark(disk.path, tag)
        assert mark_of(tag) in disk.image.read_bytes()
        formatting._clear_mark(disk.path, tag)
        assert not any(disk.image.read_bytes())


@pytest.mark.loop
def test_what_lies_where_the_mark_was_is_not_cleared(disks: Disks) -> None:
    disk, tag = disks.blank(8), plan("ext4")
    mark(disk, plan("ext4"))
    before = disk.image.read_bytes()
    formatting._clear_mark(disk.path, tag)
    assert disk.image.read_bytes() == before


@pytest.mark.loop
async def test_that_a_device_is_held_is_said_before_anything_of_its_contents(disks: Disks) -> None:
    disk = disks.blank(8)
    run("mkfs.ext4", "-q", disk.path)
    with held(disk.path), pytest.raises(VolumeInUse):
        await formatting.make_filesystem(POOL, disk.source, spec_of("ext4"), plan("ext4"))


@pytest.mark.loop
@pytest.mark.parametrize(
    "tag",
    [FilesystemTag(), formatted(plan("ext4")), FilesystemTag(FilesystemPhase.FORMATTING, "ext4", "")],
    ids=lambda tag: tag.to_text(),
)
async def test_mkfs_needs_a_plan(disks: Disks, tag: FilesystemTag) -> None:
    disk = disks.blank(8)
    with pytest.raises(FilesystemMismatch, match="does not permit mkfs"):
        await formatting.make_filesystem(POOL, disk.source, spec_of("ext4"), tag)
    assert not any(disk.image.read_bytes())


@pytest.mark.loop
@pytest.mark.parametrize("fs_type", FS_TYPES)
async def test_noise_is_formatted_only_on_a_device_that_may_hold_it(disks: Disks, fs_type: str) -> None:
    disk = disks.blank(SMALL_MIB[fs_type])
    noise = os.urandom(SMALL_MIB[fs_type] * MIB)
    disk.write(0, noise)
    assert (await read_contents(POOL, disk.path, FilesystemTag())).kind is ContentKind.UNCLAIMED
    with pytest.raises(FilesystemMismatch, match="that no known filesystem claims"):
        await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), plan(fs_type))
    assert disk.image.read_bytes() == noise
    noisy, tag = replace(disk.source, may_hold_noise=True), plan(fs_type)
    await formatting.make_filesystem(POOL, noisy, spec_of(fs_type), tag)
    assert (await read_contents(POOL, disk.path, formatted(tag))).kind is ContentKind.OURS


@pytest.mark.loop
@pytest.mark.parametrize("description", SIGNATURES)
async def test_a_signature_is_never_taken_for_noise(disks: Disks, description: str) -> None:
    disk = disks.blank(64)
    disk.write(0, os.urandom(64 * MIB))
    disk.write(*SIGNATURES[description])
    before = disk.image.read_bytes()
    noisy = replace(disk.source, may_hold_noise=True)
    with pytest.raises(FilesystemMismatch, match=f"mkfs was stopped: .* holds {description}"):
        await formatting.make_filesystem(POOL, noisy, spec_of("ext4"), plan("ext4"))
    assert disk.image.read_bytes() == before


@pytest.mark.loop
@pytest.mark.parametrize("present", FS_TYPES)
@pytest.mark.parametrize("planned", FS_TYPES)
async def test_mkfs_never_touches_a_filesystem_of_another_uuid(
    disks: Disks, present: str, planned: str
) -> None:
    """Also one that appeared after the caller looked: mkfs.ext4 itself would not ask."""
    disk = disks.blank(300)
    run(f"mkfs.{present}", "-q", disk.path)
    before = disk.image.read_bytes()
    with pytest.raises(FilesystemMismatch, match=f"holds an? {present} filesystem"):
        await formatting.make_filesystem(POOL, disk.source, spec_of(planned), plan(planned))
    assert disk.image.read_bytes() == before


@pytest.mark.loop
async def test_mkfs_is_not_repeated_over_the_finished_filesystem(disks: Disks) -> None:
    disk, tag = disks.blank(8), plan("ext4")
    await formatting.make_filesystem(POOL, disk.source, spec_of("ext4"), tag)
    before = disk.image.read_bytes()
    with pytest.raises(FilesystemMismatch, match="holds its ext4 filesystem"):
        await formatting.make_filesystem(POOL, disk.source, spec_of("ext4"), tag)
    assert disk.image.read_bytes() == before


def start_mkfs_and_kill_it(disk: Disk, tag: FilesystemTag, has_written: int) -> None:
    """Kill mkfs as soon as the byte at this offset is not zero any more, or let it end."""
    mark(disk, tag)
    argv = mkfs_argv(disk, tag)
    program = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(disk.path, "rb", buffering=0) as device:
        while program.poll() is None and os.pread(device.fileno(), 1, has_written) == b"\0":
            pass
    program.kill()
    assert program.wait() in (0, -signal.SIGKILL)


@pytest.mark.loop
@pytest.mark.faults
@pytest.mark.parametrize(
    ("fs_type", "has_written"),
    [
        ("xfs", 0),
        ("xfs", 75 * MIB),
        ("btrfs", 64 * 1024 + 64),
        ("btrfs", MIB),
        ("ext4", 1024 + 56),
        ("ext4", 4096),
    ],
)
async def test_an_interrupted_mkfs_can_be_repeated(disks: Disks, fs_type: str, has_written: int) -> None:
    disk, tag = disks.blank(300), plan(fs_type)
    start_mkfs_and_kill_it(disk, tag, has_written)
    found = await read_contents(POOL, disk.path, tag)
    assert found == Contents(ContentKind.PARTIAL, f"an interrupted {fs_type} format")
    await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), tag)
    assert (await read_contents(POOL, disk.path, tag)).kind is ContentKind.OURS
    assert (await read_contents(POOL, disk.path, formatted(tag))).kind is ContentKind.OURS


@pytest.mark.loop
@pytest.mark.faults
@pytest.mark.parametrize("fs_type", ["xfs", "btrfs"])
async def test_a_captured_unfinished_format_is_made_anew_only_beside_the_mark(
    disks: Disks, captures: Path, fs_type: str
) -> None:
    disk, tag = disks.blank(300), plan(fs_type)
    capture = (captures / f"{fs_type}-unfinished.bin").read_bytes()
    ours = capture.replace(uuid.UUID(UUID).bytes, uuid.UUID(tag.uuid).bytes)
    disk.write(FILESYSTEMS[fs_type].superblock_page.offset, ours)
    assert (await read_contents(POOL, disk.path, tag)).kind is ContentKind.FOREIGN
    mark(disk, tag)
    assert (await read_contents(POOL, disk.path, tag)).kind is ContentKind.PARTIAL
    assert (await read_contents(POOL, disk.path, formatted(tag))).kind is ContentKind.FOREIGN
    await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), tag)
    assert (await read_contents(POOL, disk.path, formatted(tag))).kind is ContentKind.OURS


@pytest.mark.loop
@pytest.mark.faults
@pytest.mark.parametrize("fs_type", FS_TYPES)
async def test_a_finished_superblock_over_lost_metadata_is_made_anew_only_beside_the_mark(
    disks: Disks, fs_type: str
) -> None:
    """A power cut leaves it so, before the mark is cleared; later it may have been mounted."""
    disk, tag = disks.blank(SMALL_MIB[fs_type]), plan(fs_type)
    await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), tag)
    lose_metadata(disk, fs_type)
    with pytest.raises(FilesystemMismatch, match=f"mkfs was stopped: .* its {fs_type} filesystem"):
        await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), tag)
    mark(disk, tag)
    await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), tag)
    assert (await read_contents(POOL, disk.path, formatted(tag))).kind is ContentKind.OURS


def lose_metadata(disk: Disk, fs_type: str) -> None:
    page = FILESYSTEMS[fs_type].superblock_page
    begin = page.offset + page.length
    disk.write(begin, bytes(SMALL_MIB[fs_type] * MIB - begin))


@pytest.mark.loop
@pytest.mark.faults
@pytest.mark.parametrize("fs_type", ["ext4", "btrfs", "xfs"])
async def test_a_filesystem_in_use_is_never_taken_for_an_unfinished_format(
    disks: Disks, fs_type: str
) -> None:
    """An old view of the tag may still say that a format is under way, and a crash leaves it unclean."""
    disk, plan_ = disks.blank(SMALL_MIB[fs_type]), plan(fs_type)
    await formatting.make_filesystem(POOL, disk.source, spec_of(fs_type), plan_)
    crashed = disks.attach(copy_while_mounted(disks, disk))
    assert (await read_contents(POOL, crashed.path, plan_)).kind in {ContentKind.OURS, ContentKind.DIRTY}
    with pytest.raises(FilesystemMismatch, match="mkfs was stopped"):
        await formatting.make_filesystem(POOL, crashed.source, spec_of(fs_type), plan_)


@pytest.mark.loop
async def test_an_unclean_ext4_is_repaired_and_its_data_is_there(disks: Disks) -> None:
    disk, plan_ = disks.blank(8), plan("ext4")
    await formatting.make_filesystem(POOL, disk.source, spec_of("ext4"), plan_)
    copy = copy_while_mounted(disks, disk)
    crashed = disks.attach(copy)
    tag = formatted(plan_)
    assert (await read_contents(POOL, crashed.path, tag)).kind is ContentKind.DIRTY
    await formatting.check_filesystem(POOL, crashed.path, "ext4")
    assert (await read_contents(POOL, crashed.path, tag)).kind is ContentKind.OURS
    assert "written before the crash" in run("debugfs", "-R", "cat /file", crashed.path)


def copy_while_mounted(disks: Disks, disk: Disk) -> Path:
    mountpoint, copy = disks.directory / "mountpoint", disks.directory / "copy"
    mountpoint.mkdir()
    run("mount", disk.path, str(mountpoint))
    (mountpoint / "file").write_text("written before the crash")
    run("sync", "--file-system", str(mountpoint / "file"))
    run("cp", "--sparse=always", str(disk.image), str(copy))
    return copy


@pytest.mark.loop
async def test_errors_that_remain_are_a_mismatch_with_advice(disks: Disks) -> None:
    disk = disks.blank(8)
    run("mkfs.ext4", "-q", disk.path)
    run("debugfs", "-w", "-R", "clri <2>", disk.path)
    run("debugfs", "-w", "-R", "set_super_value state 2", disk.path)
    with pytest.raises(FilesystemMismatch, match="fsck left errors") as caught:
        await formatting.check_filesystem(POOL, disk.path, "ext4")
    assert caught.value.remedy == "Run e2fsck -f on the volume's device, or image, while it is not in use"
    assert caught.value.cause == f"fsck left errors on {disk.path}: Root inode is not a directory"


@pytest.mark.loop
async def test_a_check_that_cannot_run_is_not_taken_for_errors_on_the_device(disks: Disks) -> None:
    with pytest.raises(CommandFailed) as caught:
        await formatting.check_filesystem(POOL, disks.blank(8).path, "ext4")
    assert caught.value.exit_code == 8


@pytest.mark.loop
async def test_a_held_device_is_not_checked(disks: Disks) -> None:
    disk = disks.blank(8)
    run("mkfs.ext4", "-q", disk.path)
    with held(disk.path), pytest.raises(VolumeInUse):
        await formatting.check_filesystem(POOL, disk.path, "ext4")


@pytest.mark.parametrize("fs_type", ["xfs", "btrfs"])
async def test_types_that_replay_their_log_at_mount_need_no_check(fs_type: str) -> None:
    await formatting.check_filesystem(POOL, "/dev/nothing", fs_type)


@pytest.mark.loop
async def test_a_check_that_nobody_waits_for_any_more_is_asked_to_stop(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = disks.blank(8)
    begun, asked = disks.directory / "begun", disks.directory / "asked"
    script = f"trap 'kill $!; touch {asked}; exit 8' TERM; sleep 20 & touch {begun}; wait"
    replace_program(disks, monkeypatch, "fsck.ext4", script)
    checking = asyncio.create_task(formatting.check_filesystem(POOL, disk.path, "ext4"))
    while not begun.exists():  # noqa: ASYNC110 - the program is another process
        await asyncio.sleep(0)
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    assert asked.exists()
