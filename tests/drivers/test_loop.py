"""What is special about volumes in image files: damage, other programs, and interrupted work."""

import asyncio
import fcntl
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.drivers.loop_volumes import (
    SIZE,
    assert_only_described,
    created,
    driver_of,
    image_of,
    leave_creation,
    leave_deletion,
    record_of,
    spec_of,
)
from tests.lab import loops
from tests.lab.waiting import wait_until
from volplug.drivers.loop.records import is_change_detectable
from volplug.errors import UnexpectedState, VolumeExists, VolumeInUse
from volplug.host import loopdev
from volplug.models import FilesystemPhase, FilesystemTag, Volume, VolumeState
from volplug.sizes import MIB
from volplug.testing.conformance.calls import located

pytestmark = pytest.mark.loop

UUID = "6f1c2b1e-0d6c-4a52-8f0a-0c3f4c1d9b77"
GARBAGE = os.urandom(64 * 1024)


# The files


async def test_only_root_can_read_volumes(images: Path) -> None:
    await created(images)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (images, *images.iterdir())}
    assert modes == {"images": 0o700, "v.img": 0o600, "v.json": 0o600}


@pytest.mark.parametrize(("allocation", "is_full"), [("", True), ("preallocated", True), ("sparse", False)])
async def test_images_are_preallocated_unless_sparse_is_asked_for(
    images: Path, allocation: str, is_full: bool
) -> None:
    await driver_of(images).create(spec_of(allocation=allocation))
    status = image_of(images).stat()
    assert status.st_size == SIZE
    assert (status.st_blocks * 512 >= SIZE) == is_full


async def test_what_is_not_a_record_is_no_volume(images: Path) -> None:
    volume = await created(images)
    (images / ".w.new").write_text("half a record")
    (images / "notes.txt").write_text("nothing of ours")
    assert list(await driver_of(images).list()) == [volume]


async def test_a_record_changed_by_hand_shows_at_once(images: Path) -> None:
    await created(images)
    driver, record = driver_of(images), record_of(images)
    for profile in ("golden", "silver"):  # as long as each other, and within one tick of the clock
        text = record.read_text()
        record.write_text(re.sub(r'"profile": ".*?"', f'"profile": "{profile}"', text))
        shown = await driver.get("v")
        assert shown is not None
        assert shown.spec.profile == profile


