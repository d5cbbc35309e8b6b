"""Volumes as loop devices, as instances see them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ec2sim import Ec2Cloud, Instance, LoopHypervisor
from tests.ec2sim.clients import Caller, caller
from tests.ec2sim.conftest import INSTANCE, OTHER
from tests.lab import loops
from tests.lab.waiting import wait_until
from volplug.errors import HostError, VolumeInUse
from volplug.host.devices import device_number

pytestmark = pytest.mark.loop


def _instance(cloud: Ec2Cloud, instance_id: str) -> Instance:
    return next(each for each in cloud.instances() if each.instance_id == instance_id)


def _devices(instance: Instance) -> set[str]:
    return {path.name for path in Path(instance.sys_root, "block").iterdir()}


def _read(path: str) -> str:
    return Path(path).read_text().strip()


def test_a_nitro_instance_sees_nvme_devices_by_serial(loop_cloud: Ec2Cloud) -> None:
    nitro = _instance(loop_cloud, INSTANCE)
    assert _read(f"{nitro.sys_root}/devices/virtual/dmi/id/board_asset_tag") == INSTANCE
    assert _devices(nitro) == {"nvme0n1"}
    with caller(loop_cloud.endpoint) as ec2:
        volume_id = ec2.made()
        ec2.attach(volume_id, INSTANCE, "/dev/sdk")
        block = f"{nitro.sys_root}/block/nvme1n1"
        assert _devices(nitro) == {"nvme0n1", "nvme1n1"}
        assert _read(f"{block}/device/serial") == volume_id.replace("-", "")
        assert _read(f"{block}/device/model") == "Amazon Elastic Block Store"
        assert int(_read(f"{block}/size")) * 512 == 1024**3
        number = device_number(f"{nitro.dev_root}/nvme1n1")
        assert number is not None
        assert _read(f"{block}/dev") == f"{os.major(number)}:{os.minor(number)}"
        ec2.detach(volume_id)
        assert _devices(nitro) == {"nvme0n1"}
        assert list(Path(nitro.dev_root).iterdir()) == []


def test_a_xen_instance_sees_the_name_that_was_asked_for(loop_cloud: Ec2Cloud) -> None:
    xen = _instance(loop_cloud, OTHER)
    assert _read(f"{xen.sys_root}/hypervisor/type") == "xen"
    with caller(loop_cloud.endpoint) as ec2:
        for device in ("/dev/sdf", "/dev/xvdba"):
            ec2.attach(ec2.made(), OTHER, device)
    assert _devices(xen) == {"xvda", "xvdf", "xvdba"}
    assert list(Path(xen.sys_root, "block/xvdba/device").iterdir()) == []


def test_data_moves_with_a_volume(loop_cloud: Ec2Cloud) -> None:
    nitro, xen = _instance(loop_cloud, INSTANCE), _instance(loop_cloud, OTHER)
    with caller(loop_cloud.endpoint) as ec2:
        volume_id = ec2.made()
        ec2.attach(volume_id, INSTANCE)
        with open(f"{nitro.dev_root}/nvme1n1", "r+b") as device:
            device.write(b"what was written")
            device.flush()
            os.fsync(device.fileno())
        ec2.detach(volume_id)
        ec2.attach(volume_id, OTHER)
        with open(f"{xen.dev_root}/xvdf", "rb") as device:
            assert device.read(16) == b"what was written"


def test_a_device_in_use_stays_busy_while_it_is_used(loop_cloud: Ec2Cloud) -> None:
    nitro = _instance(loop_cloud, INSTANCE)
    with caller(loop_cloud.endpoint) as ec2:
        volume_id = ec2.made()
        ec2.attach(volume_id, INSTANCE)
        used = os.open(f"{nitro.dev_root}/nvme1n1", os.O_RDONLY | os.O_EXCL)
        try:
            ec2.detach(volume_id)
            assert ec2.states(volume_id) == ("in-use", "busy")
            assert ec2.detach(volume_id, Force=True) == "busy"
            assert ec2.states(volume_id) == ("in-use", "busy")
            assert "nvme1n1" in _devices(nitro)
        finally:
            os.close(used)
        _wait_until_available(ec2, volume_id)
    assert _devices(nitro) == {"nvme0n1"}


def test_numbers_are_given_as_devices_come(loop_cloud: Ec2Cloud) -> None:
    nitro = _instance(loop_cloud, INSTANCE)
    with caller(loop_cloud.endpoint) as ec2:
        first, second = ec2.made(), ec2.made()
        ec2.attach(first, INSTANCE, "/dev/sdz")
        ec2.attach(second, INSTANCE, "/dev/sdf")
        assert _read(f"{nitro.sys_root}/block/nvme2n1/device/serial") == second.replace("-", "")
        ec2.detach(first)
        ec2.attach(first, INSTANCE, "/dev/sdg")
        assert _read(f"{nitro.sys_root}/block/nvme1n1/device/serial") == first.replace("-", "")


def test_the_end_of_a_cloud_removes_its_devices_and_files(loop_cloud: Ec2Cloud, tmp_path: Path) -> None:
    with caller(loop_cloud.endpoint) as ec2:
        ec2.attach(ec2.made(), INSTANCE)
    assert loops.attached_below(tmp_path) != []
    loop_cloud.close()
    assert loops.attached_below(tmp_path) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def _wait_until_available(ec2: Caller, volume_id: str) -> None:
    wait_until(lambda: ec2.states(volume_id) == ("available", ""), 30, "the volume has been detached")


@pytest.fixture
def plugged(tmp_path: Path) -> Iterator[tuple[LoopHypervisor, str]]:
    """A hypervisor with one volume on one instance, and its node there."""
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")
    hypervisor = LoopHypervisor(str(tmp_path / "cloud"))
    try:
        view = hypervisor.power_on(INSTANCE, "nitro")
        hypervisor.provision("vol-1", 1024**2)
        hypervisor.plug(INSTANCE, "vol-1", "/dev/sdf")
        yield hypervisor, f"{view.dev_root}/nvme1n1"
    finally:
        loops.detach_below(tmp_path)


def test_a_device_that_is_taken_while_it_is_unplugged_is_shown_again(
    plugged: tuple[LoopHypervisor, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hypervisor, node = plugged
    monkeypatch.setattr("tests.ec2sim.loops.is_held_now", lambda _: False)
    used = os.open(node, os.O_RDONLY | os.O_EXCL)
    try:
        assert not hypervisor.unplug(INSTANCE, "vol-1")
        assert os.path.exists(node)
    finally:
        os.close(used)
    assert hypervisor.unplug(INSTANCE, "vol-1")
    assert not os.path.exists(node)


def test_an_unplugging_that_a_reader_held_up_can_be_repeated(
    plugged: tuple[LoopHypervisor, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hypervisor, node = plugged
    monkeypatch.setattr("volplug.host.loopdev._DETACH_TIMEOUT_S", 0.01)
    with open(node, "rb"), pytest.raises(HostError, match="some program has it open"):
        hypervisor.unplug(INSTANCE, "vol-1")
    assert hypervisor.unplug(INSTANCE, "vol-1")


def test_a_device_in_use_at_the_end_of_its_cloud_is_reported_and_ends_with_its_user(
    plugged: tuple[LoopHypervisor, str], tmp_path: Path
) -> None:
    hypervisor, node = plugged
    used = os.open(node, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(VolumeInUse, match=r"guests still use /dev/loop\d+ \(vol-1\)"):
            hypervisor.close()
    finally:
        os.close(used)
    wait_until(lambda: loops.attached_below(tmp_path) == [], 20, "the loop device has gone")
