"""A cloud as a process of its own, and its handle."""

import json
import os
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
from tests.ec2sim.clients import caller, error_of
from tests.ec2sim.conftest import INSTANCE, OTHER
from tests.ec2sim.facts import ZONE

CloudHandle = Ec2Cloud | RemoteEc2Cloud
_ROOT = Path(__file__).parents[2]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")
    command = [sys.executable, "-m", "tests.ec2sim", "--directory", str(tmp_path / "cloud")]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as running:
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


@pytest.mark.loop
def test_a_process_prints_its_endpoint_and_ends_by_a_signal(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert process.stdout is not None
    cloud = RemoteEc2Cloud(json.loads(process.stdout.readline())["endpoint"])
    cloud.add_instance(INSTANCE)
    with caller(cloud.endpoint) as ec2:
        ec2.attach(ec2.made(), INSTANCE)
        assert len(list((tmp_path / "cloud/instances" / INSTANCE / "sys/block").iterdir())) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert list((tmp_path / "cloud").iterdir()) == []


def test_both_handles_do_the_same(handle: CloudHandle) -> None:
    added = handle.add_instance(OTHER, zone=ZONE, kind="xen")
    assert (added.instance_id, added.zone, added.kind) == (OTHER, ZONE, "xen")
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
    assert handle.imds_endpoint_of(INSTANCE) == f"{handle.endpoint}/as/{INSTANCE}"
    assert [(call.action, call.outcome) for call in handle.calls.log()] == [("AttachVolume", "ok")]
    assert handle.calls.counts(INSTANCE) == {}
    handle.calls.reset()
    assert handle.calls.counts() == {}


def test_both_handles_set_the_plan(handle: CloudHandle) -> None:
    handle.set_plan(
        script={"CreateVolume": [Refusal("Strange", "a text", 418), "throttled"]},
        denied=["DeleteVolume"],
        attaching=Slow(looks=1),
        stale_looks=(1, 1),
        stale_after=["CreateTags"],
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


def test_a_field_that_the_plan_does_not_have_is_an_error(handle: CloudHandle) -> None:
    with pytest.raises(ValueError, match="has no latency"):
        handle.set_plan(latency=1)
