"""Two guests for all tests here, booted once; each test leaves them without disks of its own.

A third one has OpenZFS and a pool; it is booted for the tests that ask for it.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab import lane
from tests.lab.leftovers import settled_difference, snapshot
from tests.lab.waiting import wait_until
from tests.vm.guest import Guest
from tests.vm.guest_volplug import install_volplug
from tests.vm.image import guest_image, openzfs_image

_INSTANCE_IDS = ("i-0aaaaaaaaaaaaaaaa", "i-0bbbbbbbbbbbbbbbb")
_ZFS_INSTANCE_ID = "i-0cccccccccccccccc"
_ZFS_SERIAL = "vol0cccccccccccccccc"
_ZFS_SIZE_BYTES = 1 << 30
_ZFS_MEMORY_MIB = 1024  # for a Docker Engine as well
_PLUG_TIMEOUT_S = 60.0


@pytest.fixture(scope="package")
def lab() -> Iterator[Path]:
    """A directory for the guests' files; in the end nothing of both may be left over."""
    before = snapshot()
    directory = lane.new_directory()
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
    assert settled_difference(before) == []


@pytest.fixture(scope="package")
def both(lab: Path) -> Iterator[tuple[Guest, Guest]]:
    """The guests, with volplug's code in them."""
    image = guest_image()
    with ExitStack() as stack:
        first, second = (stack.enter_context(Guest(image, lab, each)) for each in _INSTANCE_IDS)
        for guest in (first, second):
            guest.await_boot()
        install_volplug((first, second), lab)
        yield first, second


@pytest.fixture
def guests(both: tuple[Guest, Guest]) -> Iterator[tuple[Guest, Guest]]:
    """The guests as they are after boot; a disk left plugged in fails the test."""
    yield both
    left = [serial for guest in both for serial in guest.take_all()]
    assert not left, "left plugged in"


@pytest.fixture(scope="package")
def zfs_guest(lab: Path) -> Iterator[Guest]:
    """A guest with volplug's code, OpenZFS and the pool ``tank`` on a disk of its own."""
    disk = lab / "tank"
    with disk.open("xb") as file:
        file.truncate(_ZFS_SIZE_BYTES)
    with Guest(openzfs_image(), lab, _ZFS_INSTANCE_ID, _ZFS_MEMORY_MIB) as guest:
        guest.await_boot()
        install_volplug((guest,), lab / "zfs")
        guest.plug(_ZFS_SERIAL, disk)
        # The only one beside the disk that it boots from.
        wait_until(
            lambda: "nvme1n1" in guest.run(["ls", "/dev"]).split(),
            _PLUG_TIMEOUT_S,
            "the pool's disk is there",
        )
        guest.run(["modprobe", "zfs"])
        guest.run(["zpool", "create", "-O", "mountpoint=none", "tank", "/dev/nvme1n1"])
        yield guest
