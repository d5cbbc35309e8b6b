"""States that last some reads or some time, and states that never end."""

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from tests.ec2sim import Ec2Cloud, MemoryHypervisor, Slow
from tests.ec2sim.clients import Caller, error_of
from tests.ec2sim.conftest import INSTANCE, OTHER
from tests.lab.waiting import wait_until

FREE, ATTACHING, ATTACHED = ("available", ""), ("in-use", "attaching"), ("in-use", "attached")
DETACHING, BUSY = ("in-use", "detaching"), ("in-use", "busy")


def _wait(ec2: Caller, volume_id: str, states: tuple[str, str]) -> None:
    wait_until(lambda: ec2.states(volume_id) == states, 30, f"{volume_id} is {states}")


def test_every_state_lasts_as_planned(cloud: Ec2Cloud, ec2: Caller, hypervisor: MemoryHypervisor) -> None:
    slow = Slow(looks=2)
    cloud.plan.set(creating=slow, attaching=slow, detaching=slow, deleting=slow)
    volume_id = ec2.made()
    assert [ec2.states(volume_id) for _ in range(3)] == [("creating", ""), ("creating", ""), FREE]
    ec2.attach(volume_id, INSTANCE)
    assert hypervisor.plugged() == {}
    assert [ec2.states(volume_id) for _ in range(3)] == [ATTACHING, ATTACHING, ATTACHED]
    assert hypervisor.plugged().keys() == {volume_id}
    ec2.detach(volume_id)
    assert hypervisor.plugged().keys() == {volume_id}
    assert [ec2.states(volume_id) for _ in range(3)] == [DETACHING, DETACHING, FREE]
    assert hypervisor.plugged() == {}
    ec2.delete(volume_id)
    assert [ec2.states(volume_id) for _ in range(2)] == [("deleting", "")] * 2
    assert ec2.found(volume_id=volume_id) == []


@pytest.mark.parametrize("state", ["creating", "attaching", "detaching", "deleting"])
def test_a_state_may_last_forever(cloud: Ec2Cloud, ec2: Caller, state: str) -> None:
    cloud.plan.set(**{state: Slow(seconds=3600)})
    volume_id = ec2.made()
    if state in ("attaching", "detaching"):
        ec2.attach(volume_id, INSTANCE)
    if state == "detaching":
        ec2.detach(volume_id)
    if state == "deleting":
        ec2.delete(volume_id)
    with pytest.raises(TimeoutError, match=volume_id):
        cloud.settle(timeout_s=0.01)
    assert state in ec2.states(volume_id)


def test_reads_of_other_volumes_are_not_counted(cloud: Ec2Cloud, ec2: Caller) -> None:
    cloud.plan.attaching = Slow(looks=3)
    volume_id, other = ec2.made(), ec2.made()
    ec2.attach(volume_id, INSTANCE)
    ec2.states(other)
    ec2.found(status="available")
    assert [ec2.states(volume_id) for _ in range(4)] == [ATTACHING] * 3 + [ATTACHED]


def test_states_end_by_time_without_reads(cloud: Ec2Cloud, ec2: Caller, hypervisor: MemoryHypervisor) -> None:
    cloud.plan.attaching = Slow(seconds=0.2)
    volume_id = ec2.made()
    ec2.attach(volume_id, INSTANCE)
    cloud.settle()
    assert hypervisor.plugged().keys() == {volume_id}
    assert cloud.calls.counts()["DescribeVolumes"] == 0


def test_the_device_may_come_before_the_api_says_attached(
    cloud: Ec2Cloud, ec2: Caller, hypervisor: MemoryHypervisor
) -> None:
    cloud.plan.set(device="before", attaching=Slow(looks=1))
    volume_id = ec2.made()
    ec2.attach(volume_id, INSTANCE)
    assert hypervisor.plugged().keys() == {volume_id}
    assert [ec2.states(volume_id) for _ in range(2)] == [ATTACHING, ATTACHED]
    ec2.detach(volume_id)
    assert hypervisor.plugged() == {}


def test_a_device_that_has_come_does_not_come_again(
    cloud: Ec2Cloud, ec2: Caller, hypervisor: MemoryHypervisor
) -> None:
    """Although the plan has changed meanwhile; a hypervisor refuses to plug a volume twice."""
    cloud.plan.set(device="before", attaching=Slow(looks=1))
    volume_id = ec2.made()
    ec2.attach(volume_id, INSTANCE)
    cloud.plan.device = "with"
    assert [ec2.states(volume_id) for _ in range(2)] == [ATTACHING, ATTACHED]
    with pytest.raises(RuntimeError, match=f"{volume_id} is plugged already"):
        hypervisor.plug(OTHER, volume_id, "/dev/sdf")


def test_the_device_may_come_after_the_api_says_attached(
    cloud: Ec2Cloud, ec2: Caller, hypervisor: MemoryHypervisor
) -> None:
    cloud.plan.set(device="after", device_lag_s=3600)
    delayed, volume_id = ec2.made(), ec2.made()
    ec2.attach(delayed, INSTANCE, "/dev/sdk")
    assert ec2.states(delayed) == ATTACHED
    assert hypervisor.plugged() == {}
    ec2.detach(delayed)
    cloud.plan.device_lag_s = 0.1
    ec2.attach(volume_id, INSTANCE)
    cloud.settle()
    assert hypervisor.plugged().keys() == {volume_id}


