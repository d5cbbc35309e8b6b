"""Stale reads: DescribeVolumes and DescribeInstances show the state before the last change."""

import pytest
from botocore.exceptions import ClientError

from tests.ec2sim import Ec2Cloud
from tests.ec2sim.clients import Caller, error_of
from tests.ec2sim.conftest import INSTANCE

READS = 2


@pytest.fixture
def stale(cloud: Ec2Cloud, ec2: Caller) -> Caller:
    cloud.plan.stale_looks = (READS, READS)
    return ec2


def _settled(cloud: Ec2Cloud, ec2: Caller) -> str:
    """A volume whose reads are not stale."""
    cloud.plan.stale_looks = (0, 0)
    volume_id = ec2.made()
    cloud.plan.stale_looks = (READS, READS)
    return volume_id


def test_a_new_volume_is_not_found_by_id_at_first(stale: Caller) -> None:
    volume_id = stale.made()
    for _ in range(READS):
        with pytest.raises(ClientError) as caught:
            stale.described(volume_id)
        assert error_of(caught.value)[0] == "InvalidVolume.NotFound"
    assert stale.states(volume_id) == ("available", "")


def test_a_new_volume_is_not_found_by_filter_at_first(stale: Caller) -> None:
    volume_id = stale.made()
    assert [stale.found(status="available") for _ in range(READS + 1)] == [[], [], [volume_id]]


def test_reads_of_other_volumes_are_not_counted(cloud: Ec2Cloud, stale: Caller) -> None:
    other = _settled(cloud, stale)
    volume_id = stale.made()
    for _ in range(READS + 1):
        assert stale.found(volume_id=other) == [other]
        assert stale.states(other) == ("available", "")
    assert stale.found(volume_id=volume_id) == []


def test_a_deleted_volume_is_still_found_at_first(cloud: Ec2Cloud, stale: Caller) -> None:
    volume_id = _settled(cloud, stale)
    stale.delete(volume_id)
    assert [stale.found(status="available") for _ in range(READS + 1)] == [[volume_id], [volume_id], []]


def test_attachments_are_stale(cloud: Ec2Cloud, stale: Caller) -> None:
    volume_id = _settled(cloud, stale)
    stale.attach(volume_id, INSTANCE)
    free, held = ("available", ""), ("in-use", "attached")
    assert [stale.states(volume_id) for _ in range(READS + 1)] == [free, free, held]
    stale.detach(volume_id)
    assert [stale.states(volume_id) for _ in range(READS + 1)] == [held, held, free]


def test_starts_and_stops_of_instances_are_stale(cloud: Ec2Cloud, stale: Caller) -> None:
    def state() -> str:
        [found] = stale.client.describe_instances(InstanceIds=[INSTANCE])["Reservations"][0]["Instances"]
        return str(found["State"]["Name"])

    stale.client.stop_instances(InstanceIds=[INSTANCE])
    cloud.settle()
    assert [state() for _ in range(READS + 1)] == ["running", "running", "stopped"]
    stale.client.start_instances(InstanceIds=[INSTANCE])
    cloud.settle()
    assert state() == "stopped"
    cloud.end_stale_reads()
    assert state() == "running"


def test_filters_apply_to_the_shown_state(cloud: Ec2Cloud, stale: Caller) -> None:
    volume_id = _settled(cloud, stale)
    stale.attach(volume_id, INSTANCE)
    attached = [{"Name": "attachment.instance-id", "Values": [INSTANCE]}]
    assert stale.client.describe_volumes(Filters=attached)["Volumes"] == []
    assert stale.found(status="available") == [volume_id]
    assert stale.found(status="available") == []


def test_tags_are_stale(cloud: Ec2Cloud, stale: Caller) -> None:
    volume_id = _settled(cloud, stale)
    stale.tag(volume_id, a="b")
    assert [stale.described(volume_id).get("Tags") for _ in range(READS + 1)] == [
        None,
        None,
        [{"Key": "a", "Value": "b"}],
    ]


def test_the_plan_names_the_actions_with_stale_reads(cloud: Ec2Cloud, stale: Caller) -> None:
    cloud.plan.stale_after = frozenset({"CreateTags"})
    volume_id = stale.made()
    assert stale.states(volume_id) == ("available", "")
    stale.tag(volume_id, a="b")
    assert "Tags" not in stale.described(volume_id)


def test_changes_are_made_to_the_current_state(stale: Caller) -> None:
    volume_id = stale.made()
    stale.attach(volume_id, INSTANCE)
    with pytest.raises(ClientError) as caught:
        stale.delete(volume_id)
    assert error_of(caught.value)[0] == "VolumeInUse"


def test_stale_reads_can_be_ended(cloud: Ec2Cloud, stale: Caller) -> None:
    volume_id = stale.made()
    cloud.end_stale_reads()
    assert stale.states(volume_id) == ("available", "")
    stale.tag(volume_id, a="b")
    assert "Tags" not in stale.described(volume_id), "reads after the next change are stale again"


def test_the_number_of_stale_reads_is_drawn_between_the_bounds(cloud: Ec2Cloud, ec2: Caller) -> None:
    cloud.plan.stale_looks = (2, 5)
    needed = []
    for _ in range(30):
        volume_id = ec2.made()
        reads = 0
        while not ec2.found(volume_id=volume_id):
            reads += 1
        needed.append(reads)
    assert set(needed) == {2, 3, 4, 5}
