"""A volume's life cycle without delays and faults."""

import pytest
from botocore.exceptions import ClientError

from tests.ec2sim import Ec2Cloud, MemoryHypervisor, NewVolume, Slow
from tests.ec2sim.clients import Caller, caller, error_of
from tests.ec2sim.conftest import INSTANCE, OTHER
from tests.ec2sim.facts import ZONE
from tests.ec2sim.hypervisor import Plugged


def test_a_volume_is_created_attached_detached_and_deleted(ec2: Caller, hypervisor: MemoryHypervisor) -> None:
    tags = [{"Key": "a", "Value": "b & <c>"}]
    created = ec2.create(TagSpecifications=[{"ResourceType": "volume", "Tags": tags}])
    volume_id = created["VolumeId"]
    assert created["State"] == "creating"
    assert ec2.states(volume_id) == ("available", "")
    assert ec2.described(volume_id)["Tags"] == tags
    assert ec2.attach(volume_id, INSTANCE) == "attaching"
    assert ec2.states(volume_id) == ("in-use", "attached")
    assert hypervisor.plugged() == {volume_id: Plugged(INSTANCE, "/dev/sdf")}
    assert ec2.detach(volume_id) == "detaching"
    assert ec2.states(volume_id) == ("available", "")
    assert hypervisor.plugged() == {}
    ec2.delete(volume_id)
    assert ec2.found() == []


def test_requested_properties_are_described(ec2: Caller) -> None:
    wanted = {"Size": 10, "VolumeType": "io2", "Encrypted": True, "KmsKeyId": "k", "AvailabilityZone": ZONE}
    described = ec2.described(ec2.made(Iops=500, **wanted))
    assert {name: described[name] for name in wanted} == wanted


def test_tags_are_added_and_replaced(ec2: Caller) -> None:
    volume_id = ec2.made(TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "1"}]}])
    ec2.tag(volume_id, a="2", b="3")
    assert ec2.described(volume_id)["Tags"] == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "3"}]


def test_two_clouds_share_nothing(ec2: Caller, cloud: Ec2Cloud) -> None:
    with Ec2Cloud(MemoryHypervisor()) as second, caller(second.endpoint) as other:
        volume_id = ec2.made()
        assert other.found() == []
        with pytest.raises(ClientError) as caught:
            other.described(volume_id)
        assert error_of(caught.value)[0] == "InvalidVolume.NotFound"
        second.plan.denied = frozenset({"CreateVolume"})
        assert ec2.made() in ec2.found()
        assert second.calls.counts()["CreateVolume"] == 0


def test_a_cloud_that_starts_over_is_as_new(
    cloud: Ec2Cloud, ec2: Caller, hypervisor: MemoryHypervisor
) -> None:
    attached, deleting = ec2.made(ClientToken="t"), ec2.made()
    ec2.attach(attached, INSTANCE)
    cloud.plan.busy_volumes = frozenset({attached})
    cloud.set_instance_state(OTHER, "stopped")
    cloud.plan.set(deleting=Slow(looks=2), detaching=Slow(looks=2), denied=frozenset({"AttachVolume"}))
    ec2.delete(deleting)
    ec2.detach(attached)
    cloud.plan.stale_looks = (2, 2)
    unseen = ec2.made(ClientToken="unseen")
    cloud.start_over()
    assert (cloud.volumes(), hypervisor.plugged(), cloud.calls.log()) == ([], {}, [])
    assert {each.state for each in cloud.instances()} == {"running"}
    again = [ec2.made(ClientToken=token) for token in ("t", "unseen")]
    assert not {attached, deleting, unseen} & set(again)
    assert sorted(ec2.found()) == sorted(again)
    ec2.attach(again[0], OTHER)


def test_calls_are_counted_by_action_and_by_caller(cloud: Ec2Cloud, ec2: Caller) -> None:
    instances = {each.instance_id: each for each in cloud.instances()}
    with caller(cloud.endpoint, instance=instances[OTHER]) as other:
        volume_id = other.made()
    ec2.attach(volume_id, INSTANCE)
    with pytest.raises(ClientError):
        ec2.delete(volume_id)
    assert cloud.calls.counts() == {"CreateVolume": 1, "AttachVolume": 1, "DeleteVolume": 1}
    assert cloud.calls.counts(OTHER) == {"CreateVolume": 1}
    last = cloud.calls.log()[-1]
    assert (last.action, last.parameters, last.outcome) == (
        "DeleteVolume",
        {"VolumeId": volume_id},
        "VolumeInUse",
    )
    cloud.calls.reset()
    assert cloud.calls.log() == []


def test_many_volumes_are_added_without_the_api(cloud: Ec2Cloud, ec2: Caller) -> None:
    made = cloud.add_volumes([NewVolume(tags={"name": f"v{number}"}) for number in range(1000)])
    assert len(set(made)) == 1000
    assert cloud.calls.log() == []
    found = ec2.client.describe_volumes(Filters=[{"Name": "tag:name", "Values": ["v77"]}])["Volumes"]
    assert [each["VolumeId"] for each in found] == [made[77]]
    ec2.attach(made[77], INSTANCE)
    assert ec2.states(made[77]) == ("in-use", "attached")
