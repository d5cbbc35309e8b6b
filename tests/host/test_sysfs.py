"""What is read of disks, and what is concluded from what cannot be read."""

import os
from pathlib import Path

import pytest

from tests.host.sysfs_tree import MODEL, Tree
from volplug.errors import DeviceMismatch, HostError
from volplug.host.sysfs import Sysfs, SysfsDisk
from volplug.sizes import GIB


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    if os.geteuid() != 0:
        pytest.skip("needs root to make device nodes")
    return Tree(tmp_path)


@pytest.mark.parametrize(
    ("vendor", "hypervisor", "is_xen"),
    [("Xen", "", True), ("", "xen", True), ("Amazon EC2", "", False), ("Amazon EC2", "kvm", False)],
)
def test_xen_is_known_by_firmware_or_hypervisor(
    tmp_path: Path, vendor: str, hypervisor: str, is_xen: bool
) -> None:
    for path, text in (("devices/virtual/dmi/id/sys_vendor", vendor), ("hypervisor/type", hypervisor)):
        if text:
            (tmp_path / path).parent.mkdir(parents=True)
            (tmp_path / path).write_text(f"{text}\n")
    assert Sysfs(tmp_path, tmp_path).is_xen() == is_xen


def test_disks_are_found_by_serial_and_partitions_and_paths_are_not(tree: Tree) -> None:
    for number, name in enumerate(("nvme0n1", "nvme1n1", "nvme12n1", "nvme2n1p1", "nvme0c0n1", "sda")):
        tree.add(name, GIB, serial="one" if number < 2 else "two")
    tree.add("nvme3n1", GIB)
    found = {serial: sorted(names) for serial, names in tree.sysfs.serials().items()}
    assert found == {"one": ["nvme0n1", "nvme1n1"], "two": ["nvme12n1"]}


def test_disks_of_other_guests_have_their_serials_in_other_files(tree: Tree) -> None:
    for name in ("vdb", "vdb1", "sdc", "sdd"):
        tree.add(name, GIB)
    (tree.sys / "block/vdb/serial").write_text("2f1c2b1e-0d6c-4a52-8")
    (tree.sys / "block/vdb1/serial").write_text("of a partition")
    (tree.sys / "block/sdc/device").mkdir()
    (tree.sys / "block/sdc/device/vpd_pg80").write_bytes(b"\x00\x80\x00\x0442\x00 ")
    (tree.sys / "block/sdc/device/wwid").write_text("t10.QEMU    QEMU HARDDISK   42\n")
    assert tree.sysfs.serials() == {
        "2f1c2b1e-0d6c-4a52-8": ["vdb"],
        "42": ["sdc"],
        "t10.QEMU    QEMU HARDDISK   42": ["sdc"],
    }


def test_disk_is_read_without_the_padding_of_its_attributes(tree: Tree) -> None:
    tree.add("nvme1n1", 4 * GIB, serial="one", sequence="7")
    assert tree.sysfs.disk("nvme1n1") == SysfsDisk(str(tree.dev / "nvme1n1"), 4 * GIB, MODEL, "7")
    assert tree.sysfs.sequence("nvme1n1") == "7"
    tree.remove("nvme1n1")
    assert tree.sysfs.disk("nvme1n1") is None
    assert tree.sysfs.sequence("nvme1n1") == ""


def test_disk_without_size_or_node_cannot_be_used_yet(tree: Tree) -> None:
    tree.add("nvme1n1", 0)
    tree.add("nvme2n1", GIB, has_node=False)
    tree.add("nvme3n1", GIB, has_node=False)
    (tree.dev / "nvme3n1").write_bytes(b"")  # a file in place of the node
    assert [tree.sysfs.disk(name) for name in ("nvme1n1", "nvme2n1", "nvme3n1")] == [None] * 3


def test_node_of_another_disk_is_refused(tree: Tree) -> None:
    tree.add("nvme1n1", GIB, minor=3, node_minor=9)
    with pytest.raises(DeviceMismatch, match="nvme1n1 is device 7:9, but nvme1n1 is 7:3"):
        tree.sysfs.disk("nvme1n1")


def test_node_to_test_is_the_disks_own_and_none_if_the_disk_is_being_removed(tree: Tree) -> None:
    tree.add("nvme1n1", GIB)
    tree.add("nvme2n1", 0, has_node=False)
    tree.add("nvme3n1", GIB, has_node=False)
    tree.add("nvme4n1", GIB, node_minor=9)
    assert tree.sysfs.node_to_test("nvme1n1") == str(tree.dev / "nvme1n1")
    assert tree.sysfs.node_to_test("nvme2n1") == ""
    for name, why in (("nvme3n1", "is not there"), ("nvme4n1", "is 7:9")):
        with pytest.raises(HostError, match=f"{name} cannot be tested for use: it is 7:0, but .* {why}"):
            tree.sysfs.node_to_test(name)


def test_sysfs_that_cannot_be_read_is_an_error_and_not_an_absence(tree: Tree) -> None:
    (tree.sys / "block").rmdir()
    for read in (tree.sysfs.names, tree.sysfs.serials):
        with pytest.raises(HostError, match="cannot be read"):
            read()
