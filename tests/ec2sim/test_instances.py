"""Instances, by the API and by their metadata service."""

import json
import re
import urllib.error
import urllib.request
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.utils import InstanceMetadataFetcher

from tests.ec2sim import Ec2Cloud, MemoryHypervisor, Slow
from tests.ec2sim.clients import Caller, caller, error_of
from tests.ec2sim.conftest import INSTANCE, OTHER
from tests.ec2sim.facts import REGION

TTL = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}


def _state(ec2: Caller, instance_id: str = INSTANCE) -> str:
    found = ec2.client.describe_instances(InstanceIds=[instance_id])
    return str(found["Reservations"][0]["Instances"][0]["State"]["Name"])


@pytest.mark.parametrize(
    "state", ["pending", "running", "shutting-down", "terminated", "stopping", "stopped"]
)
def test_an_instance_is_described_in_its_state(cloud: Ec2Cloud, ec2: Caller, state: str) -> None:
    cloud.set_instance_state(INSTANCE, state)
    assert _state(ec2) == state


def test_all_instances_are_described(ec2: Caller) -> None:
    found = ec2.client.describe_instances()["Reservations"]
    assert {each["Instances"][0]["InstanceId"] for each in found} == {INSTANCE, OTHER}


def test_an_instance_has_a_name_in_the_network_until_its_end_and_a_tag_where_it_was_named(
    cloud: Ec2Cloud, ec2: Caller
) -> None:
    named = "i-0000000000000abcd"
    cloud.add_instance(named, name="swarm-2")

    def shown(instance_id: str) -> tuple[str, list[dict[str, str]]]:
        [found] = ec2.client.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"]
        return found["PrivateDnsName"], found.get("Tags", [])

    assert shown(INSTANCE) == (f"ip-10-0-0-1.{REGION}.compute.internal", [])
    assert shown(named) == (f"ip-10-0-0-3.{REGION}.compute.internal", [{"Key": "Name", "Value": "swarm-2"}])
    cloud.set_instance_state(named, "terminated")
    assert shown(named)[0] == ""


def test_an_instance_that_was_removed_is_not_found(cloud: Ec2Cloud, ec2: Caller) -> None:
    cloud.remove_instance(INSTANCE)
    with pytest.raises(ClientError) as caught:
        _state(ec2)
    text = f"The instance ID '{INSTANCE}' does not exist"
    assert error_of(caught.value) == ("InvalidInstanceID.NotFound", text, 400)


def test_stopping_takes_a_while_and_keeps_volumes(cloud: Ec2Cloud, ec2: Caller) -> None:
    volume_id = ec2.made()
    ec2.attach(volume_id, INSTANCE)
    cloud.plan.stopping = Slow(seconds=0.1)
    [change] = ec2.client.stop_instances(InstanceIds=[INSTANCE])["StoppingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping")
    cloud.settle()
    assert _state(ec2) == "stopped"
    assert ec2.states(volume_id) == ("in-use", "attached")
    ec2.client.start_instances(InstanceIds=[INSTANCE])
    cloud.settle()
    assert _state(ec2) == "running"


def test_each_start_gives_another_launch_time_and_each_stop_a_reason(cloud: Ec2Cloud, ec2: Caller) -> None:
    def shown() -> tuple[Any, str]:
        [found] = ec2.client.describe_instances(InstanceIds=[INSTANCE])["Reservations"][0]["Instances"]
        return found["LaunchTime"], found["StateTransitionReason"]

    launched, reason = shown()
    assert reason == ""
    ec2.client.stop_instances(InstanceIds=[INSTANCE])
    cloud.settle()
    stopped, reason = shown()
    assert stopped == launched
    assert re.fullmatch(r"User initiated \(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)", reason)
    ec2.client.start_instances(InstanceIds=[INSTANCE])
    cloud.settle()
    started, reason = shown()
    assert (started > launched, reason) == (True, "")


def test_a_test_can_set_when_an_instance_has_stopped(cloud: Ec2Cloud, ec2: Caller) -> None:
    cloud.plan.stops_by_hand = True
    ec2.client.stop_instances(InstanceIds=[INSTANCE])
    cloud.settle()
    assert _state(ec2) == "stopping"
    cloud.set_instance_state(INSTANCE, "stopped")
    assert _state(ec2) == "stopped"


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_terminated_instance_loses_its_volumes(
    cloud: Ec2Cloud, ec2: Caller, hypervisor: MemoryHypervisor, is_busy: bool
) -> None:
    volume_id, elsewhere = ec2.made(), ec2.made()
    ec2.attach(volume_id, INSTANCE)
    ec2.attach(elsewhere, OTHER)
    if is_busy:
        cloud.plan.busy_volumes = frozenset({volume_id})
    cloud.set_instance_state(INSTANCE, "terminated")
    cloud.settle()
    assert _state(ec2) == "terminated"
    assert ec2.states(volume_id) == ("available", "")
    assert hypervisor.plugged().keys() == {elsewhere}


