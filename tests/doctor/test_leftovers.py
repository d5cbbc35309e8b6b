"""Stale mounts and loop devices left over: found, mended, and left alone where they are used."""

import asyncio
import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.doctor.conftest import Examine, mend, only
from tests.host.disks import Disks, aside, held
from tests.lab import loops
from tests.lab.plugin import VolplugProcess
from tests.served.volumes import (
    container_of,
    image_of,
    is_attached,
    is_mounted,
    mount_of,
    process_in,
    wait_until_detached,
)
from volplug.doctor.leftovers import check_loop_devices, check_mounts, stale_because
from volplug.doctor.volumes import KnownVolume
from volplug.errors import AlreadyRunning, BackendUnavailable, UnexpectedState, VolumeInUse
from volplug.findings import Level
from volplug.host import loop_attach
from volplug.volumes.ledger import Desired

pytestmark = [pytest.mark.api, pytest.mark.loop]

GREEN, YELLOW, RED = Level


def do(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True)


@pytest.fixture
async def db(volplug: VolplugProcess, dockerd: Dockerd) -> None:
    await dockerd.ok("Create", Name="db", Opts={"size": "16MiB"})
    await dockerd.ok("Mount", Name="db", ID="c1")


@pytest.fixture
def stale(stopped: VolplugProcess, disks: Disks) -> Iterator[Path]:
    """A filesystem that is mounted below the mount root, and that volplug knows nothing of."""
    disk = disks.blank(16)
    do("mkfs.ext4", "-q", disk.path)
    place = mount_of(stopped, "stale")
    place.mkdir(parents=True)
    do("mount", disk.path, place)
    yield place
    if place.is_mount():
        do("umount", place)


async def unmounted(volplug: VolplugProcess, dockerd: Dockerd) -> None:
    await dockerd.hang_up()  # volplug may have been restarted
    await dockerd.ok("Unmount", Name="db", ID="c1")
    await asyncio.to_thread(wait_until_detached, volplug, "db")


# Mounts


async def test_mounts_that_volplug_knows_are_well_also_while_it_does_not_run(
    db: None, volplug: VolplugProcess, dockerd: Dockerd, examine: Examine
) -> None:
    assert {each.level for each in await examine(check_mounts, check_loop_devices)} == {GREEN}
    volplug.kill()
    mounted, attached = await examine(check_mounts, check_loop_devices)
    assert (mounted.level, mounted.message[:9]) == (GREEN, "1 mounted")
    assert (attached.level, attached.message[:6]) == (GREEN, "1 with")
    await asyncio.to_thread(volplug.start)
    await unmounted(volplug, dockerd)


async def test_a_stale_mount_is_unmounted_by_fix(
    stale: Path, stopped: VolplugProcess, examine: Examine
) -> None:
    found = only(await examine(check_mounts))
    assert (found.level, found.subject) == (YELLOW, str(stale))
    assert f"umount {stale}" in found.remedy
    assert await mend(found) == f"unmounted {stale}"
    assert (is_mounted(stopped, "stale"), stale.exists()) == (False, False)
    assert await mend(found) == f"{stale} is not mounted any more"
    assert only(await examine(check_mounts)).level is GREEN


async def test_a_mount_without_a_disk_is_unmounted_too(stopped: VolplugProcess, examine: Examine) -> None:
    place = mount_of(stopped, "memory")
    place.mkdir(parents=True)
    await asyncio.to_thread(do, "mount", "-t", "tmpfs", "none", place)
    assert await mend(only(await examine(check_mounts))) == f"unmounted {place}"
    assert not is_mounted(stopped, "memory")


async def test_a_stale_mount_that_is_used_stays(
    stale: Path, stopped: VolplugProcess, examine: Examine, tmp_path: Path
) -> None:
    found = only(await examine(check_mounts))
    with process_in(stale) as pid, pytest.raises(VolumeInUse, match=f"process {pid}"):
        await mend(found)
    with container_of(stale, tmp_path / "place"), pytest.raises(VolumeInUse, match="in use by"):
        await mend(found)
    assert is_mounted(stopped, "stale")


async def test_a_mount_is_not_touched_once_another_is_there_or_volplug_runs(
    stale: Path, stopped: VolplugProcess, examine: Examine, disks: Disks
) -> None:
    found = only(await examine(check_mounts))
    other = disks.blank(16, "other")
    await asyncio.to_thread(do, "mkfs.ext4", "-q", other.path)
    await asyncio.to_thread(do, "mount", other.path, stale)
    with pytest.raises(UnexpectedState, match="something else is mounted"):
        await mend(found)
    await asyncio.to_thread(do, "umount", stale)
    await asyncio.to_thread(stopped.start)
    with pytest.raises(AlreadyRunning, match=f"in use by process {stopped.pid}"):
        await mend(found)
    assert is_mounted(stopped, "stale")


async def test_a_mount_that_containers_use_by_now_stays(
    db: None, volplug: VolplugProcess, dockerd: Dockerd, examine: Examine
) -> None:
    """Found stale before; then volplug ran, a container began, and volplug was killed."""
    await unmounted(volplug, dockerd)
    volplug.kill()
    image = image_of(volplug, "db")
    mount_of(volplug, "db").mkdir()
    await asyncio.to_thread(do, "mount", "-o", "loop", image, mount_of(volplug, "db"))
    found = only(await examine(check_mounts))
    assert "no container is counted" in found.message
    await asyncio.to_thread(do, "umount", mount_of(volplug, "db"))
    await asyncio.to_thread(wait_until_detached, volplug, "db")
    await asyncio.to_thread(volplug.start)
    await dockerd.hang_up()
    await dockerd.ok("Mount", Name="db", ID="c2")
    volplug.kill()
    with pytest.raises(VolumeInUse, match="containers may use volume db by now"):
        await mend(found)
    assert is_mounted(volplug, "db")
    await asyncio.to_thread(volplug.start)
    await dockerd.hang_up()
    await dockerd.ok("Unmount", Name="db", ID="c2")
    await asyncio.to_thread(wait_until_detached, volplug, "db")


