"""A volume is detached from another instance only behind two looks that agree that this is dead."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from tests.drivers.ebs.clouds import IMPATIENT, Site, spec_of
from tests.ec2sim import Ec2Cloud
from volplug.drivers.cloud.tags import CLUSTER, NAME
from volplug.drivers.cloud.timeouts import PROOF_HOLDS_S
from volplug.drivers.ebs import EbsDriver
from volplug.drivers.ebs.attachments import InstanceAttachments
from volplug.drivers.ebs.disks import Disks
from volplug.drivers.ebs.takeover import Takeover
from volplug.drivers.ebs.volumes import Caller, ClusterVolumes
from volplug.errors import VolplugError, VolumeInUse, VolumeNotFound
from volplug.models import Volume, VolumeSpec, VolumeState

pytestmark = pytest.mark.ebs

A, B, C = "i-0000000000000000a", "i-0000000000000000b", "i-0000000000000000c"
_VOLUME = Volume(
    name="db",
    volume_id="vol-0123456789abcdef0",
    backend="ebs",
    size_bytes=1 << 30,
    state=VolumeState.IN_USE,
    spec=VolumeSpec("db", 1 << 30),
    holder=A,
)
# Soon after the proof: a later retry could meet an instance that was started meanwhile.
_DETACH = [{"VolumeId": _VOLUME.volume_id, "InstanceId": A, "within_s": PROOF_HOLDS_S}]


class _Shown:
    """EC2 with one volume, attached to one instance; what it shows changes during the pause."""

    def __init__(self, change: Callable[[_Shown], None]) -> None:
        self._change = change
        self.instance: dict[str, Any] = {
            "InstanceId": A,
            "State": {"Name": "stopped"},
            "LaunchTime": "09:00",
            "StateTransitionReason": "User initiated (09:30)",
        }
        self.attachment = {"InstanceId": A, "State": "attached", "AttachTime": "09:01", "Device": "/dev/sdf"}
        self.volume: dict[str, Any] = {
            "VolumeId": _VOLUME.volume_id,
            "State": "in-use",
            "Attachments": [self.attachment],
            "Tags": [{"Key": CLUSTER, "Value": "test"}, {"Key": NAME, "Value": "db"}],
        }
        self.pauses: list[float] = []
        self.detached: list[Mapping[str, object]] = []

    async def call(self, action: str, /, **parameters: object) -> Mapping[str, object]:
        if action == "DetachVolume":
            self.detached.append(parameters)
            self.volume |= {"State": "available", "Attachments": []}
        if action == "DescribeVolumes":
            return {"Volumes": [self.volume] if self.volume else []}
        return {"Reservations": [{"Instances": [self.instance]}]}

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._change(self)

    def takeover(self) -> Takeover:
        limits = dataclasses.replace(IMPATIENT, poll_first_s=0.001, poll_longest_s=0.001)
        volumes = ClusterVolumes(self, "test", "ebs", limits, lambda: 0.0)
        attachments = InstanceAttachments(self, volumes, cast(Disks, None), limits)  # of another instance
        return Takeover(self, volumes, attachments, limits, sleep=self.pause)


def _instance(**changes: object) -> Callable[[_Shown], None]:
    return lambda shown: shown.instance.update(changes)


def _attachment(**changes: str) -> Callable[[_Shown], None]:
    return lambda shown: shown.attachment.update(changes)


async def test_an_instance_that_is_dead_in_two_reads_loses_the_volume_in_one_call() -> None:
    shown = _Shown(_instance())
    await shown.takeover().take_from(_VOLUME, A)
    assert (shown.pauses, shown.detached) == ([IMPATIENT.proof_s], _DETACH)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_instance(State={"Name": "running"}), "EC2 says it is running"),
        (_instance(State={"Name": "stopping"}), "EC2 says it is stopping"),
        (_instance(State={"Name": "terminated"}), "its state changed from stopped to terminated"),
        (_instance(LaunchTime="09:31"), "its launch time changed from 09:00 to 09:31"),
        (
            _instance(StateTransitionReason=""),
            r"its state transition reason changed from User initiated \(09:30\) to none",
        ),
        (_instance(StateReason={"Code": "Client.UserInitiatedHibernate"}), "maybe hibernated"),
        (_instance(InstanceId=B), f"EC2 shows no instance {A}"),
        (_attachment(AttachTime="09:32"), "its attach time changed from 09:01 to 09:32"),
        (_attachment(Device="/dev/sdg"), "its device changed from /dev/sdf to /dev/sdg"),
        (_attachment(State="busy"), "its attachment state changed from attached to busy"),
    ],
)
async def test_two_reads_that_differ_are_no_proof(change: Callable[[_Shown], None], said: str) -> None:
    shown = _Shown(change)
    with pytest.raises(VolumeInUse, match=f"node {A} is not proven dead: .*{said}") as refused:
        await shown.takeover().take_from(_VOLUME, A)
    assert (refused.value.holder, shown.detached) == (A, [])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_attachment(InstanceId=C), None),
        (lambda shown: shown.volume.update(State="available", Attachments=[]), None),
        (lambda shown: shown.volume.clear(), VolumeNotFound),
    ],
    ids=["attached elsewhere", "free", "not shown"],
)
async def test_a_volume_that_leaves_during_the_pause_is_left_as_it_is(
    change: Callable[[_Shown], None], error: type[VolplugError] | None
) -> None:
    shown = _Shown(change)
    if error is None:
        await shown.takeover().take_from(_VOLUME, A)
    else:
        with pytest.raises(error):
            await shown.takeover().take_from(_VOLUME, A)
    assert shown.detached == []


# On the simulated EC2


@pytest.fixture
async def held(memory_cloud: Ec2Cloud, sites: list[Site], on_a: EbsDriver) -> Volume:
    """A volume that is attached to A, which has been stopped."""
    volume = await on_a.create(spec_of())
    where = {"VolumeId": volume.volume_id, "InstanceId": A, "Device": "/dev/sdf"}
    await sites[0].caller.call("AttachVolume", **where)
    await sites[0].caller.call("StopInstances", InstanceIds=[A])
    memory_cloud.settle()
    memory_cloud.calls.reset()
    return volume


async def _start(cloud: Ec2Cloud, caller: Caller, stale_looks: int) -> None:
    cloud.set_plan(stale_looks=(stale_looks, stale_looks))
    await caller.call("StartInstances", InstanceIds=[A])
    cloud.settle()
    cloud.set_plan(stale_looks=(0, 0))


def _forced(cloud: Ec2Cloud) -> list[str | None]:
    return [call.parameters.get("Force") for call in cloud.calls.log() if call.action == "DetachVolume"]


async def test_one_stale_read_of_an_instance_that_runs_again_detaches_nothing(
    memory_cloud: Ec2Cloud, sites: list[Site], on_b: EbsDriver, held: Volume
) -> None:
    await _start(memory_cloud, sites[0].caller, stale_looks=1)
    with pytest.raises(VolumeInUse, match="not proven dead: EC2 says it is running"):
        await on_b.take_from(held, A)
    assert memory_cloud.calls.counts()["DescribeInstances"] == 2
    assert _forced(memory_cloud) == []


async def test_a_stopped_instance_costs_two_reads_and_one_detach(
    memory_cloud: Ec2Cloud, on_b: EbsDriver, held: Volume
) -> None:
    await on_b.get(held.name)
    memory_cloud.calls.reset()
    await on_b.take_from(held, A)
    looked = ["DescribeVolumes", "DescribeInstances"]
    made = [call.action for call in memory_cloud.calls.log()]
    assert made[:5] == [*looked, *looked, "DetachVolume"]
    assert set(made[5:]) == {"DescribeVolumes"}


@dataclasses.dataclass
class _Then:
    """Does something behind the first call of an action."""

    caller: Caller
    action: str
    do: Callable[[], Any]

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        answer = await self.caller.call(action, **parameters)
        if action == self.action:
            self.action = ""
            await self.do()
        return answer


async def test_an_instance_that_was_started_and_stopped_between_two_reads_keeps_its_volume(
    memory_cloud: Ec2Cloud, sites: list[Site], tmp_path: Path, held: Volume
) -> None:
    async def restart() -> None:
        memory_cloud.set_instance_state(A, "running")
        memory_cloud.set_instance_state(A, "stopped")

    caller = _Then(sites[1].caller, "DescribeInstances", restart)
    with pytest.raises(VolumeInUse, match="its launch time changed"):
        await sites[1].driver(tmp_path, caller=caller).take_from(held, A)
    assert _forced(memory_cloud) == []


@pytest.mark.parametrize("stale_looks", [0, 1])
async def test_an_instance_that_starts_while_its_volume_leaves_it_is_not_forced(
    memory_cloud: Ec2Cloud, sites: list[Site], tmp_path: Path, held: Volume, stale_looks: int
) -> None:
    """Not even if one look of the second proof still shows it stopped."""
    memory_cloud.set_plan(busy_volumes=frozenset({held.volume_id}))
    caller = _Then(
        sites[1].caller, "DetachVolume", lambda: _start(memory_cloud, sites[0].caller, stale_looks)
    )
    limits = dataclasses.replace(IMPATIENT, transition_s=0.1)
    site = Site(memory_cloud, sites[1].instance, force_detach=True)
    with pytest.raises(VolumeInUse, match="not proven dead: EC2 says it is running"):
        await site.driver(tmp_path, limits=limits, caller=caller).take_from(held, A)
    assert _forced(memory_cloud) == [None]