@pytest.mark.parametrize("device", ["before", "with", "after"])
def test_a_detach_cancels_an_attach(
    cloud: Ec2Cloud, ec2: Caller, hypervisor: MemoryHypervisor, device: str
) -> None:
    cloud.plan.set(device=device, attaching=Slow(seconds=3600), device_lag_s=3600.0)
    volume_id = ec2.made()
    ec2.attach(volume_id, INSTANCE)
    assert ec2.states(volume_id) == ATTACHING
    ec2.detach(volume_id)
    assert ec2.states(volume_id) == FREE
    assert hypervisor.plugged() == {}
    cloud.plan.end()
    ec2.attach(volume_id, OTHER)
    assert ec2.states(volume_id) == ATTACHED


@pytest.mark.parametrize("by", ["volume", "device"])
def test_a_stuck_attach_gets_no_device_until_it_is_cancelled(
    cloud: Ec2Cloud, ec2: Caller, hypervisor: MemoryHypervisor, by: str
) -> None:
    volume_id = ec2.made()
    if by == "volume":
        cloud.plan.stuck_volumes = frozenset({volume_id})
    else:
        cloud.plan.stuck_devices = frozenset({"/dev/sdf"})
    ec2.attach(volume_id, INSTANCE, "/dev/sdf")
    cloud.settle()
    assert [ec2.states(volume_id) for _ in range(3)] == [ATTACHING] * 3
    assert hypervisor.plugged() == {}
    ec2.detach(volume_id)
    assert ec2.states(volume_id) == FREE
    cloud.plan.stuck_volumes = frozenset()
    ec2.attach(volume_id, INSTANCE, "/dev/sdg")
    assert ec2.states(volume_id) == ATTACHED


def test_a_volume_in_use_is_busy_until_it_is_not(cloud: Ec2Cloud, ec2: Caller) -> None:
    volume_id = ec2.made()
    ec2.attach(volume_id, INSTANCE)
    cloud.plan.busy_volumes = frozenset({volume_id})
    assert ec2.detach(volume_id) == "detaching"
    assert ec2.states(volume_id) == BUSY
    assert ec2.detach(volume_id) == "busy"
    with pytest.raises(ClientError) as caught:
        ec2.attach(volume_id, OTHER)
    assert error_of(caught.value)[0] == "VolumeInUse"
    cloud.plan.busy_volumes = frozenset()
    _wait(ec2, volume_id, FREE)


def test_force_detaches_a_busy_volume(cloud: Ec2Cloud, ec2: Caller, hypervisor: MemoryHypervisor) -> None:
    volume_id = ec2.made()
    ec2.attach(volume_id, INSTANCE)
    cloud.plan.busy_volumes = frozenset({volume_id})
    ec2.detach(volume_id)
    assert ec2.states(volume_id) == BUSY
    ec2.detach(volume_id, Force=True)
    assert ec2.states(volume_id) == FREE
    assert hypervisor.plugged() == {}


@pytest.mark.parametrize("ends", ["error", "gone"])
def test_a_creation_may_fail_after_its_answer(cloud: Ec2Cloud, ec2: Caller, ends: str) -> None:
    cloud.plan.set(creation_ends=ends, creating=Slow(looks=1))
    volume_id = ec2.made(ClientToken="t")
    assert ec2.found(status="creating") == [volume_id]
    if ends == "error":
        assert ec2.states(volume_id) == ("error", "")
        ec2.delete(volume_id)
    assert cloud.volumes() == []
    with pytest.raises(ClientError) as caught:
        ec2.made(ClientToken="t")
    assert error_of(caught.value)[0] == "IdempotentParameterMismatch"


def test_a_key_that_cannot_be_used_ends_in_an_error(cloud: Ec2Cloud, ec2: Caller) -> None:
    cloud.plan.bad_kms_keys = frozenset({"alias/gone"})
    assert ec2.states(ec2.made(Encrypted=True, KmsKeyId="alias/gone")) == ("error", "")
    assert ec2.states(ec2.made(Encrypted=True, KmsKeyId="alias/good")) == FREE


@pytest.mark.parametrize("device", ["before", "with", "after"])
def test_calls_at_the_same_time_leave_devices_and_states_in_agreement(
    cloud: Ec2Cloud, ec2: Caller, hypervisor: MemoryHypervisor, device: str
) -> None:
    brief = Slow(seconds=0.002)
    cloud.plan.set(attaching=brief, detaching=brief, device=device, device_lag_s=0.002)
    volumes = [ec2.made() for _ in range(3)]

    def act(number: int) -> None:
        chosen = random.Random(number)  # noqa: S311 - deterministic
        volume_id = chosen.choice(volumes)
        with contextlib.suppress(ClientError):
            if chosen.random() < 0.5:
                ec2.attach(volume_id, chosen.choice([INSTANCE, OTHER]), f"/dev/sd{chosen.choice('fgh')}")
            else:
                ec2.detach(volume_id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, range(300)))
    cloud.settle()
    plugged = {volume_id: each.instance_id for volume_id, each in hypervisor.plugged().items()}
    attached = {each.volume_id: each.attachment for each in cloud.volumes() if each.attachment}
    assert plugged == {volume_id: place.instance_id for volume_id, place in attached.items()}
    assert {place.status for place in attached.values()} <= {"attached"}
    assert cloud.calls.counts()["AttachVolume"] > 100
    assert sum(call.outcome == "ok" for call in cloud.calls.log()) > 20