def test_a_terminated_instance_cannot_be_started(cloud: Ec2Cloud, ec2: Caller) -> None:
    cloud.set_instance_state(INSTANCE, "terminated")
    with pytest.raises(ClientError) as caught:
        ec2.client.start_instances(InstanceIds=[INSTANCE])
    assert error_of(caught.value)[0] == "IncorrectInstanceState"


def _asked(url: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, method=method, headers=headers or {})  # noqa: S310 - the cloud's own
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - likewise
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def _data(endpoint: str, name: str) -> tuple[int, str]:
    _, token = _asked(f"{endpoint}/latest/api/token", "PUT", TTL)
    headers = {"X-aws-ec2-metadata-token": token}
    return _asked(f"{endpoint}/latest/meta-data/{name}", headers=headers)


def test_metadata_needs_a_token(cloud: Ec2Cloud) -> None:
    endpoint = cloud.imds_endpoint_of(INSTANCE)
    url = f"{endpoint}/latest/meta-data/instance-id"
    assert _asked(url)[0] == 401
    assert _asked(url, headers={"X-aws-ec2-metadata-token": "wrong"})[0] == 401
    assert _asked(f"{endpoint}/latest/api/token", "PUT")[0] == 400
    assert _asked(f"{endpoint}/latest/api/token", "GET", TTL)[0] == 405
    assert _data(endpoint, "instance-id") == (200, INSTANCE)
    assert _data(endpoint, "unknown")[0] == 404


@pytest.mark.parametrize("name", [f"as/{INSTANCE}0", f"as/{INSTANCE}", "as"])
def test_unknown_metadata_is_not_found(cloud: Ec2Cloud, name: str) -> None:
    endpoint = f"{cloud.endpoint}/{name}"
    _, token = _asked(f"{cloud.imds_endpoint_of(INSTANCE)}/latest/api/token", "PUT", TTL)
    assert _asked(f"{endpoint}/latest/user-data", headers={"X-aws-ec2-metadata-token": token})[0] == 404


def test_an_unknown_state_of_an_instance_is_refused(cloud: Ec2Cloud) -> None:
    with pytest.raises(ValueError, match="an instance is never 'asleep', only pending, "):
        cloud.set_instance_state(INSTANCE, "asleep")


def test_an_instance_that_has_stopped_can_be_stopped(cloud: Ec2Cloud, ec2: Caller) -> None:
    cloud.set_instance_state(INSTANCE, "stopped")
    [change] = ec2.client.stop_instances(InstanceIds=[INSTANCE])["StoppingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("stopped", "stopped")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("instance-id", OTHER),
        ("placement/availability-zone", f"{REGION}a"),
        ("placement/region", REGION),
        ("iam/security-credentials/", "volplug"),
    ],
)
def test_metadata_is_the_instance_s_own(cloud: Ec2Cloud, name: str, expected: str) -> None:
    assert _data(cloud.imds_endpoint_of(OTHER), name) == (200, expected)


def test_credentials_of_the_role_are_found_by_the_sdk_and_work(cloud: Ec2Cloud) -> None:
    fetcher: Any = InstanceMetadataFetcher(base_url=cloud.imds_endpoint_of(INSTANCE))
    found = fetcher.retrieve_iam_role_credentials()
    instance = next(each for each in cloud.instances() if each.instance_id == INSTANCE)
    assert (found["access_key"], found["token"]) == (instance.access_key, instance.session_token)
    with caller(cloud.endpoint, instance=instance) as ec2:
        assert ec2.found() == []
    assert cloud.calls.counts(INSTANCE) == {"DescribeVolumes": 1}


def test_temporary_credentials_need_their_session_token(cloud: Ec2Cloud) -> None:
    instance = cloud.instances()[0]
    session = botocore.session.get_session()
    client = session.create_client(
        "ec2",
        region_name=REGION,
        endpoint_url=cloud.endpoint,
        aws_access_key_id=instance.access_key,
        aws_secret_access_key=instance.secret_key,
    )
    try:
        with pytest.raises(ClientError) as caught:
            client.describe_volumes()
    finally:
        client.close()
    assert error_of(caught.value)[::2] == ("AuthFailure", 401)


def test_credentials_are_as_the_sdk_expects_them(cloud: Ec2Cloud) -> None:
    status, text = _data(cloud.imds_endpoint_of(INSTANCE), "iam/security-credentials/volplug")
    assert status == 200
    assert json.loads(text)["Code"] == "Success"
