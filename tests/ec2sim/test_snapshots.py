"""Snapshots, volumes made of them, and volumes that grow."""

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.ec2sim import Ec2Cloud
from tests.ec2sim.clients import Caller, caller, error_of
from tests.ec2sim.conftest import INSTANCE

pytestmark = pytest.mark.loop

_TAGS = [{"Key": "volplug:name", "Value": "db"}]


def _device(cloud: Ec2Cloud) -> Path:
    nitro = next(each for each in cloud.instances() if each.instance_id == INSTANCE)
    return Path(nitro.dev_root, "nvme1n1")


def test_a_volume_of_a_snapshot_has_what_the_original_had_and_may_be_larger(loop_cloud: Ec2Cloud) -> None:
    with caller(loop_cloud.endpoint) as ec2:
        original = ec2.made()
        ec2.attach(original, INSTANCE)
        _device(loop_cloud).write_bytes(b"precious")
        tags = [{"ResourceType": "snapshot", "Tags": _TAGS}]
        snapshot_id = ec2.client.create_snapshot(VolumeId=original, TagSpecifications=tags)["SnapshotId"]
        _device(loop_cloud).write_bytes(b"spoiled!")
        ec2.detach(original)
        ec2.client.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot_id])
        (snapshot,) = ec2.client.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"]
        assert (snapshot["VolumeId"], snapshot["VolumeSize"], snapshot["Tags"]) == (original, 1, _TAGS)
        ec2.attach(ec2.made(SnapshotId=snapshot_id, Size=2), INSTANCE)
        with _device(loop_cloud).open("rb") as device:
            assert device.read(8) == b"precious"
            assert device.seek(0, 2) == 2 * 1024**3


def test_an_attached_volume_grows_and_never_shrinks(loop_cloud: Ec2Cloud) -> None:
    with caller(loop_cloud.endpoint) as ec2:
        volume_id = ec2.made()
        ec2.attach(volume_id, INSTANCE)
        ec2.client.modify_volume(VolumeId=volume_id, Size=3)
        assert ec2.described(volume_id)["Size"] == 3
        with _device(loop_cloud).open("rb") as device:
            assert device.seek(0, 2) == 3 * 1024**3
        size = _device(loop_cloud).parents[1] / "sys" / "block" / "nvme1n1" / "size"
        assert int(size.read_text()) * 512 == 3 * 1024**3
        with pytest.raises(ClientError) as refused:
            ec2.client.modify_volume(VolumeId=volume_id, Size=2)
        assert error_of(refused.value)[0] == "InvalidParameterValue"


def test_an_unknown_snapshot_and_a_hypervisor_without_disks_are_refused(ec2: Caller) -> None:
    with pytest.raises(ClientError) as refused:
        ec2.create(SnapshotId="snap-0")
    assert error_of(refused.value)[0] == "InvalidSnapshot.NotFound"
    with pytest.raises(ClientError) as refused:
        ec2.client.create_snapshot(VolumeId=ec2.made())
    assert error_of(refused.value)[0] == "InvalidAction"
