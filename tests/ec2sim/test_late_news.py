"""DescribeVolumes and DescribeInstances show for a while how things were before their last change."""

import pytest
from botocore.exceptions import ClientError

from tests.ec2sim import Ec2Cloud
from tests.ec2sim.clients import Caller, error_of
from tests.ec2sim.conftest import INSTANCE

LOOKS = 2


@pytest.fixture
def late(cloud: Ec2Cloud, ec2: Caller) -> Caller:
    cloud.plan.stale_looks = (LOOKS, LOOKS)
    return ec2


def _settled(cloud: Ec2Cloud, ec2: Caller) -> str:
    """A volume of which everything is known."""
    cloud.plan.stale_looks = (0, 0)
    volume_id = ec2.made()
    cloud.plan.stale_looks = (LOOKS, LOOKS)
    return volume_id


def test_a_new_volume_is_not_found_by_id_at_first(late: Caller) -> None:
    volume_id = late.made()
    for _ in range(LOOKS):
        with pytest.raises(ClientError) as caught:
            late.described(volume_id)
        assert error_of(caught.value)[0] == "InvalidVolume.NotFound"
    assert late.states(volume_id) == ("available", "")


def test_a_new_volume_is_not_found_by_filter_at_first(late: Caller) -> None:
    volume_id = late.made()
    assert [late.found(status="available") for _ in range(LOOKS + 1)] == [[], [], [volume_id]]


def test_looks_at_others_are_no_looks(cloud: Ec2Cloud, late: Caller) -> None:
    other = _settled(cloud, late)
    volume_id = late.made()
    for _ in range(LOOKS + 1):
        assert late.found(volume_id=other) == [other]
        assert late.states(other) == ("available", "")
    assert late.found(volume_id=volume_id) == []


def test_a_deleted_volume_is_still_found_at_first(cloud: Ec2Cloud, late: Caller) -> None:
    volume_id = _settled(cloud, late)
    late.delete(volume_id)
    assert [late.found(status="available") for _ in range(LOOKS + 1)] == [[volume_id], [volume_id], []]


def test_attachments_are_shown_late(cloud: Ec2Cloud, late: Caller) -> None:
    volume_id = _settled(cloud, late)
    late.attach(volume_id, INSTANCE)
    free, held = ("available", ""), ("in-use", "attached")
    assert [late.states(volume_id) for _ in range(LOOKS + 1)] == [free, free, held]
    late.detach(volume_id)
    assert [late.states(volume_id) for _ in range(LOOKS + 1)] == [held, held, free]


def test_starts_and_stops_of_instances_are_shown_late(cloud: Ec2Cloud, late: Caller) -> None:
    def state() -> str:
        [found] = late.client.describe_instances(InstanceIds=[INSTANCE])["Reservations"][0]["Instances"]
        return str(found["State"]["Name"])

    late.client.stop_instances(InstanceIds=[INSTANCE])
    cloud.settle()
    assert [state() for _ in range(LOOKS + 1)] == ["running", "running", "stopped"]
    late.client.start_instances(InstanceIds=[INSTANCE])
    cloud.settle()
    assert state() == "stopped"
    cloud.show_present()
    assert state() == "running"


def test_filters_go_by_what_is_shown(cloud: Ec2Cloud, late: Caller) -> None:
    volume_id = _settled(cloud, late)
    late.attach(volume_id, INSTANCE)
    assert late.found(attachment__instance_id=INSTANCE) == []
    assert late.found(status="available") == [volume_id]
    assert late.found(status="available") == []


def test_tags_are_shown_late(cloud: Ec2Cloud, late: Caller) -> None:
    volume_id = _settled(cloud, late)
    late.tag(volume_id, a="b")
    assert [late.described(volume_id).get("Tags") for _ in range(LOOKS + 1)] == [
        None,
        None,
        [{"Key": "a", "Value": "b"}],
    ]


def test_the_plan_names_the_changes_that_are_shown_late(cloud: Ec2Cloud, late: Caller) -> None:
    cloud.plan.stale_after = frozenset({"CreateTags"})
    volume_id = late.made()
    assert late.states(volume_id) == ("available", "")
    late.tag(volume_id, a="b")
    assert "Tags" not in late.described(volume_id)


def test_changes_go_by_the_truth(late: Caller) -> None:
    volume_id = late.made()
    late.attach(volume_id, INSTANCE)
    with pytest.raises(ClientError) as caught:
        late.delete(volume_id)
    assert error_of(caught.value)[0] == "VolumeInUse"


def test_the_present_can_be_shown_at_once(cloud: Ec2Cloud, late: Caller) -> None:
    volume_id = late.made()
    cloud.show_present()
    assert late.states(volume_id) == ("available", "")
    late.tag(volume_id, a="b")
    assert "Tags" not in late.described(volume_id), "the next change is shown late again"


def test_how_often_is_drawn_between_the_bounds(cloud: Ec2Cloud, ec2: Caller) -> None:
    cloud.plan.stale_looks = (2, 5)
    needed = []
    for _ in range(30):
        volume_id = ec2.made()
        looks = 0
        while not ec2.found(volume_id=volume_id):
            looks += 1
        needed.append(looks)
    assert set(needed) == {2, 3, 4, 5}
