"""Devices fail or go while they are mounted: exact errors, nothing hangs, what can be read is read."""

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.dockerd import Dockerd
from tests.faults.agreement import assert_agreement, attached, mounted
from tests.faults.disks import SmallDisk, small_disk
from tests.faults.records import Records
from tests.lab import loops
from tests.lab.plugin import VolplugProcess
from tests.served.conftest import LocalMachine
from tests.served.volumes import container_of, image_of, mount_of, record_of
from volplug.errors import BackendUnavailable, ErrorContext

pytestmark = [pytest.mark.faults, pytest.mark.loop]

_SIZE = 16 * 2**20


async def _mounted(dockerd: Dockerd) -> tuple[Records, str]:
    """Create a volume, mount it, and write records; returns them and the volume's id."""
    await dockerd.ok("Create", Name="db", Opts={"size": "16MiB"})
    path = Path((await dockerd.ok("Mount", Name="db", ID="a"))["Mountpoint"])
    records = Records(path)
    records.write(5)
    status = (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]
    return records, status["id"]


def _context(verb: str, volume_id: str) -> str:
    return f'[{verb} "db", loop {volume_id}, node {platform.node()}]'


def _device(volplug: VolplugProcess) -> str:
    (device,) = loops.attached_below(volplug.state_dir / "backends")
    return device.name


def _is_autoclear(device: str) -> bool:
    shown = subprocess.run(
        ["losetup", "--noheadings", "--output=AUTOCLEAR", device], check=True, capture_output=True, text=True
    )
    return shown.stdout.strip() == "1"


async def _mounted_again(dockerd: Dockerd, volplug: VolplugProcess, records: Records) -> None:
    """The volume can be mounted, holds all records, takes more, and is let go of."""
    await dockerd.ok("Mount", Name="db", ID="again")
    records.check()
    records.write(5)
    await assert_agreement(dockerd, volplug, {"db": 1})
    await dockerd.ok("Unmount", Name="db", ID="again")
    await assert_agreement(dockerd, volplug, {})


