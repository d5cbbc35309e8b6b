"""Volumes are copied on OpenZFS itself, which continues a stream that was cut."""

from pathlib import Path

import pytest

from tests.lab.requirements import VM
from tests.vm.guest import Guest
from tests.vm.guest_volplug import run_python
from tests.vm.image import openzfs_image

pytestmark = [
    *VM,
    pytest.mark.slow,  # to make the image takes minutes, since it has a compiler compile the module
    pytest.mark.prepare(by=openzfs_image),
]

_COPY_VOLUME = Path(__file__).with_name("copy_volume.py")
_PARENTS = ("tank/here", "tank/there")


def test_a_cut_stream_is_resumed_or_abandoned_and_the_copy_is_what_was_sent(zfs_guest: Guest) -> None:
    for parent in _PARENTS:
        zfs_guest.run(["zfs", "create", "-o", "mountpoint=none", parent])
    try:
        assert run_python(zfs_guest, _COPY_VOLUME, *_PARENTS).splitlines() == [
            "cut: unexpected-state, token volume-not-found",
            "rest: whole, snapshots True",
            "cut increment: unexpected-state, token",
            "again: whole, snapshots True",
            "adopted: available available True",
            "into a volume: volume-exists, nothing",
        ]
    finally:
        for parent in _PARENTS:
            zfs_guest.run(["zfs", "destroy", "-r", parent])
