"""Which disk is taken for which volume on Nitro, and which is not."""

import os
from pathlib import Path

import pytest

from tests.drivers.ebs.clouds import spec_of
from tests.host.sysfs_tree import MODEL, Tree
from volplug.drivers.ebs.disks import NitroDevices, NitroScan, devices_of
from volplug.drivers.ebs.xen import XenDevices
from volplug.errors import DeviceMismatch
from volplug.models import BlockDevice, Volume, VolumeState
from volplug.sizes import GIB

pytestmark = pytest.mark.ebs

VOLUME = Volume("v", "vol-0123456789abcdef0", "ebs", 4 * GIB, VolumeState.AVAILABLE, spec_of())
OTHER = Volume("w", "vol-00000000000000001", "ebs", 4 * GIB, VolumeState.AVAILABLE, spec_of("w"))
SERIAL = "vol0123456789abcdef0"


@pytest.fixture
def nitro(tmp_path: Path) -> Tree:
    if os.geteuid() != 0:
        pytest.skip("needs root to make device nodes")
    return Tree(tmp_path)


@pytest.mark.parametrize(("vendor", "kind"), [("Amazon EC2", NitroDevices), ("Xen", XenDevices)])
def test_kind_of_disks_is_that_of_the_host(tmp_path: Path, vendor: str, kind: type) -> None:
    assert isinstance(devices_of(Tree(tmp_path, vendor).sysfs, MODEL, tmp_path / "notes.json"), kind)


def scan(tree: Tree) -> NitroScan:
    return NitroDevices(tree.sysfs, MODEL).scan()


def test_volume_is_the_disk_with_its_serial_whatever_the_number(nitro: Tree) -> None:
    nitro.add("nvme0n1", 8 * GIB, serial="vol00000000000000001", minor=1)
    nitro.add("nvme7n1", 4 * GIB, serial=SERIAL, minor=2)
    found = scan(nitro)
    assert found.find(VOLUME) == BlockDevice(str(nitro.dev / "nvme7n1"), SERIAL, 4 * GIB)
    assert found.has(VOLUME.volume_id)
    assert found.attached_count() == 2


def test_disks_of_others_are_not_taken(nitro: Tree) -> None:
    nitro.add("nvme0n1", 4 * GIB, serial="AWS0123456789ABCDEF0", model="Amazon EC2 NVMe Instance Storage")
    nitro.add("nvme1n1", 4 * GIB, serial=SERIAL[:-1])
    nitro.add("nvme2n1p1", 4 * GIB, serial=SERIAL)
    nitro.add("nvme0c0n1", 4 * GIB, serial=SERIAL)
    nitro.add("xvdba", 4 * GIB)
    found = scan(nitro)
    assert found.find(VOLUME) is None
    assert not found.has(VOLUME.volume_id)


@pytest.mark.parametrize(
    ("disk", "why"),
    [
        ({"model": "Amazon EC2 NVMe Instance Storage"}, "its model is 'Amazon EC2 NVMe Instance Storage'"),
        ({"node_minor": 9}, "is device 7:9, but nvme1n1 is 7:0"),
    ],
)
def test_disk_of_another_kind_or_node_is_refused(nitro: Tree, disk: dict[str, object], why: str) -> None:
    nitro.add("nvme1n1", **{"size_bytes": 4 * GIB, "serial": SERIAL, **disk})  # type: ignore[arg-type]  # one dict, many types
    with pytest.raises(DeviceMismatch) as refused:
        scan(nitro).find(VOLUME)
    assert why in refused.value.cause


def test_volume_is_identified_by_its_serial_whatever_size_its_disk_has(nitro: Tree) -> None:
    nitro.add("nvme1n1", 5 * GIB, serial=SERIAL)
    assert scan(nitro).find(VOLUME) == BlockDevice(str(nitro.dev / "nvme1n1"), SERIAL, 5 * GIB)


def test_two_disks_of_one_serial_are_refused(nitro: Tree) -> None:
    for number in (1, 2):
        nitro.add(f"nvme{number}n1", 4 * GIB, serial=SERIAL, minor=number)
    with pytest.raises(DeviceMismatch, match="nvme1n1, nvme2n1"):
        scan(nitro).find(VOLUME)


def test_disk_without_size_or_node_is_not_there_yet_but_shows(nitro: Tree) -> None:
    nitro.add("nvme1n1", 0, serial=SERIAL)
    nitro.add("nvme2n1", 4 * GIB, serial="vol00000000000000001", has_node=False)
    found = scan(nitro)
    for volume in (VOLUME, OTHER):
        assert found.find(volume) is None
        assert found.has(volume.volume_id)


def test_disk_is_tested_by_its_node_unless_it_is_going(nitro: Tree) -> None:
    nitro.add("nvme1n1", 4 * GIB, serial=SERIAL)
    nitro.add("nvme2n1", 0, serial="vol00000000000000001", has_node=False)
    found = scan(nitro)
    assert found.nodes_to_test(VOLUME.volume_id) == [str(nitro.dev / "nvme1n1")]
    assert found.nodes_to_test(OTHER.volume_id) == []
