"""Room for images: what does not fit is refused before it hurts, and what fails leaves nothing behind."""

import asyncio
import os
import re
from contextlib import suppress
from pathlib import Path

import pytest

from tests.drivers.disks import Disk
from tests.drivers.loop_volumes import driver_of, image_of, leave_creation, spec_of
from volplug.errors import LimitExceeded, VolplugError
from volplug.models import BlockDevice, VolumeState
from volplug.sizes import MIB

pytestmark = pytest.mark.loop

ADVICE = "Free some space, or ask for a smaller size."


@pytest.mark.parametrize("allocation", ["preallocated", "sparse"])
async def test_a_volume_larger_than_the_free_space_is_refused(disk: Disk, allocation: str) -> None:
    with pytest.raises(LimitExceeded) as refused:
        await driver_of(disk.directory).create(spec_of(size_bytes=100 * MIB, allocation=allocation))
    text = (
        re.escape(f"100MiB do not fit: {disk.directory} has ") + r"6[34]\.\dMiB free\. " + re.escape(ADVICE)
    )
    assert re.fullmatch(text, str(refused.value)), str(refused.value)
    assert disk.files() == []


async def test_what_is_promised_to_sparse_volumes_is_not_free(disk: Disk) -> None:
    driver = driver_of(disk.directory)
    await driver.create(spec_of("first", 40 * MIB, "sparse"))
    for allocation in ("sparse", "preallocated"):
        with pytest.raises(LimitExceeded) as refused:
            await driver.create(spec_of("second", 40 * MIB, allocation))
        assert "of which " in refused.value.cause
        assert refused.value.cause.endswith(" are promised to sparse volumes")
    assert disk.files() == ["first.img", "first.json"]
    await driver.create(spec_of("small", 20 * MIB))


async def test_nothing_is_refused_for_space_that_was_promised_before(disk: Disk) -> None:
    driver = driver_of(disk.directory)
    await driver.delete(await driver.create(spec_of("first", 40 * MIB, "sparse")))
    await driver.create(spec_of("second", 40 * MIB, "sparse"))


async def test_a_backend_may_promise_more_than_it_has(disk: Disk) -> None:
    driver = driver_of(disk.directory, overcommit=3.0)
    for number in range(4):
        await driver.create(spec_of(f"v{number}", 40 * MIB, "sparse"))
    with pytest.raises(LimitExceeded):
        await driver.create(spec_of("too-much", 40 * MIB, "sparse"))


async def test_limits_are_the_space_of_the_disk_and_what_is_promised_of_it(disk: Disk) -> None:
    driver = driver_of(disk.directory, overcommit=2.0)
    empty, nothing = await driver.limits()
    await driver.create(spec_of("all", 8 * MIB))
    await driver.create(spec_of("none", 40 * MIB, "sparse"))
    space, promised = await driver_of(disk.directory, overcommit=2.0).limits()
    assert (space.name, space.unit, promised.name, promised.unit) == ("space", "bytes", "promised", "bytes")
    assert 8 * MIB <= space.used - empty.used < 9 * MIB
    assert space.maximum == empty.maximum == space.used + disk.free_bytes
    assert (nothing.used, promised.used, promised.maximum) == (0, 40 * MIB, 2 * disk.free_bytes)


async def test_limits_of_a_directory_that_is_not_made_yet_are_those_of_its_disk(disk: Disk) -> None:
    space, promised = await driver_of(disk.directory / "new" / "deeper").limits()
    assert (space.maximum, promised.used) == (space.used + disk.free_bytes, 0)
    assert disk.files() == []


async def test_a_preallocated_image_that_does_not_fit_after_all_leaves_nothing(disk: Disk) -> None:
    with pytest.raises(LimitExceeded) as refused:
        await driver_of(disk.directory, overcommit=10.0).create(spec_of(size_bytes=100 * MIB))
    assert str(refused.value) == (f"100MiB do not fit on {disk.directory}: No space left on device. {ADVICE}")
    assert disk.files() == []


async def test_on_a_full_disk_every_call_that_writes_says_so(disk: Disk) -> None:
    driver = driver_of(disk.directory)
    volume = await driver.create(spec_of())
    disk.fill()
    with pytest.raises(VolplugError, match="No space left on device"):
        await driver.create(spec_of("w"))
    with pytest.raises(VolplugError, match="No space left on device"):
        await driver.tag_filesystem(volume, volume.filesystem)
    assert await driver_of(disk.directory).get("v") == volume
    assert [name for name in disk.files() if "w" in name] == []


async def test_a_volume_can_be_deleted_on_a_full_disk(disk: Disk) -> None:
    driver = driver_of(disk.directory)
    volume = await driver.create(spec_of())
    disk.fill()
    await driver.delete(volume)
    assert disk.files() == ["filler"]


async def test_an_interrupted_creation_is_finished_without_room_for_two(disk: Disk) -> None:
    spec = spec_of(size_bytes=40 * MIB)
    await asyncio.to_thread(leave_creation, disk.directory, spec, 40 * MIB)
    volume = await driver_of(disk.directory).create(spec)
    assert volume.state is VolumeState.AVAILABLE
    assert image_of(disk.directory).stat().st_size == 40 * MIB


async def test_an_interrupted_creation_that_no_longer_fits_leaves_nothing(disk: Disk) -> None:
    spec = spec_of(size_bytes=100 * MIB)
    await asyncio.to_thread(leave_creation, disk.directory, spec, 10 * MIB)
    for _ in range(2):
        with pytest.raises(LimitExceeded):
            await driver_of(disk.directory).create(spec)
    assert disk.files() == []


async def test_an_image_that_goes_while_room_is_counted_does_not_disturb_a_creation(images: Path) -> None:
    """Its name is listed and leads nowhere, as when another volume is deleted at that moment."""
    images.mkdir()
    image_of(images, "other").symlink_to(images / "gone")
    await driver_of(images).create(spec_of())


async def test_a_preallocated_image_can_be_written_again_on_a_full_disk(host_disk: Path) -> None:
    """It owns its space from the start, on filesystems with copy-on-write, too."""
    images = host_disk / "images"
    driver = driver_of(images)
    volume = await driver.create(spec_of(size_bytes=32 * MIB))
    source = await driver.attach(volume)
    try:
        for content in (b"first", b"again"):
            await asyncio.to_thread(overwrite, source, content)
            assert await asyncio.to_thread(read_ends, source) == content * 2
            await asyncio.to_thread(fill, host_disk)
    finally:
        await driver.detach(volume)


def overwrite(source: BlockDevice, content: bytes) -> None:
    with open(source.device, "r+b") as device:
        for _ in range(0, source.size_bytes, MIB):
            device.write(content.ljust(MIB // 2, b".") + content.rjust(MIB // 2, b"."))
        device.flush()
        os.fsync(device.fileno())


def read_ends(source: BlockDevice) -> bytes:
    with open(source.device, "rb") as device:
        start = device.read(5)
        device.seek(-5, os.SEEK_END)
        return start + device.read(5)


def fill(directory: Path) -> None:
    """Leave no room, however small the pieces."""
    with (directory / "filler").open("ab") as file:
        for size_bytes in (64 * MIB, MIB, 64 * 1024):
            with suppress(OSError):
                while True:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size_bytes)
