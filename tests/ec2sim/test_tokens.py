"""ClientTokens: one volume for one token, also after a lost answer."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from tests.ec2sim import Ec2Cloud, Slow
from tests.ec2sim.clients import Caller, caller, error_of
from tests.ec2sim.facts import REGION

OTHER_PARAMETERS = (
    "IdempotentParameterMismatch",
    "Parameters on this idempotent request are inconsistent with parameters used in previous request(s)",
    400,
)


def test_the_same_token_and_parameters_are_the_same_volume(cloud: Ec2Cloud, ec2: Caller) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ec2.made(ClientToken="t"), range(16)))
    assert len(set(made)) == 1
    assert len(cloud.volumes()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"Size": 2},
        {"VolumeType": "gp2"},
        {"Encrypted": True},
        {"TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}]},
    ],
)
def test_other_parameters_are_a_mismatch(cloud: Ec2Cloud, ec2: Caller, changes: dict[str, object]) -> None:
    ec2.made(ClientToken="t")
    with pytest.raises(ClientError) as caught:
        ec2.made(ClientToken="t", **changes)
    assert error_of(caught.value) == OTHER_PARAMETERS
    assert len(cloud.volumes()) == 1


def test_a_token_counts_within_its_zone(ec2: Caller) -> None:
    here = ec2.made(ClientToken="t")
    there = ec2.made(ClientToken="t", AvailabilityZone=f"{REGION}b")
    assert here != there


@pytest.mark.parametrize("deleting", [Slow(), Slow(looks=10**6)])
def test_the_token_of_a_deleted_volume_is_refused(cloud: Ec2Cloud, ec2: Caller, deleting: Slow) -> None:
    cloud.plan.deleting = deleting
    ec2.delete(ec2.made(ClientToken="t"))
    with pytest.raises(ClientError) as caught:
        ec2.made(ClientToken="t")
    code, text, _ = error_of(caught.value)
    assert code == "IdempotentParameterMismatch"
    assert "associated with a resource that is already deleted" in text


def test_a_long_token_is_refused(ec2: Caller) -> None:
    assert ec2.made(ClientToken="x" * 64)
    with pytest.raises(ClientError) as caught:
        ec2.made(ClientToken="x" * 65)
    text = "Client token must be less than or equal to 64 characters"
    assert error_of(caught.value) == ("InvalidParameterValue", text, 400)


@pytest.mark.parametrize("fault", ["lost", "closed"])
def test_a_repeat_after_a_lost_answer_makes_no_second_volume(cloud: Ec2Cloud, fault: str) -> None:
    cloud.plan.script = {"CreateVolume": [fault]}
    with caller(cloud.endpoint, attempts=3) as retrying:
        volume_id = retrying.made(ClientToken="t")
    assert [each.volume_id for each in cloud.volumes()] == [volume_id]
    assert [call.outcome for call in cloud.calls.log()] == [fault, "ok"]
