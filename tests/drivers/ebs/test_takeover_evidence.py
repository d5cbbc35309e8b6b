"""What the driver says of other instances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from volplug.drivers.ebs.takeover import Takeover
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.errors import ErrorContext
from volplug.models import HolderState, Volume, VolumeSpec, VolumeState
from volplug.volumes.decision import Reason
from volplug.volumes.refusals import Facts, refusal_error

_HOLDER = "i-0123456789abcdef0"
_VOLUME = Volume(
    name="db",
    volume_id="vol-0123456789abcdef0",
    backend="ebs",
    size_bytes=1 << 30,
    state=VolumeState.IN_USE,
    spec=VolumeSpec("db", 1 << 30),
    holder=_HOLDER,
)


class _Caller:
    """EC2 shows one instance."""

    def __init__(self, state: str, **more: object) -> None:
        self._shown = {"InstanceId": _HOLDER, "State": {"Name": state}, **more}

    async def call(self, action: str, /, **parameters: object) -> Mapping[str, object]:
        if action == "DescribeInstanceStatus":
            return {"InstanceStatuses": [{"InstanceId": _HOLDER, "InstanceStatus": {"Status": "ok"}}]}
        return {"Reservations": [{"Instances": [self._shown]}]}


def of(caller: _Caller) -> Takeover:
    """Asking about instances takes neither volumes nor attachments."""
    unused = cast(Any, None)
    return Takeover(caller, unused, unused, Ec2Timeouts())


_DNS_NAME = "ip-172-31-245-112.eu-central-1.compute.internal"


@pytest.mark.parametrize(
    ("more", "host_name"),
    [
        ({}, ""),
        ({"PrivateDnsName": ""}, ""),
        ({"PrivateDnsName": _DNS_NAME}, "ip-172-31-245-112"),
        ({"PrivateDnsName": f"{_HOLDER}.eu-central-1.compute.internal"}, ""),
        ({"PrivateDnsName": _DNS_NAME, "Tags": [{"Key": "team", "Value": "web"}]}, "ip-172-31-245-112"),
        ({"PrivateDnsName": _DNS_NAME, "Tags": [{"Key": "Name", "Value": ""}]}, "ip-172-31-245-112"),
        ({"PrivateDnsName": _DNS_NAME, "Tags": [{"Key": "Name", "Value": "swarm-2"}]}, "swarm-2"),
    ],
)
@pytest.mark.parametrize("state", ["running", "stopping", "stopped"])
async def test_an_instance_has_the_name_that_operators_know_it_by(
    state: str, more: dict[str, object], host_name: str
) -> None:
    hibernated = {"StateReason": {"Code": "Client.UserInitiatedHibernate"}}
    for reason in ({}, hibernated):
        assert (await of(_Caller(state, **more, **reason)).holder_state(_HOLDER)).host_name == host_name


@pytest.mark.parametrize(
    ("state", "host_name", "shown"),
    [
        *((state, "swarm-worker-2", "swarm-worker-2") for state in ("running", "stopping", "shutting-down")),
        ("running", "x" * 255, f"{'x' * 12}..{'x' * 10}"),
    ],
)
async def test_a_refused_mount_has_room_for_the_whole_command_that_stops_the_holder(
    state: str, host_name: str, shown: str
) -> None:
    takeover = of(_Caller(state, Tags=[{"Key": "Name", "Value": host_name}]))
    facts = Facts(_VOLUME, other_node=await takeover.holder_state(_HOLDER))
    error = refusal_error(Reason.HELD_ELSEWHERE, facts)
    context = ErrorContext("mount", "db", "ebs", _VOLUME.volume_id, "i-0fedcba9876543210")
    said = str(error.in_context(context))
    assert said.startswith(f"node {shown} holds the volume (EC2 says it is {state}) [mount ")
    assert said.endswith(f"if it is dead, run aws ec2 stop-instances --instance-ids {_HOLDER}.")


@pytest.mark.parametrize(
    ("state", "reason", "judged"),
    [
        ("stopped", "Client.UserInitiatedShutdown", HolderState.DEAD),
        ("stopped", "Server.ScheduledStop", HolderState.DEAD),
        ("stopped", "Client.UserInitiatedHibernate", HolderState.UNKNOWN),
        ("stopped", "Server.SpotInstanceShutdown", HolderState.UNKNOWN),
        ("terminated", "Server.SpotInstanceTermination", HolderState.DEAD),
    ],
)
async def test_a_hibernated_instance_is_not_dead_for_it_resumes_with_its_mounts(
    state: str, reason: str, judged: HolderState
) -> None:
    takeover = of(_Caller(state, StateReason={"Code": reason}))
    holder = await takeover.holder_state(_HOLDER)
    assert (holder.state, holder.is_answered) == (judged, True)
    assert ("hibernated" in holder.evidence) == (judged is HolderState.UNKNOWN)
    assert bool(holder.remedy) == (judged is HolderState.UNKNOWN)