async def test_a_record_is_read_again_when_its_file_is_another_one(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volplug.drivers.loop.records._CLOCK_STEP_NS", -1)  # as if it were written long ago
    volume, driver = await created(images), driver_of(images)
    reads: list[str] = []

    def read(text: str, source: str) -> Volume:
        reads.append(text)
        return volume

    monkeypatch.setattr("volplug.drivers.loop.records.unchecked_volume", read)
    for _ in range(3):
        assert await driver.get("v") == volume
        assert list(await driver.list()) == [volume]
    assert len(reads) == 1
    copy = images / "copy"
    copy.write_bytes(record_of(images).read_bytes())
    copy.rename(record_of(images))
    assert await driver.get("v") == volume
    assert len(reads) == 2
    record_of(images).unlink()
    assert (await driver.get("v"), list(await driver.list())) == (None, [])


def wait_until_changes_show(images: Path) -> None:
    """Wait until the next change of the directory will show in its times for certain."""
    wait_until(lambda: is_change_detectable(images.stat()), 20, f"{images} has not changed for a while")


async def test_a_list_is_kept_until_something_comes_goes_or_is_attached(images: Path) -> None:
    driver, volume = driver_of(images), await created(images)
    other = await created(images, "other")
    wait_until_changes_show(images)
    assert sorted(await driver.list(), key=lambda each: each.name) == [other, volume]
    # Other tests' loop devices come and go as well, between two lists now and then.
    assert any([await driver.list() is await driver.list() for _ in range(20)])
    source = await driver.attach(volume)
    states = {each.name: each.state for each in await driver.list()}
    assert states == {"v": VolumeState.IN_USE, "other": VolumeState.AVAILABLE}
    await driver.detach(volume)
    assert loopdev.status(source.device) is None
    assert sorted(await driver.list(), key=lambda each: each.name) == [other, volume]
    image_of(images).unlink()
    assert {each.name: each.state for each in await driver.list()}["v"] is VolumeState.ERROR
    record_of(images).unlink()
    assert list(await driver.list()) == [other]


async def test_a_file_changed_in_place_shows_in_the_list_after_some_seconds(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = driver_of(images)
    await created(images)
    wait_until_changes_show(images)
    monkeypatch.setattr("volplug.drivers.loop.listing.FRESH_S", 0)
    await driver.list()
    os.truncate(image_of(images), 1)
    (shown,) = await driver.list()
    assert shown.state is VolumeState.ERROR


# Damage


@pytest.mark.parametrize(("size_bytes", "said"), [(SIZE // 2, "2MiB"), (0, "0B"), (None, "")])
async def test_an_image_that_is_cut_off_or_missing_is_not_attached(
    images: Path, size_bytes: int | None, said: str
) -> None:
    volume, driver, image = await created(images), driver_of(images), image_of(images)
    if size_bytes is None:
        image.unlink()
    else:
        os.truncate(image, size_bytes)
    detail = f"the image is missing: {image}"
    if said:
        detail = f"the image is too small: {image} has {said}, its record says 4MiB; restore it from a backup"
    shown = await driver.get("v")
    assert shown is not None
    assert (shown.state, shown.detail) == (VolumeState.ERROR, detail)
    assert list(await driver.list()) == [shown]
    with pytest.raises(UnexpectedState) as refused:
        await driver.attach(volume)
    assert str(refused.value) == f"{detail}. Nothing was changed."
    assert loops.attached_below(images) == []
    await driver.delete(volume)
    assert list(images.iterdir()) == []


@pytest.mark.parametrize(
    ("size_bytes", "device_bytes"), [(2 * SIZE, 2 * SIZE), (SIZE + 512, SIZE + 512), (SIZE + 511, SIZE)]
)
async def test_an_image_that_is_larger_than_its_record_is_a_volume_of_that_size(
    images: Path, size_bytes: int, device_bytes: int
) -> None:
    volume, driver = await created(images), driver_of(images)
    os.truncate(image_of(images), size_bytes)
    grown = replace(volume, size_bytes=device_bytes)
    assert await driver.get("v") == grown
    assert list(await driver.list()) == [grown]
    assert (await driver.attach(grown)).size_bytes == device_bytes
    tagged = await driver.tag_filesystem(grown, FilesystemTag(FilesystemPhase.FORMATTED, "ext4", UUID))
    assert tagged.size_bytes == device_bytes
    assert json.loads(record_of(images).read_text())["volume"]["size_bytes"] == SIZE
    await driver.detach(grown)
    os.truncate(image_of(images), SIZE)
    shown = await driver.get("v")
    assert shown == replace(volume, filesystem=tagged.filesystem)


async def test_a_volume_names_its_image_and_no_record_does(images: Path) -> None:
    volume = await created(images)
    assert volume.details == (("image", str(image_of(images))),)
    record = record_of(images)
    assert str(images) not in record.read_text()
    record.write_text(record.read_text().replace('"details": []', '"details": [["image", "/etc/passwd"]]'))
    assert await driver_of(images).get("v") == volume


async def test_an_image_without_a_record_is_never_touched(images: Path) -> None:
    images.mkdir()
    image_of(images).write_bytes(GARBAGE)
    driver = driver_of(images)
    assert (await driver.get("v"), list(await driver.list())) == (None, [])
    assert str(await driver.absence("v")) == (
        f"no such volume: the image {image_of(images)} is there, its record v.json is not. "
        "Restore the record from a backup."
    )
    assert str(await driver.absence("w")) == "no such volume. Create it: docker volume create -d volplug w."
    with pytest.raises(VolumeExists) as refused:
        await driver.create(spec_of())
    assert str(refused.value) == (
        f"the image {image_of(images)} exists without a record. "
        "Restore its record from a backup, or move the image away."
    )
    assert image_of(images).read_bytes() == GARBAGE


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "the record is damaged: {}; restore it from a backup"),
        ("{", "the record is damaged: {}; restore it from a backup"),
        ("[]", "the record is damaged: {}; restore it from a backup"),
        ("\x00" * 100, "the record is damaged: {}; restore it from a backup"),
        ('{"format": 2, "volume": {}}', "the record {} has format 2, not 1"),
        ('{"format": 1}', "the record is damaged: {}; restore it from a backup"),
        ('{"format": 1, "volume": {"name": "v"}}', "the record {} cannot be read (5 errors)"),
        ("[" * 100_000, "the record is damaged: {}; restore it from a backup"),
    ],
    ids=["empty", "cut", "list", "zeros", "newer", "without-volume", "incomplete", "deep"],
)
async def test_a_record_that_cannot_be_read_is_a_volume_in_error_and_nothing_is_concluded_from_it(
    images: Path, text: str, detail: str
) -> None:
    await created(images)
    other = await created(images, "other")
    image_of(images).write_bytes(GARBAGE)
    record_of(images).write_text(text)
    await assert_only_described(images, detail.format(record_of(images)))
    assert other in await driver_of(images).list()
    assert (image_of(images).read_bytes(), record_of(images).read_text()) == (GARBAGE, text)


async def test_a_volume_whose_record_was_spoilt_while_it_was_attached_can_be_detached(images: Path) -> None:
    driver, volume = driver_of(images), await created(images)
    source = await driver.attach(volume)
    record_of(images).write_text(record_of(images).read_text().replace('"data"', '"../.."'))
    shown = await driver.get("v")
    assert shown is not None
    assert (shown.state, shown.holder, shown.subpath) == (VolumeState.ERROR, "host1", "data")
    assert shown.detail.endswith("cannot be used: '../..' is not the name of one directory")
    assert await located(driver, volume) == source
    await driver.detach(volume)
    assert loops.attached_below(images) == []


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        (
            '"driver_options": []',
            '"driver_options": [["allocation", "../x"]]',
            "option 'allocation' is '../x'",
        ),
        ('00Z"', '00"', "the time 2026-01-02 00:00:00 has no time zone"),
    ],
)
async def test_a_record_passes_the_checks_of_users_options_and_can_be_shown(
    images: Path, old: str, new: str, cause: str
) -> None:
    await asyncio.to_thread(leave_creation, images, spec_of(), SIZE, VolumeState.AVAILABLE)
    record = record_of(images)
    text = record.read_text()
    assert old in text
    record.write_text(text.replace(old, new))
    await assert_only_described(images, f"the record {record} cannot be used: {cause}")
    shown = await driver_of(images).get("v")
    assert shown is not None
    assert shown.created_at is None or shown.created_at.tzinfo is not None