async def test_a_filesystem_that_stopped_after_an_error_is_not_handed_out_until_it_is_checked(
    machine: LocalMachine, dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    records, volume_id = await _mounted(dockerd)
    Path(f"/sys/fs/ext4/{Path(_device(volplug)).name}/trigger_fs_error").write_text("as the kernel does")
    with container_of(mount_of(volplug, "db"), machine.directory / "in-container"):
        with pytest.raises(OSError, match="Read-only file system"):
            records.write()
        for _ in range(2):
            assert await dockerd.error("Mount", Name="db", ID="b") == (
                "the filesystem went read-only after an error and is still in use "
                f"{_context('mount', volume_id)}. "
                "Stop the containers that use it; the next mount checks it."
            )
        records.check()
        assert (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]["mountCount"] == 1
    await dockerd.ok("Mount", Name="db", ID="c")
    records.check()
    records.write(5)
    await assert_agreement(dockerd, volplug, {"db": 2})
    for mount_id in ("a", "c"):
        await dockerd.ok("Unmount", Name="db", ID=mount_id)
    await assert_agreement(dockerd, volplug, {})
    await _mounted_again(dockerd, volplug, records)


async def test_what_can_still_be_read_of_a_device_that_fails_is_read(
    dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    """The image loses its end under the mount; whatever lay there is an error to read."""
    records, volume_id = await _mounted(dockerd)
    lost = mount_of(volplug, "db") / "data" / "lost"
    _fill(lost)
    image = image_of(volplug, "db")
    os.truncate(image, _SIZE - 64 * 1024)
    with pytest.raises(OSError, match="Input/output error"):
        lost.read_bytes()
    records.check()
    await dockerd.ok("Get", Name="db")
    await dockerd.ok("Mount", Name="db", ID="b")
    records.check()
    for mount_id in ("a", "b"):
        await dockerd.ok("Unmount", Name="db", ID=mount_id)
    await assert_agreement(dockerd, volplug, {})
    cause = f"the image is too small: {image} has 16320KiB, its record says 16MiB; restore it from a backup"
    assert await dockerd.error("Mount", Name="db", ID="c") == (
        f"{cause} {_context('mount', volume_id)}. Nothing was changed; try again once that is repaired."
    )
    os.truncate(image, _SIZE)
    await dockerd.ok("Mount", Name="db", ID="d")
    records.check()
    lost.unlink()
    records.write(5)
    await dockerd.ok("Unmount", Name="db", ID="d")
    await _mounted_again(dockerd, volplug, records)


def _fill(file: Path) -> None:
    """Take all of a filesystem, so that its end is taken, too; nothing of it stays in memory."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        with suppress(OSError):
            while True:
                os.write(descriptor, b"x" * 4096)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("mounts_again", [True, False])
async def test_a_loop_device_detached_by_hand_under_its_mount_stays_as_long_as_it_is_used(
    dockerd: Dockerd, volplug: VolplugProcess, mounts_again: bool
) -> None:
    """The kernel only notes that it has to go; whoever mounts the volume again calls that off."""
    records, _ = await _mounted(dockerd)
    device = _device(volplug)
    subprocess.run(["losetup", "--detach", device], check=True)
    assert _is_autoclear(device)
    records.write(5)
    await assert_agreement(dockerd, volplug, {"db": 1})
    if mounts_again:
        await dockerd.ok("Mount", Name="db", ID="b")
        assert not _is_autoclear(device)
        await dockerd.ok("Unmount", Name="db", ID="b")
        assert attached(volplug) == {"db"}
    await dockerd.ok("Unmount", Name="db", ID="a")
    await assert_agreement(dockerd, volplug, {})
    await _mounted_again(dockerd, volplug, records)


async def test_an_image_deleted_by_hand_under_its_mount_lives_until_the_last_unmount(
    dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    records, volume_id = await _mounted(dockerd)
    image = image_of(volplug, "db")
    image.unlink()
    await dockerd.ok("Get", Name="db")
    await dockerd.ok("Mount", Name="db", ID="b")
    records.write(5)
    records.check()
    cause, remedy = f"the image is missing: {image}", "Nothing was changed; try again once that is repaired"
    error = await dockerd.error("Create", Name="db", Opts={"size": "16MiB"})
    assert error == f"{cause} {_context('create', volume_id)}. {remedy}."
    records.check()
    for mount_id in ("a", "b"):
        await dockerd.ok("Unmount", Name="db", ID=mount_id)
    await assert_agreement(dockerd, volplug, {})
    error = await dockerd.error("Mount", Name="db", ID="c")
    assert error == f"{cause} {_context('mount', volume_id)}. {remedy}."
    status = (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]
    assert (status["state"], status["detail"]) == ("error", cause)
    await dockerd.ok("Remove", Name="db")
    assert await dockerd.ok("List") == {"Volumes": []}


@pytest.mark.parametrize("is_replaced", [True, False], ids=["something-else-mounted", "unmounted"])
async def test_a_mount_that_is_gone_is_made_again_and_what_is_in_its_place_is_not_handed_out(
    dockerd: Dockerd, volplug: VolplugProcess, is_replaced: bool
) -> None:
    records, _ = await _mounted(dockerd)
    place = mount_of(volplug, "db")
    subprocess.run(["umount", place], check=True)
    if is_replaced:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    assert (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]["mountCount"] == 1
    path = (await dockerd.ok("Mount", Name="db", ID="b"))["Mountpoint"]
    assert Path(path) == place / "data"
    records.check()
    records.write(5)
    await assert_agreement(dockerd, volplug, {"db": 2})
    for mount_id in ("a", "b"):
        await dockerd.ok("Unmount", Name="db", ID=mount_id)
    await assert_agreement(dockerd, volplug, {})
    await _mounted_again(dockerd, volplug, records)


@pytest.fixture
def image_disk(machine: LocalMachine) -> Iterator[SmallDisk]:
    """A disk of its own for the images."""
    place = machine.directory / "volplug" / "backends" / "loop"
    with small_disk(machine.directory / "small.disk", place, 32) as disk:
        yield disk


async def test_a_disk_that_is_taken_away_under_its_volumes_makes_nobody_forget_them(
    image_disk: SmallDisk, dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    records, _ = await _mounted(dockerd)
    image_disk.take_away()
    records.write(5)
    told = (await dockerd.ok("Get", Name="db"))["Volume"]
    assert told["Mountpoint"]
    assert (await dockerd.ok("List"))["Volumes"][0]["Mountpoint"] == told["Mountpoint"]
    await dockerd.ok("Mount", Name="db", ID="b")
    records.check()
    for mount_id in ("a", "b"):
        await dockerd.ok("Unmount", Name="db", ID=mount_id)
    assert mounted(volplug) == set()
    for verb in ("Mount", "Remove"):
        assert await dockerd.error(verb, Name="db", ID="c") == _not_the_disk(image_disk, told, verb)
    assert (await dockerd.ok("Get", Name="db"))["Volume"]["Name"] == "db"
    assert await dockerd.raw("/VolumeDriver.Get", b'{"Name":"other"}') is None
    assert not record_of(volplug, "db").exists()
    image_disk.mount()
    await assert_agreement(dockerd, volplug, {})
    await _mounted_again(dockerd, volplug, records)


def _not_the_disk(disk: SmallDisk, told: dict[str, Any], verb: str) -> str:
    """The error of a directory that only has the right path; as long as the paths are, it is shortened."""
    copy = disk.directory.with_suffix(".id")
    context = ErrorContext(verb.lower(), told["Name"], "loop", told["Status"]["id"], platform.node())
    error = BackendUnavailable(
        f"directory {disk.directory} is not the one used before: it has no id, "
        f"that one had {copy.read_text()[:8]}",
        f"Is its disk not mounted, or a setting reverted? To use it all the same, remove {copy}",
    )
    return str(error.in_context(context))
