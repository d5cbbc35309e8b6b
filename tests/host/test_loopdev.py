import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.host.disks import MIB, Disks, assert_let_go, held, run
from volplug.errors import DeviceMismatch, HostError, Unsupported, VolumeInUse
from volplug.host import loop_attach, loop_discard, loopdev
from volplug.host.devices import size_bytes

pytestmark = pytest.mark.loop


def identity(image: Path) -> tuple[int, int]:
    file = image.stat()
    return file.st_dev, file.st_ino


def test_an_attached_image_is_a_device_of_its_size_and_identity(disks: Disks) -> None:
    disk = disks.blank(10)
    assert size_bytes(disk.path) == 10 * MIB
    assert (disk.device.backing_dev, disk.device.backing_inode) == identity(disk.image)
    assert (disk.device.label, disk.device.read_only, disk.device.autoclear) == ("image", False, False)
    assert loopdev.status(disk.path) == disk.device
    assert loopdev.find(*identity(disk.image), disk.image.name) == disk.device
    assert disk.device in loopdev.attached()


def test_what_is_written_to_the_device_is_in_the_image(disks: Disks) -> None:
    disk = disks.blank(1)
    disk.write(4096, b"written")
    assert disk.image.read_bytes()[4096:4103] == b"written"


def test_direct_io_is_used_unless_not_wanted(disks: Disks) -> None:
    assert disks.blank(1, "direct").device.direct_io
    image = disks.image(1, "cached")
    assert not loop_attach.attach(str(image), "cached", direct_io=False).direct_io


def test_an_image_on_a_filesystem_without_direct_io_is_attached_all_the_same(disks: Disks) -> None:
    directory = disks.directory / "ramfs"
    directory.mkdir()
    run("mount", "-t", "ramfs", "none", str(directory))
    image = directory / "image"
    image.write_bytes(bytes(MIB))
    device = loop_attach.attach(str(image), "image")
    assert (size_bytes(device.path), device.direct_io) == (MIB, False)
    loopdev.detach(device.path)


def test_a_long_label_is_cut_to_what_the_kernel_keeps(disks: Disks) -> None:
    device = loop_attach.attach(str(disks.image(1)), "x" * 100)
    assert device.label == "x" * 63


def test_a_second_attach_of_one_image_is_refused_and_names_the_first(disks: Disks) -> None:
    disk = disks.blank(1)
    with pytest.raises(VolumeInUse, match=f"is attached to {disk.path} already"):
        loop_attach.attach(str(disk.image), "again")
    assert loopdev.status(disk.path) == disk.device


def test_a_second_attach_by_another_name_of_the_image_is_refused(disks: Disks) -> None:
    disk = disks.blank(1)
    link = disks.directory / "hard link"
    os.link(disk.image, link)
    with pytest.raises(VolumeInUse):
        loop_attach.attach(str(link), "again")


def test_an_image_that_losetup_attached_without_a_lock_is_refused(disks: Disks) -> None:
    image = disks.image(1)
    device = run("losetup", "--find", "--show", str(image)).strip()
    with pytest.raises(VolumeInUse, match=f"is attached to {device} already"):
        loop_attach.attach(str(image), "again")


def test_an_image_locked_by_another_program_is_refused(disks: Disks) -> None:
    image = disks.image(1)
    disks.holder("true", "flock", str(image))
    with pytest.raises(VolumeInUse, match="locked by another program"):
        loop_attach.attach(str(image), "image")
    assert loopdev.find(*identity(image), image.name) is None


def test_the_lock_ends_with_the_loop_device_and_not_before(disks: Disks) -> None:
    disk = disks.blank(1)
    take_the_lock = ["flock", "--nonblock", str(disk.image), "true"]
    assert subprocess.run(take_the_lock, check=False).returncode == 1
    loopdev.detach(disk.path)
    assert subprocess.run(take_the_lock, check=False).returncode == 0


def test_two_devices_on_one_image_are_reported_with_both_names(disks: Disks) -> None:
    image = disks.image(1)
    first, second = (run("losetup", "--find", "--show", str(image)).strip() for _ in range(2))
    with pytest.raises(DeviceMismatch) as caught:
        loopdev.find(*identity(image), image.name)
    assert first in str(caught.value)
    assert second in str(caught.value)


def test_of_many_who_attach_one_image_at_once_one_succeeds(disks: Disks) -> None:
    image = disks.image(1)

    def attach(number: int) -> str | None:
        try:
            return loop_attach.attach(str(image), f"attacher {number}").label
        except VolumeInUse:
            return None

    with ThreadPoolExecutor(16) as threads:
        labels = [label for label in threads.map(attach, range(16)) if label]
    device = loopdev.find(*identity(image), image.name)
    assert device is not None
    assert labels == [device.label]


