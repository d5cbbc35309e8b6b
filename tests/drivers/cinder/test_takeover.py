"""What is concluded from Nova's reports of a server, and what a takeover does on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.drivers.cinder.recorded import SERVERS, VOLUMES, Answering, refusal, volume
from volplug.drivers.cinder.attachments import ServerAttachments
from volplug.drivers.cinder.disks import guest_disks
from volplug.drivers.cinder.errors import OpenStackRefused
from volplug.drivers.cinder.openstack import Call, OpenStackCaller
from volplug.drivers.cinder.takeover import ServerTakeover, judged
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cinder.volumes import CinderVolumes, read_volume
from volplug.drivers.cloud.calls import RetryingCaller
from volplug.errors import BackendUnavailable, ErrorContext, OperationTimeout, VolumeInUse, VolumeNotFound
from volplug.host.sysfs import Sysfs
from volplug.models import HolderState, Volume
from volplug.volumes.decision import Reason
from volplug.volumes.refusals import Facts, refusal_error

HOLDER = VOLUMES["in-use"]["attachments"][0]["server_id"]
OFF: dict[str, Any] = SERVERS["shut off"]
ON: dict[str, Any] = SERVERS["active"]
QUICK = CinderTimeouts(proof_s=0.0, transition_s=0.05, fence_s=0.05, poll_first_s=0.01, poll_longest_s=0.01)
HELD: Volume = read_volume(volume("in-use"), "cloud").volume


@pytest.mark.parametrize(
    ("server", "changes", "state", "evidence"),
    [
        (ON, {}, HolderState.ALIVE, "Nova reports ACTIVE"),
        (SERVERS["active for an administrator"], {}, HolderState.ALIVE, "Nova reports ACTIVE"),
        (ON, {"host_status": "DOWN"}, HolderState.UNKNOWN, "its compute host as DOWN, so it may run on"),
        (OFF, {}, HolderState.DEAD, "Nova reports SHUTOFF; its detach is the proof"),
        (OFF, {"host_status": "UP"}, HolderState.DEAD, "its compute host as up"),
        (OFF, {"host_status": "MAINTENANCE"}, HolderState.DEAD, "its detach is the proof"),
        (OFF, {"host_status": "DOWN"}, HolderState.UNKNOWN, "its compute host as DOWN, so it may run on"),
        (OFF, {"host_status": "UNKNOWN"}, HolderState.UNKNOWN, "its compute host as UNKNOWN"),
        (OFF, {"OS-EXT-STS:task_state": "powering-on"}, HolderState.UNKNOWN, "SHUTOFF, powering-on"),
        (OFF, {"OS-EXT-STS:power_state": 1}, HolderState.UNKNOWN, "Nova reports SHUTOFF"),
        (OFF, {"status": "ERROR"}, HolderState.UNKNOWN, "Nova reports ERROR"),
        (OFF, {"status": "DELETED"}, HolderState.UNKNOWN, "Nova reports DELETED"),
        (OFF, {"status": "SUSPENDED"}, HolderState.UNKNOWN, "Nova reports SUSPENDED"),
        (ON, {"status": "MIGRATING"}, HolderState.ALIVE, "Nova reports MIGRATING"),
        ({}, {}, HolderState.UNKNOWN, "Nova reports"),
    ],
)
def test_a_server_is_dead_only_if_it_is_off_and_its_host_is_not_down(
    server: Mapping[str, Any], changes: Mapping[str, Any], state: HolderState, evidence: str
) -> None:
    holder = judged({**server, **changes}, HOLDER)
    assert holder.state is state
    assert evidence in holder.evidence
    assert (holder.remedy == "") == (state is HolderState.DEAD)


@pytest.mark.parametrize("status", ["ACTIVE", "HARD_REBOOT", "VERIFY_RESIZE"])
@pytest.mark.parametrize("host_name", ["swarm-worker-2", "x" * 255])
@pytest.mark.parametrize("task", [None, "rebooting_hard"])
def test_a_refused_mount_has_room_for_the_evidence_and_the_whole_command_that_stops_the_holder(
    status: str, host_name: str, task: str | None
) -> None:
    server = {**ON, "status": status, "name": host_name, "OS-EXT-STS:task_state": task}
    holder = judged(server, HOLDER)
    error = refusal_error(Reason.HELD_ELSEWHERE, Facts(HELD, other_node=holder))
    context = ErrorContext("mount", "v" * 128, "cloud", HELD.volume_id, HELD.volume_id)
    text = str(error.in_context(context))
    assert text.startswith("node ")
    assert f" holds the volume (Nova reports {status}) [mount " in text
    assert text.endswith(f"if it is dead, run openstack server stop {HOLDER}.")


class Cloud(Answering):
    """A volume, its holder, and what Nova does about a detach.

    Attributes:
        held: The volume as Cinder describes it.
        server: Its holder as Nova describes it.
        ends: Whether a detach that Nova accepts is carried out.
    """

    def __init__(self, server: Mapping[str, Any], *, ends: bool = True) -> None:
        super().__init__(
            {
                "GET /volumes/ID": lambda _: {"volume": self.held},
                "GET /servers/ID": lambda _: {"server": self.server},
                "GET /servers/ID/os-volume_attachments": lambda _: {
                    "volumeAttachments": [{"volumeId": HELD.volume_id}] if self.held["attachments"] else []
                },
                "DELETE /servers/ID/os-volume_attachments/ID": lambda _: self.detached(),
                "POST /servers/ID/action": {},
            }
        )
        self.server = dict(server)
        self.held = volume("in-use")
        self.ends = ends

    def detached(self) -> Mapping[str, Any]:
        self.held = volume("available", id=HELD.volume_id) if self.ends else volume("detaching")
        return {}

    def takeover(
        self, limits: CinderTimeouts = QUICK, caller: OpenStackCaller | None = None
    ) -> ServerTakeover:
        caller = caller or self
        volumes = CinderVolumes(caller, "prod", "cloud", limits, lambda: 0.0)
        disks = guest_disks(Sysfs.__new__(Sysfs), "cloud")  # a takeover reads no disk of this host
        return ServerTakeover(caller, volumes, ServerAttachments(caller, volumes, disks, limits), limits)

    @property
    def changes(self) -> list[str]:
        return [call.action for call in self.calls if call.changes]


class Retrying:
    """A cloud whose changes are retried as those of `OpenStack` are."""

    def __init__(self, cloud: Cloud, caller: RetryingCaller) -> None:
        self._cloud = cloud
        self._caller = caller

    async def call(self, call: Call) -> Mapping[str, Any]:
        if not call.changes:
            return await self._cloud.call(call)
        change = self._cloud.answers[call.action]
        assert callable(change)
        answer = await self._caller.call(
            call.action,
            lambda _: change(call),
            changes=True,
            is_repeatable=call.is_repeatable,
            within_s=call.within_s,
        )
        assert not isinstance(answer, Exception)
        return answer


async def test_a_volume_is_taken_from_a_server_that_is_off_and_is_free_then() -> None:
    cloud = Cloud(OFF)
    await cloud.takeover().take_from(HELD, HOLDER)
    assert cloud.changes == ["DELETE /servers/ID/os-volume_attachments/ID"]
    assert cloud.held["status"] == "available"


@pytest.mark.parametrize(
    "server",
    [ON, {**OFF, "host_status": "DOWN"}, {**OFF, "status": "ERROR"}, {**OFF, "OS-EXT-STS:task_state": "x"}],
)
async def test_nothing_is_changed_without_the_proof(server: Mapping[str, Any]) -> None:
    cloud = Cloud(server)
    with pytest.raises(VolumeInUse, match="not proven dead") as refused:
        await cloud.takeover().take_from(HELD, HOLDER)
    assert refused.value.holder == HOLDER
    assert cloud.changes == []


async def test_a_detach_that_the_compute_host_does_not_carry_out_proves_nothing() -> None:
    cloud = Cloud(OFF, ends=False)
    with pytest.raises(VolumeInUse, match="has not detached it") as refused:
        await cloud.takeover().take_from(HELD, HOLDER)
    assert f"openstack server delete {HOLDER}" in refused.value.remedy
    cloud.ends = True  # its nova-compute is back, and carries the detach out
    cloud.answers["DELETE /servers/ID/os-volume_attachments/ID"] = lambda _: (
        cloud.detached(),
        refusal("detach a volume that is being detached"),
    )[1]
    await cloud.takeover().take_from(HELD, HOLDER)


async def test_a_detach_that_nova_refuses_proves_nothing() -> None:
    cloud = Cloud(OFF)
    cloud.answers["DELETE /servers/ID/os-volume_attachments/ID"] = refusal(
        "detach, the server's host is down"
    )
    with pytest.raises(VolumeInUse) as refused:
        await cloud.takeover().take_from(HELD, HOLDER)
    text = str(refused.value.in_context(ErrorContext("mount", "db-123", "cinder", HELD.volume_id, HOLDER)))
    assert text.startswith(f"node {HOLDER} is not proven dead: its compute service is down [")
    assert text.endswith(f"Once its host is off: openstack server evacuate {HOLDER}, as administrator.")


@pytest.mark.parametrize(
    ("message", "cause", "remedy"),
    [
        (f"Instance {HOLDER} is locked", "it is locked", "openstack server unlock"),
        (
            f"Cannot 'detach_volume' instance {HOLDER} while it is in task_state powering-on",
            "task_state powering-on",
            "Try again",
        ),
    ],
)
async def test_of_a_server_that_is_locked_or_being_changed_no_evacuation_is_advised(
    message: str, cause: str, remedy: str
) -> None:
    cloud = Cloud(OFF)
    cloud.answers["DELETE /servers/ID/os-volume_attachments/ID"] = OpenStackRefused("Nova", "x", 409, message)
    with pytest.raises(VolumeInUse, match=cause) as refused:
        await cloud.takeover().take_from(HELD, HOLDER)
    assert remedy.lower() in refused.value.remedy.lower()
    assert "evacuate" not in refused.value.remedy


async def test_no_evacuation_is_advised_while_a_detach_has_not_ended() -> None:
    """It would fail, as Cinder reserves no volume that is detaching."""
    cloud = Cloud(OFF)
    cloud.held = volume("detaching")
    cloud.answers["DELETE /servers/ID/os-volume_attachments/ID"] = refusal(
        "detach, the server's host is down"
    )
    with pytest.raises(VolumeInUse, match="its compute service is down") as refused:
        await cloud.takeover().take_from(HELD, HOLDER)
    text = str(refused.value.in_context(ErrorContext("mount", "db-123", "cinder", HELD.volume_id, HOLDER)))
    assert text.endswith(
        f"Start its nova-compute, or once its host is off: openstack server delete {HOLDER}."
    )


async def test_a_volume_that_only_cinder_has_attached_is_not_reported_as_taken() -> None:
    """A failure left its attachment there, and Nova has forgotten it."""
    cloud = Cloud(OFF)
    path = "/servers/ID/os-volume_attachments"
    cloud.answers[f"DELETE {path}/ID"] = refusal("detach a volume that is not attached")
    cloud.answers[f"GET {path}"] = {"volumeAttachments": []}
    with pytest.raises(VolumeInUse, match="Cinder has it attached to") as refused:
        await cloud.takeover().take_from(HELD, HOLDER)
    attachment_id = cloud.held["attachments"][0]["attachment_id"]
    assert f"openstack volume attachment delete {attachment_id}" in refused.value.remedy


async def test_a_server_that_is_started_between_the_two_reads_keeps_its_volume() -> None:
    cloud = Cloud(OFF)

    async def start(_: float) -> None:
        cloud.server |= {"OS-SRV-USG:launched_at": "2026-11-30T00:00:00.000000"}

    takeover = cloud.takeover()
    takeover._sleep = start
    with pytest.raises(VolumeInUse, match="its launched at changed"):
        await takeover.take_from(HELD, HOLDER)
    assert cloud.changes == []


async def test_a_server_that_is_started_while_nova_does_not_answer_keeps_its_volume() -> None:
    """A detach that is retried rests on an old proof; the server may have mounted the volume meanwhile."""
    cloud, now_s = Cloud(OFF), 0.0
    requested: list[str] = []

    async def pause(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        if now_s > 5:
            cloud.server = dict(ON)

    def detach(_: Call) -> Mapping[str, Any]:
        requested.append(cloud.server["status"])
        raise BackendUnavailable("Nova did not answer")

    cloud.answers["DELETE /servers/ID/os-volume_attachments/ID"] = detach
    retrying = RetryingCaller("Nova", 8, clock=lambda: now_s, sleep=pause, jitter=lambda _, longest: longest)
    with pytest.raises(BackendUnavailable):
        await cloud.takeover(caller=Retrying(cloud, retrying)).take_from(HELD, HOLDER)
    assert len(requested) > 1
    assert set(requested) == {"SHUTOFF"}


async def test_a_volume_that_has_left_the_server_is_not_touched() -> None:
    cloud = Cloud(OFF)
    cloud.held = volume("available", id=HELD.volume_id)
    await cloud.takeover().take_from(HELD, HOLDER)
    cloud.held = volume("available", id=HELD.volume_id, status="deleting")
    with pytest.raises(VolumeNotFound):
        await cloud.takeover().take_from(HELD, HOLDER)
    assert cloud.changes == []


@pytest.mark.parametrize(
    ("answer", "is_answered"),
    [
        (refusal("attach to a server that does not exist"), False),
        (refusal("attach to a server still building"), False),
        (BackendUnavailable("away"), False),
        ({"server": {**OFF, "status": "ERROR"}}, True),
    ],
)
async def test_a_server_that_nova_does_not_report_is_neither_alive_nor_dead_and_not_fenced(
    answer: Mapping[str, Any] | Exception, is_answered: bool
) -> None:
    cloud = Cloud(OFF)
    cloud.answers["GET /servers/ID"] = answer
    holder = await cloud.takeover().holder_state(HOLDER)
    assert (holder.state, holder.is_answered) == (HolderState.UNKNOWN, is_answered)
    assert holder.evidence


async def test_a_fence_ends_when_the_server_is_off() -> None:
    cloud = Cloud(ON)
    with pytest.raises(OperationTimeout, match="after the request to stop it"):
        await cloud.takeover().fence(HOLDER)
    cloud.server = dict(OFF)
    await cloud.takeover().fence(HOLDER)
    cloud.answers["POST /servers/ID/action"] = refusal("stop a server that is stopped")
    await cloud.takeover().fence(HOLDER)
    assert cloud.changes == ["POST /servers/ID/action"] * 3
