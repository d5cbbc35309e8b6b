"""Other servers: judges whether one is dead, takes volumes from dead ones, and stops one.

What Nova reports of a server is what its compute host last reported: of a host that is partitioned, a server
is SHUTOFF or deleted in the database while its guest may run on. So a takeover needs the compute host:

* With `host_status`, which Nova shows to administrators: SHUTOFF, and the compute service is up.
* Without it: the detach itself. The compute service carries it out, so its end is the proof; a detach that is
  refused or does not end proves nothing, and the volume is not taken.

A server in another state, or one that was deleted, is neither alive nor dead. Only Nova may detach:
since CVE-2023-2088 Cinder refuses to, even for administrators, as the guest could read another's volume.
https://security.openstack.org/ossa/OSSA-2023-003.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from volplug.drivers.base import Holder
from volplug.drivers.cinder.attachments import ServerAttachments
from volplug.drivers.cinder.errors import OpenStackRefused, short, translated
from volplug.drivers.cinder.openstack import NOVA, Call, OpenStackCaller
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cinder.volumes import CinderVolume, CinderVolumes
from volplug.drivers.cloud.takeover import CloudTakeover, Description, Evidence, not_proven, unanswered
from volplug.drivers.cloud.timeouts import PROOF_HOLDS_S
from volplug.errors import BackendError, VolumeInUse
from volplug.models import HolderState, Volume, VolumeState

_STOP: Final = "run openstack server stop {}"
_RECOVER: Final = "once its host is off: openstack server evacuate {}, as administrator"
# No evacuation: Cinder reserves no volume that is detaching.
_UNFINISHED: Final = "start its nova-compute, or once its host is off: openstack server delete {}"
_HOST_STATUS: Final = "2.16"  # the microversion with host_status
# "" is not shown; of MAINTENANCE it is not shown whether the compute service runs.
_NOT_DOWN: Final = frozenset({"", "UP", "MAINTENANCE"})
_SHUTDOWN: Final = 4  # power_state: https://docs.openstack.org/api-guide/compute/server_concepts.html
# What two reads have to agree in, by its name in errors and in Nova.
_EVIDENCE: Final = {
    "status": "status",
    "task": "OS-EXT-STS:task_state",
    "power": "OS-EXT-STS:power_state",
    "launched at": "OS-SRV-USG:launched_at",
    "updated": "updated",
    "host status": "host_status",
}
# https://docs.openstack.org/api-guide/compute/server_concepts.html#server-status
_ALIVE: Final = frozenset(
    {"ACTIVE", "HARD_REBOOT", "MIGRATING", "PASSWORD", "REBOOT", "RESIZE", "REVERT_RESIZE", "VERIFY_RESIZE"}
)


def judged(server: Description, server_id: str) -> Holder:
    """Judge a server by Nova's description of it. Pure."""
    status, host_name = str(server.get("status") or ""), str(server.get("name") or "")
    task, host = str(server.get("OS-EXT-STS:task_state") or ""), str(server.get("host_status") or "")
    # Short: an error has room for 300 characters, holder and remedy included.
    seen = f"Nova reports {status}"
    if status in _ALIVE and host in _NOT_DOWN:
        return Holder(HolderState.ALIVE, seen, _STOP.format(server_id), host_name=host_name)
    if task:
        seen += f", {task}"
    if host not in _NOT_DOWN:
        evidence = f"{seen}, but its compute host as {host}, so it may run on"
        return Holder(HolderState.UNKNOWN, evidence, _RECOVER.format(server_id), host_name=host_name)
    if status == "SHUTOFF" and server.get("OS-EXT-STS:power_state") == _SHUTDOWN and not task:
        proof = ", its compute host as up" if host == "UP" else "; its detach is the proof"
        return Holder(HolderState.DEAD, f"{seen}{proof}", host_name=host_name)
    return Holder(HolderState.UNKNOWN, seen, _STOP.format(server_id), host_name=host_name)


class ServerTakeover(CloudTakeover[CinderVolume]):
    """Takes volumes from dead servers."""

    _STOP = _STOP

    def __init__(
        self,
        caller: OpenStackCaller,
        volumes: CinderVolumes,
        attachments: ServerAttachments,
        limits: CinderTimeouts,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(volumes, limits, sleep)
        self._caller = caller
        self._attachments = attachments

    async def _ask(self, server_id: str) -> tuple[Holder, Description]:
        """Return what is known of a server, and Nova's description, empty where there is none."""
        try:
            answer = await self._caller.call(
                Call(NOVA, "GET", f"/servers/{server_id}", microversion=_HOST_STATUS, expects="server")
            )
        except OpenStackRefused as refused:
            if refused.is_missing:
                return unanswered("Nova has no such server in this project; its guest may run on")
            return unanswered(f"Nova does not report it: {short(refused.message)}")
        except BackendError as error:
            return unanswered(f"Nova does not report it: {error.cause}")
        return judged(answer["server"], server_id), answer["server"]

    async def take_from(self, volume: Volume, server_id: str) -> None:
        """See `TakesOver.take_from`; the volume is known to be one of the cluster's."""
        if not await self._is_proven(volume, server_id):
            return
        await self._request_detach(volume, server_id)
        limit_s = self._limits.transition_s
        if not await self._attachments.wait_detached(volume, server_id, limit_s):
            evidence = f"its compute service has not detached it in {limit_s:.0f} s"
            raise await self._not_carried_out(volume, server_id, evidence)
        # Nova forgets an attachment after Cinder; one that Cinder still has is not Nova's.
        left = await self._volumes.by_id(volume.volume_id)
        if left is not None and left.holder == server_id:
            raise VolumeInUse(
                f"Cinder has it attached to {server_id}, Nova has not",
                f"If that is so: openstack volume attachment delete {left.attachment_id}",
                holder=server_id,
            )

    async def _request_detach(self, volume: Volume, server_id: str) -> None:
        try:
            # Not later: the server may have been started, and use the volume.
            await self._attachments.request_detach(volume, server_id, within_s=PROOF_HOLDS_S)
        except OpenStackRefused as refused:
            if refused.is_detaching:
                return  # an earlier detach has not ended: its end is the proof as well
            if refused.mentions("Service is unavailable at this time"):
                evidence = "its compute service is down"
                raise await self._not_carried_out(volume, server_id, evidence) from refused
            why = translated(refused)
            if refused.status == 409:
                why = not_proven(server_id, why.cause, why.remedy)
            raise why from refused

    async def _not_carried_out(self, volume: Volume, server_id: str, evidence: str) -> VolumeInUse:
        seen = await self._volumes.by_id(volume.volume_id)
        is_detaching = seen is not None and seen.state is VolumeState.DETACHING
        return not_proven(server_id, evidence, (_UNFINISHED if is_detaching else _RECOVER).format(server_id))

    def _evidence(self, node: Description, held: CinderVolume) -> Evidence:
        facts: dict[str, object] = {fact: node.get(name) for fact, name in _EVIDENCE.items()}
        return facts | {"attachment": held.attachment_id}  # each attachment has another one

    async def _request_stop(self, node_id: str) -> None:
        path, body = f"/servers/{node_id}/action", {"os-stop": None}
        try:
            await self._caller.call(Call(NOVA, "POST", path, body=body, within_s=PROOF_HOLDS_S))
        except OpenStackRefused as refused:
            if not refused.mentions("vm_state stopped", "task_state powering-off"):
                raise translated(refused) from refused