def test_many_images_attach_at_once_to_more_devices_than_there_were(disks: Disks) -> None:
    images = [disks.image(1, f"image-{number}") for number in range(24)]
    with ThreadPoolExecutor(24) as threads:
        devices = list(threads.map(lambda image: loop_attach.attach(str(image), image.name), images))
    assert [device.label for device in devices] == [image.name for image in images]
    assert len({device.path for device in devices}) == 24
    with ThreadPoolExecutor(24) as threads:
        list(threads.map(lambda device: loopdev.detach(device.path, expected=device), devices))
    assert not {device.backing_inode for device in devices} & {
        device.backing_inode for device in loopdev.attached()
    }


def test_an_image_that_is_missing_or_no_file_cannot_be_attached(disks: Disks) -> None:
    with pytest.raises(HostError, match="cannot be attached: No such file or directory"):
        loop_attach.attach(str(disks.directory / "missing"), "missing")
    os.mkfifo(disks.directory / "fifo")
    with pytest.raises(HostError, match="is not a regular file"):
        loop_attach.attach(str(disks.directory / "fifo"), "fifo")


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("_CONTROL", "/nowhere/loop-control", Unsupported, "gives no loop devices: .*: No such file"),
        ("_LOOP_CONFIGURE", 0x4C7F, HostError, "cannot be attached: "),  # as before Linux 5.8, which has none
        ("_ATTACH_TRIES", 0, HostError, "no free loop device was found in 0 tries"),
    ],
)
def test_what_a_host_lacks_for_loop_devices_is_said(
    disks: Disks,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: object,
    error: type[HostError],
    words: str,
) -> None:
    image = disks.image(1)
    monkeypatch.setattr(loop_attach, name, value)
    with pytest.raises(error, match=words):
        loop_attach.attach(str(image), "image")


@pytest.mark.parametrize(
    "call",
    [
        loopdev.status,
        loopdev.detach,
        lambda path: loopdev.keep(loopdev.LoopDevice(path, 0, 0, "", False, False, False)),
    ],
    ids=["status", "detach", "keep"],
)
def test_what_is_no_loop_device_is_an_error_with_the_kernels_reason(call: Callable[[str], object]) -> None:
    with pytest.raises(HostError, match=r"the loop device /dev/null cannot be .*: Inappropriate ioctl"):
        call("/dev/null")


@pytest.mark.parametrize("listing", [loopdev.attached, loopdev.all_devices])
def test_a_device_that_goes_while_all_are_listed_is_an_error_and_not_an_empty_list(
    monkeypatch: pytest.MonkeyPatch, listing: Callable[[], object]
) -> None:
    monkeypatch.setattr(loopdev, "_read_whole", lambda _: b"   7   999999       1024 loop999999\n")
    with pytest.raises(HostError, match="the loop devices cannot be listed: No such file"):
        listing()


