"""A cloud as a process of its own, and the handle of it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.ec2sim import (
    Ec2Cloud,
    MemoryHypervisor,
    NewVolume,
    Refusal,
    RemoteEc2Cloud,
    Slow,
)
from tests.ec2sim.clients import ZONE, caller, error_of
from tests.ec2sim.conftest import INSTANCE, OTHER

CloudHandle = Ec2Cloud | RemoteEc2Cloud
_ROOT = Path(__file__).parents[2]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    instances = tmp_path / "instances.json"
    instances.write_text(json.dumps([{"instance_id": INSTANCE, "zone": ZONE, "attachment_limit": 1}]))
    command = [sys.executable, "-m", "tests.ec2sim", "--hypervisor", "memory"]
    places = ["--directory", str(tmp_path / "cloud"), "--instances", str(instances)]
    with subprocess.Popen([*command, *places], cwd=_ROOT, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.fixture(params=["here", "afar"])
def handle(request: pytest.FixtureRequest) -> Iterator[CloudHandle]:
    """The same cloud behind both handles."""
    with Ec2Cloud(MemoryHypervisor()) as cloud:
        cloud.add_instance(INSTANCE, attachment_limit=1)
        yield cloud if request.param == "here" else RemoteEc2Cloud(cloud.endpoint)


def test_a_process_says_where_it_serves_and_ends_when_it_is_told_to(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert process.stdout is not None
    cloud = RemoteEc2Cloud(json.loads(process.stdout.readline())["endpoint"])
    with caller(cloud.endpoint) as ec2:
        ec2.attach(ec2.made(), INSTANCE)
        assert len(list((tmp_path / "cloud/instances" / INSTANCE / "sys/block").iterdir())) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert list((tmp_path / "cloud").iterdir()) == []


def test_both_handles_do_the_same(handle: CloudHandle) -> None:
    added = handle.add_instance(OTHER, zone=ZONE, kind="xen", address="10.1.2.3")
    assert added in handle.instances()
    made = handle.add_volumes([NewVolume(tags={"a": "b"}), NewVolume(size_gib=7)])
    assert [(each.volume_id, dict(each.tags), each.size_gib) for each in handle.volumes()] == [
        (made[0], {"a": "b"}, 1),
        (made[1], {}, 7),
    ]
    with caller(handle.endpoint) as ec2:
        ec2.attach(made[0], INSTANCE)
        volume = handle.volume(made[0])
        assert volume is not None
        assert volume.attachment is not None
        assert volume.attachment.instance_id == INSTANCE
    assert handle.imds_endpoint_of(INSTANCE) == f"{handle.imds_endpoint}/as/{INSTANCE}"
    handle.set_instance_state(INSTANCE, "terminated")
    handle.remove_instance(INSTANCE)
    assert [each.instance_id for each in handle.instances()] == [OTHER]
    assert [(call.action, call.outcome) for call in handle.calls.log()] == [("AttachVolume", "ok")]
    assert handle.calls.counts(INSTANCE) == {}
    handle.calls.reset()
    assert handle.calls.counts() == {}


def test_both_handles_set_the_plan(handle: CloudHandle) -> None:
    handle.set_plan(
        script={"CreateVolume": [Refusal("Strange", "a text", 418), "throttled"]},
        denied=frozenset({"DeleteVolume"}),
        attaching=Slow(looks=1),
        stale_looks=(1, 1),
        stale_after=frozenset({"CreateTags"}),
    )
    with caller(handle.endpoint) as ec2:
        for expected in (
            ("Strange", "a text", 418),
            ("RequestLimitExceeded", "Request limit exceeded.", 503),
        ):
            with pytest.raises(ClientError) as caught:
                ec2.made()
            assert error_of(caught.value) == expected
        volume_id = ec2.made()
        ec2.attach(volume_id, INSTANCE)
        assert [ec2.states(volume_id)[1] for _ in range(2)] == ["attaching", "attached"]
        ec2.tag(volume_id, a="b")
        assert ["Tags" in ec2.described(volume_id) for _ in range(2)] == [False, True]
        with pytest.raises(ClientError):
            ec2.delete(volume_id)
        handle.end_faults()
        ec2.detach(volume_id)
        handle.settle()
        ec2.delete(volume_id)


def test_what_a_plan_cannot_be_is_said(handle: CloudHandle) -> None:
    with pytest.raises(ValueError, match="has no latency"):
        handle.set_plan(latency=1)


def test_a_plan_set_from_afar_is_read_as_it_was_set(cloud: Ec2Cloud) -> None:
    remote = RemoteEc2Cloud(cloud.endpoint)
    changes = {
        "creating": Slow(0.5, 2),
        "script": {"X": ["lost", Refusal("A", "b", 400)]},
        "stuck_devices": frozenset({"/dev/sdf"}),
        "stale_looks": (2, 5),
    }
    remote.set_plan(**changes)
    plan = remote.read_plan()
    assert {name: plan[name] for name in changes} == changes
    assert {name: getattr(cloud.plan, name) for name in changes} == changes
