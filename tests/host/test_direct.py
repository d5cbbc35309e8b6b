import os

import pytest

from tests.host.disks import MIB, Disks, run
from volplug.errors import DeviceNotFound, HostError
from volplug.host.direct import DirectReader

pytestmark = pytest.mark.loop


def test_bytes_are_read_as_they_are_stored(disks: Disks) -> None:
    disk = disks.blank(3)
    pattern = os.urandom(2 * MIB)
    disk.write(MIB, pattern)
    with DirectReader(disk.path) as reader:
        assert reader.size_bytes == 3 * MIB
        assert reader.read(MIB, 2 * MIB) == pattern
        assert reader.read(0, 4096) == bytes(4096)


def test_reading_ends_where_the_device_ends(disks: Disks) -> None:
    with DirectReader(disks.blank(1).path) as reader:
        assert len(reader.read(MIB - 4096, 64 * 1024)) == 4096
        assert reader.read(2 * MIB, 4096) == b""


def test_a_device_that_ends_inside_a_page_is_read_to_its_end(disks: Disks) -> None:
    image = disks.directory / "odd"
    image.write_bytes(bytes(MIB) + b"x" * 512)
    with DirectReader(disks.attach(image).path) as reader:
        assert reader.read(MIB, 4096) == b"x" * 512


def test_a_single_byte_is_found_where_it_is(disks: Disks) -> None:
    disk = disks.blank(3)
    disk.write(2 * MIB + 12345, b"\x01")
    with DirectReader(disk.path) as reader:
        assert reader.first_data(0, 3 * MIB) == 2 * MIB + 12345
        assert reader.first_data(0, 2 * MIB) is None


def test_a_place_that_cannot_be_read_is_an_error_with_the_kernels_reason(disks: Disks) -> None:
    disk = disks.blank(4)
    os.truncate(disk.image, MIB)  # beyond, the device has nothing to read from
    with DirectReader(disk.path) as reader:
        assert reader.first_data(0, MIB) is None
        with pytest.raises(
            HostError, match=f"reading {disk.path} at byte {2 * MIB} failed: Input/output error"
        ):
            reader.first_data(2 * MIB, 4096)


def test_a_device_that_shrinks_is_an_error_and_not_read_short(disks: Disks) -> None:
    disk = disks.blank(4)
    with DirectReader(disk.path) as reader:
        os.truncate(disk.image, MIB)
        run("losetup", "--set-capacity", disk.path)
        with pytest.raises(HostError, match=f"at byte {MIB} failed: it ends there"):
            reader.read(0, 4 * MIB)


def test_a_missing_device_a_file_and_an_empty_device_are_errors(disks: Disks) -> None:
    with pytest.raises(DeviceNotFound):
        DirectReader("/dev/nothing")
    with pytest.raises(HostError, match="cannot be used: Inappropriate ioctl"):
        DirectReader(str(disks.image(1, "file")))
    with pytest.raises(HostError, match="has size 0"):
        DirectReader(disks.blank(0).path)
