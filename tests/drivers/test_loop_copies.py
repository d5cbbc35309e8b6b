"""Copies of volumes: what identifies a volume is copied with its files, and must not make two of them one."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.drivers.loop_volumes import SIZE, assert_only_described, created, driver_of, image_of, record_of
from tests.lab import loops
from volplug.models import VolumeState
from volplug.testing.conformance.calls import located

pytestmark = pytest.mark.loop

GARBAGE = os.urandom(64 * 1024)


async def test_a_copied_volume_is_never_taken_for_the_original_nor_the_original_for_it(images: Path) -> None:
    """As in `cp v.img copy.img; cp v.json copy.json; docker volume rm copy`."""
    volume = await created(images)
    for suffix in ("img", "json"):
        (images / f"copy.{suffix}").write_bytes((images / f"v.{suffix}").read_bytes())
    image_of(images).write_bytes(GARBAGE[:SIZE].ljust(SIZE, b"x"))
    before = image_of(images).read_bytes()
    record = images / "copy.json"
    await assert_only_described(
        images,
        f"the record {record} is one of volume 'v'; to make a copy a volume of its own, write 'copy' as its "
        "name and spec.name, and another volume_id",
        "copy",
    )
    assert volume in await driver_of(images).list()
    record.write_text(
        record.read_text().replace('"v"', '"copy"').replace(volume.volume_id, "loop-aaaaaaaaaaaa")
    )
    driver = driver_of(images)
    copy = await driver.get("copy")
    assert copy is not None
    assert (copy.name, copy.state) == ("copy", VolumeState.AVAILABLE)
    await driver.delete(copy)
    assert list(await driver.list()) == [volume]
    assert image_of(images).read_bytes() == before


def copy_under_another_name(images: Path) -> None:
    """Leave a copy that has the name of its own, but not an id of its own."""
    shutil.copy(image_of(images), image_of(images, "copy"))
    record_of(images, "copy").write_text(record_of(images).read_text().replace('"v"', '"copy"'))


async def test_two_records_with_one_volume_id_are_errors_that_name_each_other(images: Path) -> None:
    volume, driver = await created(images), driver_of(images)
    await driver.get("v")
    copy_under_another_name(images)
    same = "has the same volume_id as"
    remedy = "write another one into that of the copy"
    for name, other in (("v", "copy"), ("copy", "v")):
        detail = f"the record {record_of(images, name)} {same} {record_of(images, other)}; {remedy}"
        shown = await driver.get(name)
        assert shown is not None
        assert (shown.state, shown.detail) == (VolumeState.ERROR, detail)
        await assert_only_described(images, detail, name)
    record = record_of(images, "copy")
    record.write_text(record.read_text().replace(volume.volume_id, "loop-aaaaaaaaaaaa"))
    assert await driver.get("v") == volume
    copy = await driver.get("copy")
    assert copy is not None
    await driver.delete(copy)
    assert list(await driver.list()) == [volume]


async def test_a_volume_that_was_renamed_with_its_files_is_no_copy(images: Path) -> None:
    volume, driver = await created(images), driver_of(images)
    await driver.get("v")
    copy_under_another_name(images)
    image_of(images).unlink()
    record_of(images).unlink()
    details = (("image", str(image_of(images, "copy"))),)
    renamed = replace(volume, name="copy", spec=replace(volume.spec, name="copy"), details=details)
    assert list(await driver.list()) == [renamed]
    assert await driver.get("copy") == renamed


async def test_a_copy_never_has_the_device_of_the_original_which_can_be_detached(images: Path) -> None:
    volume, driver = await created(images), driver_of(images)
    source = await driver.attach(volume)
    copy_under_another_name(images)
    for each in (driver, driver_of(images)):
        copy, original = await each.get("copy"), await each.get("v")
        assert copy is not None
        assert original is not None
        assert (copy.holder, original.holder) == (None, "host1")
        assert (await located(each, copy), await located(each, volume)) == (None, source)
    await driver.detach(volume)
    assert loops.attached_below(images) == []


@pytest.mark.parametrize("is_image_removed", [False, True])
async def test_a_copied_directory_has_volumes_and_devices_of_its_own(
    images: Path, tmp_path: Path, is_image_removed: bool
) -> None:
    """As in `cp -a` of a whole state directory, used by a second volplug on the same host."""
    volume = await created(images)
    source = await driver_of(images).attach(volume)
    second = tmp_path / "second" / "images"
    shutil.copytree(images, second)
    second.chmod(0o700)
    if is_image_removed:
        image_of(images).unlink()
    driver = driver_of(second)
    assert await driver.get("v") == replace(volume, details=(("image", str(image_of(second))),))
    assert await located(driver, volume) is None
    await driver.detach(volume)
    own = await driver.attach(volume)
    assert (own.outdated, own.device != source.device) == ("", True)
    assert await located(driver_of(images), volume) == source
    await driver.detach(volume)
    await driver.delete(volume)
    assert [each.name for each in loops.attached_below(tmp_path)] == [source.device]
    await driver_of(images).detach(volume)
    assert loops.attached_below(tmp_path) == []


async def test_a_device_attached_in_a_mount_namespace_that_has_ended_is_known_without_its_image(
    images: Path, tmp_path: Path
) -> None:
    """As by a managed plugin before its upgrade: the path that the kernel has begins at its mount."""
    volume = await created(images)
    place = tmp_path / "place"
    place.mkdir()
    program = (
        "import sys; from volplug.host.loop_attach import attach\n"
        "print(attach(f'{sys.argv[1]}/images/v.img', sys.argv[2]).path)"
    )
    bind = f'mount --bind {tmp_path} {place} && exec "$0" -c "$1" {place} {volume.volume_id}'
    argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", bind, sys.executable, program]
    device = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    image_of(images).unlink()
    source = await located(driver_of(images), volume)
    assert source is not None
    assert source.name == device
    await driver_of(images).detach(volume)
    assert loops.attached_below(tmp_path) == []


@pytest.mark.parametrize(
    "state", [VolumeState.ATTACHING, VolumeState.IN_USE, VolumeState.DETACHING, VolumeState.ERROR]
)
async def test_the_holder_of_a_volume_is_never_read_from_its_record(images: Path, state: VolumeState) -> None:
    volume, driver = await created(images), driver_of(images)
    record = record_of(images)
    text = record.read_text().replace('"state": "available"', f'"state": "{state}"')
    record.write_text(text.replace('"holder": null', '"holder": "host2"'))
    assert await driver.get("v") == volume
    assert list(await driver.list()) == [volume]
    await driver.attach(volume)
    await driver.detach(volume)
