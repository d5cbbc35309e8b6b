"""One image, one loop device: by whatever name it was attached, and whatever lies in its place by now."""

import asyncio
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.drivers.loop_volumes import SIZE, created, driver_of, image_of
from tests.lab import loops
from volplug.errors import DeviceMismatch, VolumeInUse
from volplug.host import loopdev
from volplug.models import VolumeState
from volplug.testing.conformance.calls import located

pytestmark = pytest.mark.loop


@pytest.mark.parametrize("how", ["hard link", "bind mount", "link elsewhere"])
async def test_an_image_attached_by_another_name_is_neither_attached_a_second_time_nor_deleted(
    images: Path, tmp_path: Path, how: str
) -> None:
    """As by `mount -o loop` of a backup that is a hard link."""
    volume, image = await created(images), image_of(images)
    other = tmp_path / "backup"
    if how == "bind mount":
        other.touch()
        subprocess.run(["mount", "--bind", str(image), str(other)], check=True)
    else:
        (other if how == "hard link" else images / "v2.img").hardlink_to(image)
    name = images / "v2.img" if how == "link elsewhere" else other
    argv = ["losetup", "--find", "--show", str(name)]
    by_hand = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    try:
        for change in (driver_of(images).attach(volume), driver_of(images).delete(volume)):
            with pytest.raises(VolumeInUse) as refused:
                await change
            assert str(refused.value) == (
                f"the image {image} is attached to {by_hand} already, which knows it as {name}."
            )
        assert await driver_of(images).get("v") == volume
        assert [each.name for each in loops.attached()].count(by_hand) == 1
    finally:
        subprocess.run(["losetup", "--detach", by_hand], check=True)
        if how == "bind mount":
            subprocess.run(["umount", str(other)], check=True)
    source = await driver_of(images).attach(volume)  # more names than one are no reason to refuse
    await driver_of(images).detach(volume)
    assert source.outdated == ""


async def test_programs_that_read_the_image_keep_it_from_nothing(images: Path) -> None:
    volume, driver = await created(images), driver_of(images)
    with image_of(images).open("rb"):  # a backup
        source = await driver.attach(volume)
        assert loopdev.status(source.device) is not None
        await driver.detach(volume)
        await driver.delete(volume)


async def test_a_reader_that_comes_while_an_image_is_attached_ends_neither(images: Path) -> None:
    """The kernel tells the holder of a lease by a signal, which must not end the process."""
    volume, driver = await created(images), driver_of(images)
    ended = asyncio.Event()

    async def read() -> None:
        while not ended.is_set():
            await asyncio.to_thread(image_of(images).read_bytes)

    reading = asyncio.create_task(read())
    for _ in range(20):
        await driver.attach(volume)
        await driver.detach(volume)
    ended.set()
    await reading


async def test_an_image_that_was_replaced_while_attached_is_a_mismatch_and_its_device_can_be_released(
    images: Path,
) -> None:
    """As by `cp --sparse=always v.img x && mv x v.img`."""
    volume, driver, image = await created(images), driver_of(images), image_of(images)
    source = await driver.attach(volume)
    copy = images / "copy"
    copy.write_bytes(image.read_bytes())
    copy.rename(image)
    for each in (driver, driver_of(images)):  # the second one has nothing in memory
        found = await located(each, volume)
        assert found is not None
        assert (found.name, found.serial) == (source.device, volume.volume_id)
        assert found.outdated == f"the image {image} was replaced while it was attached to {source.device}"
    with pytest.raises(DeviceMismatch, match="was replaced while it was attached to"):
        await driver_of(images).attach(volume)
    with pytest.raises(VolumeInUse):
        await driver_of(images).delete(volume)
    assert [each.name for each in loops.attached_below(images)] == [source.device]
    await driver_of(images).detach(volume)
    assert loops.attached_below(images) == []
    assert (await driver.attach(volume)).outdated == ""
    await driver.detach(volume)


@pytest.mark.parametrize("size_bytes", [SIZE // 2, 2 * SIZE])
async def test_a_volume_whose_image_was_resized_while_attached_is_known_by_its_inode_and_can_be_detached(
    images: Path, size_bytes: int
) -> None:
    driver, volume = driver_of(images), await created(images)
    source = await driver.attach(volume)
    os.truncate(image_of(images), size_bytes)
    subprocess.run(["losetup", "--set-capacity", source.device], check=True)
    for each in (driver, driver_of(images)):  # the second one has nothing in memory
        shown = await each.get("v")
        assert shown is not None
        state = VolumeState.ERROR if size_bytes < SIZE else VolumeState.IN_USE
        assert (shown.state, shown.holder) == (state, "host1")
        assert list(await each.list()) == [shown]
        assert await located(each, shown) == replace(source, size_bytes=size_bytes)
    await driver.detach(volume)
    assert loops.attached_below(images) == []
    await driver.delete(volume)
    assert list(images.iterdir()) == []
