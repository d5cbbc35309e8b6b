"""Planned faults: the result for the caller, and whether there was an effect."""

import contextlib
import time
from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.ec2sim import Ec2Cloud, MemoryHypervisor, Refusal
from tests.ec2sim.clients import Caller, caller, error_of
from tests.ec2sim.conftest import INSTANCE
from tests.ec2sim.plan import Fault, FaultPlan

THROTTLED = ("RequestLimitExceeded", "Request limit exceeded.", 503)
CASES: dict[str, tuple[Fault, tuple[str, str, int] | None, bool]] = {
    "throttled": ("throttled", THROTTLED, False),
    "error": ("error", ("InternalError", "An internal error has occurred", 500), False),
    "lost answer": ("lost", ("InternalError", "An internal error has occurred", 500), True),
    "closed after the effect": ("closed", None, True),
    "closed before it": ("dropped", None, False),
    "any refusal": (
        Refusal("InsufficientVolumeCapacity", "no", 400),
        ("InsufficientVolumeCapacity", "no", 400),
        False,
    ),
}


def _outcome(act: Callable[[], object]) -> tuple[str, str, int] | None:
    """Run an action that fails, and return the error; None if there was no answer at all."""
    try:
        act()
    except ClientError as error:
        return error_of(error)
    except ConnectionClosedError:
        return None
    raise AssertionError("nothing failed")


@pytest.mark.parametrize("case", CASES)
def test_a_scripted_fault_hits_the_next_call_of_its_action(cloud: Ec2Cloud, ec2: Caller, case: str) -> None:
    fault, expected, has_effect = CASES[case]
    cloud.plan.script = {"CreateVolume": ["", fault]}
    first = ec2.made()
    assert ec2.found() == [first]
    assert _outcome(ec2.made) == expected
    assert len(cloud.volumes()) == (2 if has_effect else 1)
    assert cloud.calls.counts()["CreateVolume"] == 2
    assert ec2.made()


@pytest.mark.parametrize("action", ["AttachVolume", "DetachVolume", "DeleteVolume", "CreateTags"])
@pytest.mark.parametrize("fault", ["lost", "closed"])
def test_every_change_can_lose_its_answer(
    cloud: Ec2Cloud, ec2: Caller, hypervisor: MemoryHypervisor, action: str, fault: str
) -> None:
    volume_id = ec2.made()
    if action == "DetachVolume":
        ec2.attach(volume_id, INSTANCE)
    cloud.plan.script = {action: [fault]}
    acts: dict[str, Callable[[], object]] = {
        "AttachVolume": lambda: ec2.attach(volume_id, INSTANCE),
        "DetachVolume": lambda: ec2.detach(volume_id),
        "DeleteVolume": lambda: ec2.delete(volume_id),
        "CreateTags": lambda: ec2.tag(volume_id, a="b"),
    }
    _outcome(acts[action])
    volume = cloud.volume(volume_id)
    if action == "DeleteVolume":
        assert volume is None
    else:
        assert volume is not None
        assert (volume.attachment is not None) == (action == "AttachVolume")
        assert (volume_id in hypervisor.plugged()) == (action == "AttachVolume")
        assert dict(volume.tags) == ({"a": "b"} if action == "CreateTags" else {})


def _outcomes(cloud: Ec2Cloud, ec2: Caller, **rates: object) -> list[str]:
    cloud.calls.reset()
    cloud.set_plan(**rates)
    for _ in range(60):
        with contextlib.suppress(ClientError, ConnectionClosedError):
            ec2.found()
    return [call.outcome for call in cloud.calls.log()]


def test_faults_by_rates_are_deterministic() -> None:
    def run() -> list[str]:
        with Ec2Cloud(MemoryHypervisor()) as cloud, caller(cloud.endpoint) as ec2:
            return _outcomes(
                cloud, ec2, throttle_rate=0.2, error_rate=0.2, lost_answer_rate=0.1, closed_rate=0.1
            )

    first = run()
    assert first == run()
    assert set(first) == {"ok", "RequestLimitExceeded", "InternalError", "Unavailable", "lost", "closed"}


def test_rates_are_for_the_faulty_actions(cloud: Ec2Cloud, ec2: Caller) -> None:
    cloud.set_plan(throttle_rate=1.0, faulty_actions=frozenset({"CreateVolume"}))
    assert ec2.found() == []
    assert _outcome(ec2.made) == THROTTLED
    cloud.end_faults()
    assert ec2.made()


def test_the_end_of_faults_leaves_a_new_plan() -> None:
    plan = FaultPlan(throttle_rate=1.0, denied=frozenset({"X"}), script={"X": ["lost"]})
    plan.end()
    assert plan == FaultPlan()


def test_a_call_takes_as_long_as_planned(cloud: Ec2Cloud, ec2: Caller) -> None:
    cloud.plan.latency_s = 0.1
    begun = time.monotonic()
    ec2.found()
    assert time.monotonic() - begun >= 0.1