# Other programs


async def test_an_image_attached_by_hand_is_not_attached_a_second_time(images: Path) -> None:
    volume = await created(images)
    argv = ["losetup", "--find", "--show", str(image_of(images))]
    by_hand = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    driver = driver_of(images)
    source = await driver.attach(volume)
    assert source.device == by_hand
    assert [each.name for each in loops.attached_below(images)] == [by_hand]
    with pytest.raises(VolumeInUse) as refused:
        await driver.delete(volume)
    assert str(refused.value) == f"the volume's image is attached to {by_hand}."
    await driver.detach(volume)
    assert loops.attached_below(images) == []


async def test_an_image_locked_by_another_program_is_neither_attached_nor_deleted(images: Path) -> None:
    volume, image = await created(images), image_of(images)
    with image.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(VolumeInUse) as refused:
            await driver_of(images).attach(volume)
        assert str(refused.value) == f"the image {image} is locked by another program."
        with pytest.raises(VolumeInUse):
            await driver_of(images).delete(volume)
    assert image.stat().st_size == SIZE
    assert loops.attached_below(images) == []


async def test_a_deletion_refused_at_the_last_moment_leaves_a_usable_volume(images: Path) -> None:
    volume, driver = await created(images), driver_of(images)
    with image_of(images).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(VolumeInUse):
            await driver.delete(volume)
    assert await driver.get("v") == volume
    await driver.attach(volume)


