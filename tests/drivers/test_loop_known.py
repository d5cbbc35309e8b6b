"""Get answers from memory until anything is changed; what is changed by hand shows at once."""

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.drivers.loop_volumes import created, driver_of, image_of, record_of
from volplug.drivers.loop.directory import unlock_all
from volplug.drivers.loop.driver import LoopDriver
from volplug.errors import BackendUnavailable
from volplug.host import loop_attach
from volplug.host.loopdev import LoopDevice
from volplug.models import Volume, VolumeState

pytestmark = pytest.mark.loop


class CountingDriver(LoopDriver):
    """Counts how often the directory is read for a Get."""

    reads = 0

    def _get(self, name: str) -> Volume | None:
        self.reads += 1
        return super()._get(name)


@pytest.fixture
async def driver(images: Path) -> CountingDriver:
    await created(images)
    driver = CountingDriver("loop", "host1", images)
    await driver.get("v")
    return driver


async def test_a_volume_that_was_not_changed_is_not_read_again(driver: CountingDriver) -> None:
    known, before = await driver.get("v"), driver.reads
    for _ in range(5):
        assert await driver.get("v") == known
    assert driver.reads == before


def _edit(images: Path) -> None:
    record = record_of(images)
    record.write_text(record.read_text().replace('"data"', '"other"'))


def _replace(images: Path) -> None:
    new = images / "new"
    new.write_text(record_of(images).read_text().replace('"data"', '"other"'))
    new.rename(record_of(images))


@pytest.mark.parametrize("change", [_edit, _replace])
async def test_a_record_that_is_changed_by_hand_shows_at_once(
    driver: CountingDriver, images: Path, change: Callable[[Path], None]
) -> None:
    for _ in range(2):
        await driver.get("v")
    change(images)
    found = await driver.get("v")
    assert found is not None
    assert found.subpath == "other"


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (lambda image: image.unlink(), "is missing"),
        (lambda image: os.truncate(image, 4096), "has 4KiB"),
        (lambda image: image.rename(image.with_name("away")), "is missing"),
    ],
)
async def test_an_image_that_is_changed_by_hand_shows_at_once(
    driver: CountingDriver, images: Path, change: Callable[[Path], object], detail: str
) -> None:
    await driver.get("v")
    change(image_of(images))
    found = await driver.get("v")
    assert found is not None
    assert found.state is VolumeState.ERROR
    assert detail in found.detail


async def test_a_volume_that_is_removed_by_hand_is_gone_at_once(driver: CountingDriver, images: Path) -> None:
    await driver.get("v")
    record_of(images).unlink()
    assert await driver.get("v") is None


async def test_a_device_that_is_attached_by_hand_shows_until_it_is_detached(
    driver: CountingDriver, images: Path
) -> None:
    await driver.get("v")
    with ExitStack() as stack:
        image = str(image_of(images))
        device = subprocess.run(
            ["losetup", "--find", "--show", image], check=True, capture_output=True, text=True
        ).stdout.strip()
        stack.callback(subprocess.run, ["losetup", "--detach", device], check=True)
        attached = await driver.get("v")
        assert attached is not None
        assert attached.state is VolumeState.IN_USE
    found = await driver.get("v")
    assert found is not None
    assert found.holder is None


async def test_a_copy_with_the_same_id_spoils_the_one_that_was_known(
    driver: CountingDriver, images: Path
) -> None:
    for _ in range(2):
        await driver.get("v")
    described = json.loads(record_of(images).read_text())
    described["volume"]["name"] = described["volume"]["spec"]["name"] = "copy"
    (images / "copy.json").write_text(json.dumps(described))
    found = await driver.get("v")
    assert found is not None
    assert "has the same volume_id" in found.detail


async def test_another_directory_in_the_place_of_the_known_one_shows_at_once(
    driver: CountingDriver, images: Path
) -> None:
    for _ in range(2):
        await driver.get("v")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", str(images)], check=True)
    try:
        assert await driver.get("v") is None
    finally:
        unlock_all()
        subprocess.run(["umount", str(images)], check=True)
    assert await driver.get("v") is not None


async def test_a_change_while_a_volume_is_read_is_not_missed(
    driver: CountingDriver, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed = driver._observed

    def observe_and_change(*arguments: object) -> Volume:
        found = observed(*arguments)  # type: ignore[arg-type]
        _edit(images)
        return found

    _edit(images)
    monkeypatch.setattr(driver, "_observed", observe_and_change)
    await driver.get("v")
    monkeypatch.undo()
    os.truncate(record_of(images), 0)
    record_of(images).write_text("{}")
    found = await driver.get("v")
    assert found is not None
    assert found.state is VolumeState.ERROR


async def test_what_this_driver_changes_is_read_again(driver: CountingDriver) -> None:
    known = await driver.get("v")
    assert known is not None
    tag = replace(known.filesystem, phase=known.filesystem.phase)
    await driver.tag_filesystem(known, tag)
    source = await driver.attach(known)
    attached = await driver.get("v")
    assert attached is not None
    assert (attached.holder, source.serial) == ("host1", known.volume_id)
    await driver.detach(known)
    assert await driver.get("v") == known
    await driver.delete(known)
    assert await driver.get("v") is None


async def test_the_drivers_of_other_processes_are_seen(driver: CountingDriver, images: Path) -> None:
    await driver.get("v")
    other = driver_of(images)
    known = await other.get("v")
    assert known is not None
    await other.delete(known)
    assert await driver.get("v") is None


async def test_a_get_while_a_device_is_being_attached_is_not_kept(
    driver: CountingDriver, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image is open already, and no event tells when the device has it."""
    known = await driver.get("v")
    assert known is not None
    configure = loop_attach._configure

    def look_and_configure(*arguments: object) -> LoopDevice:
        assert asyncio.run(driver.get("v")) == known
        return configure(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop_attach, "_configure", look_and_configure)
    await driver.attach(known)
    attached = await driver.get("v")
    assert attached is not None
    assert attached.state is VolumeState.IN_USE
    await driver.detach(known)


async def test_what_was_read_of_a_directory_that_cannot_be_watched_is_not_kept(
    driver: CountingDriver, images: Path
) -> None:
    """A disk that is mounted over the watched directory, with a copy of it; ramfs reports no events here."""
    record = record_of(images).read_text()
    await driver.get("v")
    subprocess.run(["mount", "-t", "ramfs", "-o", "mode=0700", "ramfs", str(images)], check=True)
    try:
        record_of(images).write_text(record)
        image_of(images).write_bytes(bytes(1 << 20))
        for _ in range(2):
            await driver.get("v")
        record_of(images).unlink()
        assert await driver.get("v") is None
    finally:
        unlock_all()
        subprocess.run(["umount", str(images)], check=True)


async def test_a_record_that_cannot_be_read_hides_no_copy_for_good(images: Path) -> None:
    """The ids are compared once all changed records could be read."""
    await created(images)
    driver = driver_of(images)
    await driver.get("v")
    described = json.loads(record_of(images).read_text())
    described["volume"]["name"] = described["volume"]["spec"]["name"] = "copy"
    bad = images / "bad.json"
    bad.mkdir()  # reading it fails
    (images / "copy.json").write_text(json.dumps(described))
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            await driver.get("v")
    bad.rmdir()
    found = await driver.get("v")
    assert found is not None
    assert "has the same volume_id" in found.detail
