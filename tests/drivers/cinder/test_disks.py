"""Which disk of a server is which volume."""

import os
from pathlib import Path

import pytest

from tests.host.sysfs_tree import Tree
from volplug.drivers.cinder.disks import GuestScan, is_serial_of
from volplug.errors import DeviceMismatch
from volplug.models import BlockDevice, Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB

ID = "cf24f34d-6ca6-416e-b1d3-20333d32df44"
VOLUME = Volume("v", ID, "cloud", GIB, VolumeState.IN_USE, VolumeSpec("v", GIB))


@pytest.mark.parametrize(
    ("serial", "is_its"),
    [
        (ID, True),
        (ID[:20], True),
        (ID.upper(), True),
        (ID.replace("-", ""), True),
        (f"t10.QEMU    QEMU HARDDISK   {ID}", True),
        (f"naa.{ID.replace('-', '')}", True),
        (ID[:19], False),
        (ID[:21], False),
        ("", False),
        (f"{ID}-1", False),
        ("cf24f34d-6ca6-416e-b1d3-20333d32df45", False),
    ],
)
def test_a_serial_is_the_volumes_in_each_form_that_hypervisors_have(serial: str, is_its: bool) -> None:
    assert is_serial_of(serial, ID) == is_its


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    if os.geteuid() != 0:
        pytest.skip("needs root to make device nodes")
    return Tree(tmp_path)


def add(tree: Tree, name: str, serial: str, minor: int = 0) -> None:
    tree.add(name, GIB, minor=minor)
    (tree.sys / "block" / name / "serial").write_text(serial)


def scan(tree: Tree) -> GuestScan:
    return GuestScan(tree.sysfs, tree.sysfs.serials())


def test_a_volumes_disk_is_found_by_its_serial(tree: Tree) -> None:
    add(tree, "vda", "another")
    add(tree, "vdc", ID[:20], minor=1)
    source = BlockDevice(str(tree.dev / "vdc"), ID, GIB)
    assert scan(tree).find(VOLUME) == source
    assert scan(tree).has(ID)
    assert scan(tree).nodes_to_test(ID) == [str(tree.dev / "vdc")]


def test_a_scsi_disk_is_one_disk_although_two_files_have_its_serial(tree: Tree) -> None:
    tree.add("sdb", GIB)
    (tree.sys / "block/sdb/device").mkdir()
    (tree.sys / "block/sdb/device/vpd_pg80").write_bytes(b"\0\x80\0\x24" + ID.encode())
    (tree.sys / "block/sdb/device/wwid").write_text(f"t10.QEMU    QEMU HARDDISK   {ID}\n")
    assert scan(tree).find(VOLUME) == BlockDevice(str(tree.dev / "sdb"), ID, GIB)


def test_two_disks_with_the_serial_of_one_volume_are_refused(tree: Tree) -> None:
    add(tree, "vdb", ID[:20])
    add(tree, "vdc", ID, minor=1)
    with pytest.raises(DeviceMismatch, match="vdb, vdc"):
        scan(tree).find(VOLUME)


def test_no_disk_is_no_error(tree: Tree) -> None:
    assert scan(tree).find(VOLUME) is None
    assert not scan(tree).has(ID)
    assert scan(tree).nodes_to_test(ID) == []
