"""Which disk is taken for which volume on Xen, and which is not."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.drivers.ebs.clouds import spec_of
from tests.host.sysfs_tree import Tree
from volplug.drivers.ebs.xen import XenDevices
from volplug.errors import DeviceMismatch, HostError
from volplug.models import BlockDevice, Volume, VolumeState
from volplug.sizes import GIB

pytestmark = pytest.mark.ebs

VOLUME = Volume("v", "vol-0123456789abcdef0", "ebs", 4 * GIB, VolumeState.AVAILABLE, spec_of())
OTHER = Volume("w", "vol-00000000000000001", "ebs", 4 * GIB, VolumeState.AVAILABLE, spec_of("w"))


@pytest.fixture
def xen(tmp_path: Path) -> Tree:
    if os.geteuid() != 0:
        pytest.skip("needs root to make device nodes")
    return Tree(tmp_path, "Xen")


def devices(tree: Tree, boot_id: str = "") -> XenDevices:
    """As after a restart."""
    return XenDevices(tree.sysfs, tree.sys.parent / "state" / "notes.json", boot_id)


def test_disk_that_appears_under_the_name_is_the_volume_from_then_on(xen: Tree) -> None:
    found = devices(xen)
    assert found.scan().find(VOLUME, "/dev/xvdba") is None
    xen.add("xvdba", 4 * GIB)
    source = BlockDevice(str(xen.dev / "xvdba"), VOLUME.volume_id, 4 * GIB)
    assert found.scan().find(VOLUME) is None, "its name is not known yet"
    assert found.scan().find(VOLUME, "/dev/xvdba") == source
    assert devices(xen).scan().find(VOLUME) == source, "after a restart"
    assert devices(xen).scan().find(OTHER) is None


@pytest.mark.parametrize(("asked", "kernel"), [("/dev/xvdba", "sdba"), ("/dev/sdf", "xvdf")])
def test_kernels_that_call_the_disk_otherwise_are_understood(xen: Tree, asked: str, kernel: str) -> None:
    xen.add(kernel, 4 * GIB)
    found = devices(xen).scan().find(VOLUME, asked)
    assert found is not None
    assert found.device == str(xen.dev / kernel)
    assert asked.replace("/sd", "/xvd") in devices(xen).scan().visible_names()


def test_disk_of_another_size_is_the_volumes_by_name_and_number(xen: Tree) -> None:
    xen.add("xvdba", 5 * GIB)
    source = BlockDevice(str(xen.dev / "xvdba"), VOLUME.volume_id, 5 * GIB)
    assert devices(xen).scan().find(VOLUME, "/dev/xvdba") == source
    assert devices(xen).scan().find(VOLUME) == source


def test_later_disk_of_another_size_is_refused_where_disks_have_no_number(xen: Tree) -> None:
    """Before Linux 5.15: another party may have attached its volume under the name since."""
    grown = replace(VOLUME, size_bytes=8 * GIB)
    xen.add("xvdba", 4 * GIB, sequence="")
    assert devices(xen).scan().find(grown, "/dev/xvdba")
    assert devices(xen).scan().find(grown), "of the size that was noted"
    xen.remove("xvdba")
    xen.add("xvdba", 8 * GIB, sequence="")
    assert devices(xen).scan().find(grown), "it has grown"
    with pytest.raises(DeviceMismatch, match="has 8GiB, but vol-0123456789abcdef0 has 4GiB"):
        devices(xen).scan().find(VOLUME)


def test_volumes_are_counted_with_the_root(xen: Tree) -> None:
    for number, name in enumerate(("xvda", "xvdba", "loop0")):
        xen.add(name, 4 * GIB, minor=number)
    assert devices(xen).scan().attached_count() == 2


def test_disk_that_cannot_be_noted_is_not_taken(xen: Tree) -> None:
    """It could not be identified after a restart."""
    xen.add("xvdba", 4 * GIB)
    (xen.sys.parent / "state").write_text("not a directory")
    with pytest.raises(HostError, match=r"notes.json cannot be written: "):
        devices(xen).scan().find(VOLUME, "/dev/xvdba")


def test_later_disk_under_the_same_name_is_another(xen: Tree) -> None:
    xen.add("xvdba", 4 * GIB, sequence="7")
    assert devices(xen).scan().find(VOLUME, "/dev/xvdba")
    xen.remove("xvdba")
    assert not devices(xen).scan().has(VOLUME.volume_id)
    xen.add("xvdba", 4 * GIB, sequence="8")
    scan = devices(xen).scan()
    assert (scan.find(VOLUME), scan.has(VOLUME.volume_id)) == (None, False)


def test_notes_of_another_boot_and_notes_that_cannot_be_read_say_nothing(xen: Tree) -> None:
    xen.add("xvdba", 4 * GIB)
    assert devices(xen, "one").scan().find(VOLUME, "/dev/xvdba")
    assert devices(xen, "two").scan().find(VOLUME) is None
    (xen.sys.parent / "state" / "notes.json").write_text("{")
    assert devices(xen, "one").scan().find(VOLUME) is None


def test_name_belongs_to_the_volume_that_had_it_last(xen: Tree) -> None:
    xen.add("xvdba", 4 * GIB)
    found = devices(xen)
    assert found.scan().find(VOLUME, "/dev/xvdba")
    assert found.scan().find(OTHER, "/dev/xvdba")
    assert found.scan().find(VOLUME) is None
    found.forget(OTHER.volume_id)
    assert devices(xen).scan().find(OTHER) is None