async def test_what_is_mounted_is_released_by_the_volplug_that_runs(
    db: None, volplug: VolplugProcess, dockerd: Dockerd, examine: Examine
) -> None:
    await unmounted(volplug, dockerd)
    device = aside(loop_attach.attach, str(image_of(volplug, "db")), "by hand")
    mount_of(volplug, "db").mkdir()
    await asyncio.to_thread(do, "mount", device.path, mount_of(volplug, "db"))
    found = only(await examine(check_mounts))
    assert found.remedy == "volplug volume release db"
    assert await mend(found) == "volplug released volume db"
    assert not is_mounted(volplug, "db")
    assert not is_attached(volplug, "db")


async def test_a_mount_of_another_image_is_told(
    db: None, volplug: VolplugProcess, dockerd: Dockerd, examine: Examine
) -> None:
    """Its container reads and writes what is not the volume."""
    await dockerd.ok("Create", Name="other", Opts={"size": "16MiB"})
    await dockerd.ok("Mount", Name="other", ID="c3")
    (device,) = [each for each in aside(loops.attached_below, volplug.state_dir) if "other" in each.image]
    await asyncio.to_thread(do, "umount", mount_of(volplug, "db"))
    await asyncio.to_thread(do, "mount", device.name, mount_of(volplug, "db"))
    found = only(await examine(check_mounts))
    assert (found.level, found.fix) == (RED, None)
    assert "is not the image of this volume" in found.message
    assert "Stop the containers that use it" in found.remedy
    await asyncio.to_thread(do, "umount", mount_of(volplug, "db"))
    await dockerd.ok("Unmount", Name="other", ID="c3")
    await dockerd.ok("Unmount", Name="db", ID="c1")
    for name in ("db", "other"):
        await asyncio.to_thread(wait_until_detached, volplug, name)


CLAIMED = KnownVolume("v", "id", "b", None, Desired.MOUNTED, is_claimed=True)


@pytest.mark.parametrize(
    ("volume", "has_device", "is_outdated", "is_needed", "cause"),
    [
        (CLAIMED, True, False, True, ""),
        (CLAIMED, False, False, True, "its disk has gone"),
        (CLAIMED, True, True, True, "not the image"),
        (CLAIMED, True, False, False, "no container"),
        (None, True, False, False, "does not know a volume"),
    ],
)
def test_why_a_mount_is_stale(
    volume: KnownVolume | None, has_device: bool, is_outdated: bool, is_needed: bool, cause: str
) -> None:
    told = stale_because(volume, has_device=has_device, is_outdated=is_outdated, is_needed=is_needed)
    assert (cause in told) if cause else told == ""


# Loop devices


@contextmanager
def locked_by_another(directory: Path) -> Iterator[None]:
    """A volplug with a state directory of its own has this backend's directory, too."""
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        os.close(descriptor)


async def test_a_loop_device_left_over_is_detached_by_fix(
    db: None, volplug: VolplugProcess, dockerd: Dockerd, examine: Examine
) -> None:
    await unmounted(volplug, dockerd)
    volplug.kill()
    device = aside(loop_attach.attach, str(image_of(volplug, "db")), "by hand")
    found = only(await examine(check_loop_devices))
    assert (found.level, found.subject, found.remedy) == (YELLOW, device.path, f"losetup -d {device.path}")
    with held(device.path):
        used = only(await examine(check_loop_devices))
        assert (used.fix, f"fuser -v {device.path}" in used.remedy) == (None, True)
        with pytest.raises(VolumeInUse, match="is in use"):
            await mend(found)
    with (
        locked_by_another(image_of(volplug, "db").parent),
        pytest.raises(BackendUnavailable, match="is used by another volplug"),
    ):
        await mend(found)
    assert await mend(found) == f"detached {device.path} from {image_of(volplug, 'db')}"
    assert not is_attached(volplug, "db")
    assert only(await examine(check_loop_devices)).level is GREEN


async def test_a_loop_device_of_a_deleted_image_is_detached_by_fix(
    stopped: VolplugProcess, examine: Examine
) -> None:
    image = image_of(stopped, "gone")
    image.parent.mkdir(parents=True, exist_ok=True)
    await asyncio.to_thread(do, "truncate", "--size=16M", image)
    device = aside(loop_attach.attach, str(image), "loop-0123456789ab")
    image.unlink()
    found = only(await examine(check_loop_devices))
    assert "has the deleted image" in found.message
    assert await mend(found) == f"detached {device.path} from {os.path.realpath(image)}"


async def test_a_loop_device_is_detached_by_the_volplug_that_runs(
    db: None, volplug: VolplugProcess, dockerd: Dockerd, examine: Examine
) -> None:
    await unmounted(volplug, dockerd)
    aside(loop_attach.attach, str(image_of(volplug, "db")), "by hand")
    found = only(await examine(check_loop_devices))
    assert found.remedy == "volplug volume release db"
    assert await mend(found) == "volplug released volume db"
    assert not is_attached(volplug, "db")