async def test_a_device_that_is_open_exclusively_is_not_detached(images: Path) -> None:
    volume, driver = await created(images), driver_of(images)
    source = await driver.attach(volume)
    descriptor = os.open(source.device, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(VolumeInUse):
            await driver.detach(volume)
        assert await located(driver, volume) == source
    finally:
        os.close(descriptor)
    await driver.detach(volume)
    assert await located(driver, volume) is None


async def test_an_image_removed_while_attached_can_still_be_detached(images: Path) -> None:
    volume, driver = await created(images), driver_of(images)
    source = await driver.attach(volume)
    image_of(images).unlink()
    assert await located(driver_of(images), volume) == source
    await driver_of(images).detach(volume)
    assert loops.attached_below(images) == []


async def test_a_volume_is_known_by_its_file_and_not_by_its_path(images: Path) -> None:
    """Moved with its directory, as under a plugin's new rootfs, it is still the same attached image."""
    volume = await created(images)
    source = await driver_of(images).attach(volume)
    moved = images.with_name("moved")
    images.rename(moved)
    try:
        assert await driver_of(moved).attach(volume) == source
    finally:
        moved.rename(images)
    device = await asyncio.to_thread(loopdev.status, source.device)
    assert device is not None
    assert device.label == volume.volume_id


# Interrupted work


@pytest.mark.parametrize(
    ("image_bytes", "state"),
    [
        *((size, VolumeState.INCOMPLETE) for size in (0, SIZE // 2, SIZE)),
        (SIZE // 2, VolumeState.CREATING),  # as earlier versions wrote it
    ],
)
async def test_an_interrupted_creation_is_finished_under_its_id(
    images: Path, image_bytes: int, state: VolumeState
) -> None:
    begun = await asyncio.to_thread(leave_creation, images, spec_of(), image_bytes, state)
    driver = driver_of(images)
    shown = await driver.get("v")
    assert shown is not None
    assert shown.state is VolumeState.INCOMPLETE
    volume = await driver.create(spec_of())
    assert (volume.volume_id, volume.created_at) == (begun.volume_id, begun.created_at)
    assert image_of(images).read_bytes() == bytes(SIZE)


@pytest.mark.parametrize("has_image", [True, False])
async def test_an_interrupted_deletion_is_finished(images: Path, has_image: bool) -> None:
    volume, driver = await created(images), driver_of(images)
    await asyncio.to_thread(leave_deletion, images, volume)
    if not has_image:
        image_of(images).unlink()
    shown = await driver.get("v")
    assert shown is not None
    assert shown.state is VolumeState.DELETING
    with pytest.raises(VolumeExists):
        await driver.create(spec_of())
    await driver.delete(volume)
    assert list(images.iterdir()) == []


async def test_a_tag_interrupted_while_it_was_written_is_the_old_or_the_new_one(images: Path) -> None:
    volume = await created(images)
    tag = FilesystemTag(FilesystemPhase.FORMATTING, "ext4", "0c6f6d3c-9a0b-4f0e-8a4e-111122223333")
    (images / ".v.json.new").write_text("half a rec")
    driver = driver_of(images)
    assert await driver.get("v") == volume
    await driver.tag_filesystem(volume, tag)
    shown = await driver_of(images).get("v")
    assert shown is not None
    assert shown.filesystem == tag
    assert sorted(path.name for path in images.iterdir()) == ["v.img", "v.json"]


async def test_sizes_of_a_moved_backend_keep_their_volumes(images: Path) -> None:
    """A backend renamed in the configuration has the same volumes, under its new name."""
    await created(images)
    renamed = type(driver_of(images))("disks", "host1", images)
    shown = await renamed.get("v")
    assert shown is not None
    assert (shown.backend, shown.size_bytes) == ("disks", 4 * MIB)
