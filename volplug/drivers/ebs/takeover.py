"""Other instances: proves them dead, takes volumes from dead ones, and stops one.

The proof is that of `CloudTakeover`: EC2 serves stale reads.
https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from volplug.drivers.base import Holder
from volplug.drivers.cloud.takeover import CloudTakeover, Description, Evidence, unanswered
from volplug.drivers.cloud.timeouts import PROOF_HOLDS_S
from volplug.drivers.ebs.attachments import InstanceAttachments
from volplug.drivers.ebs.errors import Ec2Refused, translated
from volplug.drivers.ebs.tags import as_mapping
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.drivers.ebs.volumes import Caller, ClusterVolumes, Ec2Volume
from volplug.errors import BackendError, VolumeInUse
from volplug.models import HolderState, Volume

# Nothing of a stopped or terminated instance runs; of one that is stopping, something may.
_STATES: Final = {
    "running": HolderState.ALIVE,
    "stopped": HolderState.DEAD,
    "terminated": HolderState.DEAD,
}
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
_HIBERNATED: Final = "Client.UserInitiatedHibernate"
# Prefix of the codes of interrupted spot instances. Only their requests tell whether they were hibernated:
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/interruption-behavior.html
_INTERRUPTED: Final = "Server.Spot"
_NOT_KNOWN: Final = ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed")


class Takeover(CloudTakeover[Ec2Volume]):
    """Takes volumes from dead instances.

    Args:
        may_force: Whether a volume may be detached by force from a stopped instance that does not release it.
    """

    _STOP = "run aws ec2 stop-instances --instance-ids {}"

    def __init__(
        self,
        caller: Caller,
        volumes: ClusterVolumes,
        attachments: InstanceAttachments,
        limits: Ec2Timeouts,
        *,
        may_force: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(volumes, limits, sleep)
        self._caller = caller
        self._attachments = attachments
        self._may_force = may_force

    async def _ask(self, node_id: str) -> tuple[Holder, Description]:
        """Return what is known of an instance, and EC2's description, empty where there is none."""
        try:
            answer = await self._caller.call("DescribeInstances", InstanceIds=[node_id])
        except Ec2Refused as refused:
            if refused.code in _NOT_KNOWN:
                return unanswered(f"EC2 knows no instance {node_id}, at least not any more")
            return unanswered(f"EC2 does not say how instance {node_id} is: {refused.code}")
        except BackendError as error:
            return unanswered(f"EC2 does not say how instance {node_id} is: {error.cause}")
        instances = [each for group in answer.get("Reservations", ()) for each in group.get("Instances", ())]
        shown = [each for each in instances if each.get("InstanceId") == node_id]
        if not shown:
            return unanswered(f"EC2 shows no instance {node_id}")
        return await self._judge(node_id, shown[0]), shown[0]

    async def _judge(self, node_id: str, instance: Description) -> Holder:
        state, reason = _state_and_reason(instance)
        if state == "stopped" and _may_resume(instance):
            evidence = "EC2 says it is stopped, but maybe hibernated: it would resume with its mounts"
            remedy = f"terminate {node_id}, or start and really stop it"
            return Holder(HolderState.UNKNOWN, evidence, remedy, host_name=_host_name(instance))
        judged = _STATES.get(state, HolderState.UNKNOWN)
        if judged is HolderState.ALIVE and await self._fails_checks(node_id):
            judged, reason = HolderState.UNKNOWN, " and fails its status checks"
        # Short: an error has room for 300 characters, holder and remedy included.
        evidence = f"EC2 says it is {state}{reason}"
        remedy = "" if judged is HolderState.DEAD else self._STOP.format(node_id)
        return Holder(judged, evidence, remedy, host_name=_host_name(instance))

    async def _fails_checks(self, node_id: str) -> bool:
        """Tell whether EC2 cannot reach a running instance, so that it is unknown whether it is alive.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-system-instance-status-check.html
        """
        try:
            answer = await self._caller.call("DescribeInstanceStatus", InstanceIds=[node_id])
        except (Ec2Refused, BackendError):
            return False  # running, as far as is known
        checks = [each for each in answer.get("InstanceStatuses", ()) if each.get("InstanceId") == node_id]
        return any(
            each.get(kind, {}).get("Status") == "impaired"
            for each in checks
            for kind in ("InstanceStatus", "SystemStatus")
        )

    async def take_from(self, volume: Volume, node_id: str) -> None:
        """See `TakesOver.take_from`; the volume is known to be one of the cluster's."""
        if not await self._detach_proven(volume, node_id, force=False):
            return
        if not await self._attachments.wait_detached(volume, node_id, self._limits.transition_s):
            await self._force(volume, node_id)

    async def _request_stop(self, node_id: str) -> None:
        try:
            await self._caller.call("StopInstances", within_s=PROOF_HOLDS_S, InstanceIds=[node_id])
        except Ec2Refused as refused:
            if refused.code != "IncorrectInstanceState":  # stopping already, or terminated
                raise translated(refused) from refused

    async def _detach_proven(self, volume: Volume, node_id: str, *, force: bool) -> bool:
        """Detach a volume from an instance, immediately after the proof that it is dead.

        Returns:
            Whether it was attached to it.
        """
        is_attached = await self._is_proven(volume, node_id)
        if is_attached:
            by_force = {"Force": True} if force else {}
            # Not later: the instance may have been started, and use the volume.
            await self._attachments.request_detach(volume, node_id, within_s=PROOF_HOLDS_S, **by_force)
        return is_attached

    def _evidence(self, node: Description, held: Ec2Volume) -> Evidence:
        return {
            "state": str(node["State"]["Name"]),
            "launch time": str(node.get("LaunchTime", "")),  # it changes with each start
            "state transition reason": str(node.get("StateTransitionReason", "")),  # often with the time
            "attachment state": held.status,
            "attach time": held.attach_time,  # each attachment has another one
            "device": held.device,
        }

    async def _force(self, volume: Volume, node_id: str) -> None:
        """Detach a volume by force that a stopped instance does not release, where that is allowed."""
        stuck = f"{volume.volume_id} has been detaching from {node_id} for {self._limits.transition_s:.0f} s"
        if not self._may_force:
            raise VolumeInUse(
                f"{stuck}, although it is stopped",
                "Detach it by force in EC2, or set force_detach = true",
                holder=node_id,
            )
        # Proven anew, with a pause of its own: the instance may have been started since the first proof, and
        # a detach by force removes the disk under its mounts.
        is_stuck = await self._detach_proven(volume, node_id, force=True)
        if is_stuck and not await self._attachments.wait_detached(volume, node_id, self._limits.transition_s):
            raise VolumeInUse(f"{stuck}, although it was detached by force", holder=node_id)


def _may_resume(instance: Description) -> bool:
    """Tell whether a stopped instance may resume from hibernation, with its mounts, instead of booting."""
    code = str(instance.get("StateReason", {}).get("Code", ""))
    return code == _HIBERNATED or code.startswith(_INTERRUPTED)


def _host_name(instance: Description) -> str:
    """Return the tag Name of an instance, else the host part of its DNS name unless that is its id."""
    label = str(instance.get("PrivateDnsName", "")).partition(".")[0]
    return as_mapping(instance).get("Name") or (label if label != instance.get("InstanceId") else "")


def _state_and_reason(instance: Description) -> tuple[str, str]:
    """Return an instance's state, and the reason in brackets."""
    reason = str(instance.get("StateTransitionReason", ""))
    return str(instance.get("State", {}).get("Name", "")), f" ({reason})" if reason else ""
