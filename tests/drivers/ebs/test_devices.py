"""Which disk is taken for which volume, and which is not."""

import os
from pathlib import Path

import pytest

from tests.drivers.ebs.clouds import spec_of
from tests.host.sysfs_tree import Tree
from volplug.drivers.ebs.devices import Devices, NitroDevices, XenDevices, devices_of
from volplug.errors import DeviceMismatch, HostError
from volplug.models import MountSource, Volume, VolumeState
from volplug.sizes import GIB

pytestmark = pytest.mark.ebs

VOLUME = Volume("v", "vol-0123456789abcdef0", "ebs", 4 * GIB, VolumeState.AVAILABLE, spec_of())
OTHER = Volume("w", "vol-00000000000000001", "ebs", 4 * GIB, VolumeState.AVAILABLE, spec_of("w"))
SERIAL = "vol0123456789abcdef0"


@pytest.fixture(autouse=True)
def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to make device nodes")


@pytest.fixture
def nitro(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def xen(tmp_path: Path) -> Tree:
    return Tree(tmp_path, "Xen")


def devices(tree: Tree, boot_id: str = "") -> Devices:
    notes = tree.sys.parent / "state" / "notes.json"
    if boot_id:
        return XenDevices(tree.sysfs, notes, boot_id)
    return devices_of(tree.sysfs, "Amazon Elastic Block Store", notes)


# Nitro


def test_volume_is_the_disk_with_its_serial_whatever_the_number(nitro: Tree) -> None:
    nitro.add("nvme0n1", 8 * GIB, serial="vol00000000000000001", minor=1)
    nitro.add("nvme7n1", 4 * GIB, serial=SERIAL, minor=2)
    assert isinstance(devices(nitro), NitroDevices)
    look = devices(nitro).look()
    assert look.find(VOLUME) == MountSource(str(nitro.dev / "nvme7n1"), SERIAL, 4 * GIB)
    assert look.has(VOLUME.volume_id)
    assert devices(nitro).attached_count() == 2


def test_disks_of_others_are_not_taken(nitro: Tree) -> None:
    nitro.add("nvme0n1", 4 * GIB, serial="AWS0123456789ABCDEF0", model="Amazon EC2 NVMe Instance Storage")
    nitro.add("nvme1n1", 4 * GIB, serial=SERIAL[:-1])
    nitro.add("nvme2n1p1", 4 * GIB, serial=SERIAL)
    nitro.add("nvme0c0n1", 4 * GIB, serial=SERIAL)
    nitro.add("xvdba", 4 * GIB)
    look = devices(nitro).look()
    assert look.find(VOLUME) is None
    assert not look.has(VOLUME.volume_id)


@pytest.mark.parametrize(
    ("disk", "why"),
    [
        ({"size_bytes": 5 * GIB}, "has 5GiB, but vol-0123456789abcdef0 has 4GiB"),
        ({"model": "Amazon EC2 NVMe Instance Storage"}, "its model is 'Amazon EC2 NVMe Instance Storage'"),
        ({"node_minor": 9}, "is device 7:9, but nvme1n1 is 7:0"),
    ],
)
def test_disk_that_contradicts_the_record_is_refused(nitro: Tree, disk: dict[str, object], why: str) -> None:
    nitro.add("nvme1n1", **{"size_bytes": 4 * GIB, "serial": SERIAL, **disk})  # type: ignore[arg-type]  # one dict, many types
    with pytest.raises(DeviceMismatch) as refused:
        devices(nitro).look().find(VOLUME)
    assert why in refused.value.cause


def test_two_disks_of_one_serial_are_refused(nitro: Tree) -> None:
    for number in (1, 2):
        nitro.add(f"nvme{number}n1", 4 * GIB, serial=SERIAL, minor=number)
    with pytest.raises(DeviceMismatch, match="nvme1n1, nvme2n1"):
        devices(nitro).look().find(VOLUME)


def test_disk_without_size_or_node_is_not_there_yet_but_shows(nitro: Tree) -> None:
    nitro.add("nvme1n1", 0, serial=SERIAL)
    nitro.add("nvme2n1", 4 * GIB, serial="vol00000000000000001", has_node=False)
    look = devices(nitro).look()
    for volume in (VOLUME, OTHER):
        assert look.find(volume) is None
        assert look.has(volume.volume_id)


def test_disk_is_tested_by_its_node_unless_it_is_going(nitro: Tree) -> None:
    nitro.add("nvme1n1", 4 * GIB, serial=SERIAL)
    nitro.add("nvme2n1", 0, serial="vol00000000000000001", has_node=False)
    look = devices(nitro).look()
    assert look.nodes_to_test(VOLUME.volume_id) == [str(nitro.dev / "nvme1n1")]
    assert look.nodes_to_test(OTHER.volume_id) == []


# Xen


def test_disk_that_appears_under_the_name_is_the_volume_from_then_on(xen: Tree) -> None:
    found = devices(xen)
    assert isinstance(found, XenDevices)
    assert found.look().find(VOLUME, "/dev/xvdba") is None
    xen.add("xvdba", 4 * GIB)
    source = MountSource(str(xen.dev / "xvdba"), VOLUME.volume_id, 4 * GIB)
    assert found.look().find(VOLUME) is None, "nobody has said that it is this one"
    assert found.look().find(VOLUME, "/dev/xvdba") == source
    assert devices(xen).look().find(VOLUME) == source, "after a restart"
    assert devices(xen).look().find(OTHER) is None


@pytest.mark.parametrize(("asked", "kernel"), [("/dev/xvdba", "sdba"), ("/dev/sdf", "xvdf")])
def test_kernels_that_call_the_disk_otherwise_are_understood(xen: Tree, asked: str, kernel: str) -> None:
    xen.add(kernel, 4 * GIB)
    found = devices(xen).look().find(VOLUME, asked)
    assert found is not None
    assert found.device == str(xen.dev / kernel)
    assert asked.replace("/sd", "/xvd") in devices(xen).visible_names()


def test_disk_of_another_size_is_refused(xen: Tree) -> None:
    xen.add("xvdba", 5 * GIB)
    with pytest.raises(DeviceMismatch, match="has 5GiB"):
        devices(xen).look().find(VOLUME, "/dev/xvdba")
    assert not devices(xen).look().has(VOLUME.volume_id)


def test_volumes_are_counted_with_the_root(xen: Tree) -> None:
    for number, name in enumerate(("xvda", "xvdba", "loop0")):
        xen.add(name, 4 * GIB, minor=number)
    assert devices(xen).attached_count() == 2


def test_disk_that_cannot_be_noted_is_not_taken(xen: Tree) -> None:
    """After a restart nobody would know whose it is."""
    xen.add("xvdba", 4 * GIB)
    (xen.sys.parent / "state").write_text("not a directory")
    with pytest.raises(HostError, match=r"notes.json cannot be written: "):
        devices(xen).look().find(VOLUME, "/dev/xvdba")


def test_later_disk_under_the_same_name_is_another(xen: Tree) -> None:
    xen.add("xvdba", 4 * GIB, sequence="7")
    assert devices(xen).look().find(VOLUME, "/dev/xvdba")
    xen.remove("xvdba")
    assert not devices(xen).look().has(VOLUME.volume_id)
    xen.add("xvdba", 4 * GIB, sequence="8")
    look = devices(xen).look()
    assert (look.find(VOLUME), look.has(VOLUME.volume_id)) == (None, False)


def test_notes_of_another_boot_and_notes_that_cannot_be_read_say_nothing(xen: Tree) -> None:
    xen.add("xvdba", 4 * GIB)
    assert devices(xen, "one").look().find(VOLUME, "/dev/xvdba")
    assert devices(xen, "two").look().find(VOLUME) is None
    (xen.sys.parent / "state" / "notes.json").write_text("{")
    assert devices(xen, "one").look().find(VOLUME) is None


def test_name_belongs_to_the_volume_that_had_it_last(xen: Tree) -> None:
    xen.add("xvdba", 4 * GIB)
    found = devices(xen)
    assert found.look().find(VOLUME, "/dev/xvdba")
    assert found.look().find(OTHER, "/dev/xvdba")
    assert found.look().find(VOLUME) is None
    found.forget(OTHER.volume_id)
    assert devices(xen).look().find(OTHER) is None
