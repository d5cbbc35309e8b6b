"""What EC2 proves of other instances, and what is done with the proof."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.ebs.clouds import Site, spec_of
from tests.ec2sim import Ec2Cloud, Refusal, Slow
from volplug.drivers.ebs import EbsDriver
from volplug.drivers.ebs.volumes import Caller
from volplug.errors import VolumeInUse
from volplug.models import HolderState

pytestmark = [pytest.mark.loop, pytest.mark.ebs]

A, B = "i-0000000000000000a", "i-0000000000000000b"


@pytest.fixture(scope="module")
def hosts(loop_cloud: Ec2Cloud) -> list[Site]:
    return [Site(loop_cloud, loop_cloud.add_instance(each), max_retries=0) for each in (A, B)]


@pytest.fixture
def on_a(site: Site, tmp_path: Path) -> EbsDriver:
    return site.driver(tmp_path / "a")


@pytest.fixture
def on_b(other_site: Site, tmp_path: Path) -> EbsDriver:
    return other_site.driver(tmp_path / "b")


@pytest.mark.parametrize(
    ("state", "judged"),
    [
        ("running", HolderState.ALIVE),
        ("stopped", HolderState.DEAD),
        ("terminated", HolderState.DEAD),
        *((each, HolderState.UNKNOWN) for each in ("pending", "stopping", "shutting-down")),
    ],
)
async def test_only_a_stopped_or_terminated_instance_is_proven_dead(
    cloud: Ec2Cloud, on_a: EbsDriver, state: str, judged: HolderState
) -> None:
    cloud.set_instance_state(B, state)
    holder = await on_a.holder_state(B)
    assert (holder.state, holder.evidence) == (judged, f"EC2 says it is {state}")
    assert holder.is_answered
    assert holder.host_name == ("" if state == "terminated" else "ip-10-0-0-2")
    is_helped = bool(holder.remedy)
    assert is_helped == (judged is not HolderState.DEAD)


async def test_an_instance_is_named_by_its_tag(cloud: Ec2Cloud, on_a: EbsDriver) -> None:
    named = cloud.add_instance("i-0000000000000000f", name="swarm-2").instance_id
    assert (await on_a.holder_state(named)).host_name == "swarm-2"


async def test_an_instance_that_fails_its_checks_is_neither_alive_nor_dead(
    cloud: Ec2Cloud, on_a: EbsDriver
) -> None:
    cloud.set_plan(impaired_instances=frozenset({B}))
    holder = await on_a.holder_state(B)
    evidence = "EC2 says it is running and fails its status checks"
    assert (holder.state, holder.evidence) == (HolderState.UNKNOWN, evidence)
    assert holder.remedy == f"run aws ec2 stop-instances --instance-ids {B}"


async def test_without_the_permission_to_see_checks_a_running_instance_is_alive(
    cloud: Ec2Cloud, on_a: EbsDriver
) -> None:
    cloud.set_plan(impaired_instances=frozenset({B}), denied=frozenset({"DescribeInstanceStatus"}))
    assert (await on_a.holder_state(B)).state is HolderState.ALIVE


async def test_an_instance_that_ec2_does_not_know_proves_nothing(on_a: EbsDriver) -> None:
    holder = await on_a.holder_state("i-0123456789abcdef0")
    assert (holder.state, holder.is_answered) == (HolderState.UNKNOWN, False)


@pytest.mark.parametrize(
    "plan",
    [
        {"denied": frozenset({"DescribeInstances"})},
        {"throttle_rate": 1.0, "faulty_actions": frozenset({"DescribeInstances"})},
        {"script": {"DescribeInstances": [Refusal("InvalidParameterValue", "odd")]}},
    ],
    ids=["denied", "throttled", "refused"],
)
async def test_missing_answer_of_ec2_is_reported(
    cloud: Ec2Cloud, on_a: EbsDriver, plan: dict[str, Any]
) -> None:
    cloud.set_plan(**plan)
    holder = await on_a.holder_state(B)
    assert (holder.state, holder.is_answered) == (HolderState.UNKNOWN, False)


async def test_a_volume_is_taken_only_from_the_dead(
    cloud: Ec2Cloud, on_a: EbsDriver, on_b: EbsDriver
) -> None:
    volume = await on_b.create(spec_of())
    await on_b.attach(volume)
    with pytest.raises(VolumeInUse, match="is not proven dead") as refused:
        await on_a.take_from(volume, B)
    assert refused.value.holder == B
    assert cloud.calls.counts()["DetachVolume"] == 0
    await on_a.fence(B)
    await on_a.take_from(volume, B)
    await on_a.attach(volume)
    found = await on_a.get(volume.name)
    assert found is not None
    assert found.holder == A
    await on_a.detach(volume)
    await on_a.delete(volume)


@dataclasses.dataclass
class _Before:
    """Does something before a call."""

    caller: Caller
    before: dict[str, Callable[[], None]]

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        self.before.get(action, lambda: None)()
        return await self.caller.call(action, **parameters)


async def test_an_instance_that_starts_while_its_volume_is_looked_up_keeps_it(
    cloud: Ec2Cloud, site: Site, on_b: EbsDriver, tmp_path: Path
) -> None:
    volume = await on_b.create(spec_of())
    await on_b.attach(volume)
    held = await on_b.get(volume.name)
    assert held is not None
    cloud.set_instance_state(B, "stopped")
    starts = {"DescribeVolumes": lambda: cloud.set_instance_state(B, "running")}
    with pytest.raises(VolumeInUse, match="is not proven dead"):
        await site.driver(tmp_path / "a", caller=_Before(site.caller, starts)).take_from(held, B)
    assert cloud.calls.counts()["DetachVolume"] == 0
    await on_b.detach(volume)
    await on_b.delete(volume)


@dataclasses.dataclass
class _Hiding:
    """Shows no volume in some look-ups after a detach."""

    caller: Caller
    looks: int
    has_detached: bool = False

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        if action == "DescribeVolumes" and self.has_detached and self.looks:
            self.looks -= 1
            return {"Volumes": []}
        self.has_detached = self.has_detached or action == "DetachVolume"
        return await self.caller.call(action, **parameters)


async def test_a_volume_that_ec2_does_not_show_for_a_moment_is_not_taken_for_free(
    cloud: Ec2Cloud, site: Site, on_b: EbsDriver, tmp_path: Path
) -> None:
    volume = await on_b.create(spec_of())
    await on_b.attach(volume)
    held = await on_b.get(volume.name)
    assert held is not None
    cloud.set_instance_state(B, "stopped")
    cloud.set_plan(detaching=Slow(0.1))
    caller = _Hiding(site.caller, looks=2)
    on_a = site.driver(tmp_path / "a", caller=caller)
    await on_a.take_from(held, B)
    fact = cloud.volume(volume.volume_id)
    assert fact is not None
    assert (fact.attachment, caller.looks) == (None, 0)
    await on_a.delete(volume)