def test_a_device_without_a_node_is_given_one(
    disks: Disks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose /dev is no devtmpfs."""
    disk = disks.blank(1)
    monkeypatch.setattr(loopdev, "_DEV", str(tmp_path))
    for _ in range(2):
        path = loopdev.node_path(os.path.basename(disk.path))
        assert loopdev.status(path) == replace(disk.device, path=path)


def test_a_free_or_missing_device_has_no_status(disks: Disks) -> None:
    disk = disks.blank(1)
    loopdev.detach(disk.path)
    assert loopdev.status(disk.path) is None
    assert loopdev.status("/dev/loop999999") is None
    assert loopdev.find(*identity(disk.image), disk.image.name) is None


def test_detach_of_what_is_not_attached_is_success(disks: Disks) -> None:
    disk = disks.blank(1)
    loopdev.detach(disk.path)
    loopdev.detach(disk.path)
    loopdev.detach("/dev/loop999999")


def test_a_detach_while_mounted_is_refused_and_changes_nothing(disks: Disks) -> None:
    disk = disks.blank(8)
    run("mkfs.ext4", "-q", disk.path)
    mountpoint = disks.directory / "mountpoint"
    mountpoint.mkdir()
    run("mount", disk.path, str(mountpoint))
    with pytest.raises(VolumeInUse):
        loopdev.detach(disk.path)
    assert loopdev.status(disk.path) == disk.device  # autoclear is still off
    run("umount", str(mountpoint))
    assert_let_go(disk)
    assert loopdev.status(disk.path) == disk.device
    loopdev.detach(disk.path)


def test_a_detach_under_an_exclusive_opener_is_refused_and_changes_nothing(disks: Disks) -> None:
    disk = disks.blank(1)
    with held(disk.path), pytest.raises(VolumeInUse):
        loopdev.detach(disk.path)
    assert loopdev.status(disk.path) == disk.device


def test_a_detach_that_a_plain_opener_delays_is_an_error(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loopdev, "_DETACH_TIMEOUT_S", 0.01)
    disk = disks.blank(1)
    with open(disk.path, "rb"), pytest.raises(HostError, match="some program has it open"):
        loopdev.detach(disk.path)
    assert loopdev.find(*identity(disk.image), disk.image.name) is None  # it went with the last close


def test_a_device_that_has_another_image_by_now_is_not_detached(disks: Disks) -> None:
    disk, other = disks.blank(1), disks.blank(1, "other")
    with pytest.raises(DeviceMismatch, match="has the image image, not other"):
        loopdev.detach(disk.path, expected=other.device)
    assert loopdev.status(disk.path) == disk.device


def test_disabled_discard_keeps_a_full_image_full(disks: Disks) -> None:
    image = disks.image(16)
    with image.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 16 * MIB)
    disk = disks.attach(image)
    assert loop_discard.disable_discard(disk.path)
    refused = subprocess.run(["blkdiscard", disk.path], check=False, capture_output=True, text=True)
    assert "Operation not supported" in refused.stderr
    assert image.stat().st_blocks * 512 >= 16 * MIB


def test_an_image_that_wants_discards_gets_them_even_from_a_device_where_they_were_disabled(
    disks: Disks,
) -> None:
    used_before = disks.blank(1, "used before")
    assert loop_discard.disable_discard(used_before.path)
    loopdev.detach(used_before.path)
    image = disks.image(16, "wants discards")
    with image.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 16 * MIB)
    run("blkdiscard", loop_attach.attach(str(image), "wants discards", discards=True).path)
    assert image.stat().st_blocks * 512 < MIB


def test_discard_of_a_device_that_is_not_there_cannot_be_disabled() -> None:
    assert not loop_discard.disable_discard("/dev/loop999999")


def test_a_detach_that_waits_for_a_reader_can_be_called_off(disks: Disks) -> None:
    """Otherwise the device would go from under a mount, and its number to the next image."""
    disk = disks.blank(1)
    with open(disk.path, "rb"):
        subprocess.run(["losetup", "--detach", disk.path], check=True)
        waiting = loopdev.status(disk.path)
        assert waiting is not None
        assert waiting.autoclear
        kept = loopdev.keep(waiting)
        assert kept is not None
        assert not kept.autoclear
    assert loopdev.status(disk.path) == kept


def test_what_has_another_image_by_now_or_none_is_not_kept(disks: Disks) -> None:
    one, other = disks.blank(1, "one"), disks.blank(1, "other")
    assert loopdev.keep(replace(one.device, path=other.path)) is None
    loopdev.detach(one.path)
    assert loopdev.keep(one.device) is None


def test_an_image_that_is_open_elsewhere_is_not_attached_while_a_device_does_not_say_which_it_has(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does whose image is on a file server that is gone; nobody can tell whether it is this image."""
    image = disks.image(1)
    monkeypatch.setattr(loop_attach, "all_devices", lambda: ([], ["/dev/loop999999"]))
    with image.open("rb"), pytest.raises(VolumeInUse) as refused:
        loop_attach.attach(str(image), "image")
    assert str(refused.value) == (
        f"/dev/loop999999 does not say which image it has, and the image {image} is open elsewhere. "
        "See what /dev/loop999999 is attached to: losetup /dev/loop999999."
    )
    device = loop_attach.attach(str(image), "image")  # of which nothing else knows
    loopdev.detach(device.path)


@pytest.mark.parametrize("is_removed", [False, True])
def test_an_image_that_is_replaced_before_it_is_locked_is_not_attached(
    disks: Disks, monkeypatch: pytest.MonkeyPatch, is_removed: bool
) -> None:
    image = disks.image(1)

    def replace_it(descriptor: int, path: str) -> None:
        image.unlink()
        if not is_removed:
            image.write_bytes(bytes(MIB))

    monkeypatch.setattr(loop_attach, "_lock", replace_it)
    label = f"{image.parent.name}-{os.getpid()}"  # loop devices are the machine's
    with pytest.raises(HostError, match=r"was replaced while it was being attached|No such file"):
        loop_attach.attach(str(image), label)
    assert label not in {device.label for device in loopdev.attached()}
