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
from dataclasses import asdict, dataclass
from typing import Final

from volplug.drivers.base import Holder
from volplug.drivers.cinder.attachments import ServerAttachments
from volplug.drivers.cinder.errors import OpenStackRefused, short, translated
from volplug.drivers.cinder.openstack import NOVA, Call, OpenStackCaller
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cinder.volumes import CinderVolume, CinderVolumes
from volplug.drivers.cloud.takeover import CloudTakeover, Description, Evidence, not_proven, unanswered
from volplug.errors import BackendError
from volplug.models import HolderState, Volume

_HOST_STATUS: Final = "2.16"  # the microversion with host_status
_DISABLED: Final = "MAINTENANCE"  # shown whether the compute service runs or not
_SHUTDOWN: Final = 4  # power_state: https://docs.openstack.org/api-guide/compute/server_concepts.html
# https://docs.openstack.org/api-guide/compute/server_concepts.html#server-status
_ALIVE: Final = frozenset(
    {"ACTIVE", "HARD_REBOOT", "MIGRATING", "PASSWORD", "REBOOT", "RESIZE", "REVERT_RESIZE", "VERIFY_RESIZE"}
)


@dataclass(frozen=True, slots=True)
class ServerReport:
    """One read of a server; all values are Nova's.

    Attributes:
        status: The server's status.
        task: What Nova is doing to it; empty if nothing.
        power: The power state that its compute host has reported.
        launched_at: When it was last launched.
        updated: When Nova last changed its record.
        host_status: Of its compute host; empty where Nova does not show it.
    """

    status: str
    task: str
    power: int
    launched_at: str
    updated: str
    host_status: str

    @property
    def is_off(self) -> bool:
        """Tell whether the server is shut off, and Nova is doing nothing to it."""
        return self.status == "SHUTOFF" and self.power == _SHUTDOWN and not self.task


def report_of(server: Description) -> ServerReport:
    """Return the report in the description of a server."""
    return ServerReport(
        status=str(server.get("status") or ""),
        task=str(server.get("OS-EXT-STS:task_state") or ""),
        power=int(server.get("OS-EXT-STS:power_state") or 0),
        launched_at=str(server.get("OS-SRV-USG:launched_at") or ""),
        updated=str(server.get("updated") or ""),
        host_status=str(server.get("host_status") or ""),
    )


def evidence_of(server: Description, held: CinderVolume) -> Evidence:
    """Return the facts of a server and of its attachment of a volume; each attachment has another id."""
    report = asdict(report_of(server))
    return {name.replace("_", " "): value for name, value in report.items()} | {
        "attachment": held.attachment_id
    }


def judged(report: ServerReport, server_id: str, host_name: str = "") -> Holder:
    """Judge a server by a report. Pure."""
    # Short: an error has room for 300 characters, holder and remedy included.
    seen = f"Nova reports {report.status}"
    if report.status in _ALIVE and report.host_status in {"", "UP", _DISABLED}:
        return Holder(HolderState.ALIVE, seen, _how_to_stop(server_id), host_name=host_name)
    if report.task:
        seen += f", {report.task}"
    if report.host_status not in {"", "UP", _DISABLED}:
        evidence = f"{seen}, but its compute host as {report.host_status}, so it may run on"
        return Holder(HolderState.UNKNOWN, evidence, _how_to_recover(server_id), host_name=host_name)
    if report.is_off and report.host_status == "UP":
        return Holder(HolderState.DEAD, f"{seen}, its compute host as up", host_name=host_name)
    if report.is_off:
        return Holder(HolderState.DEAD, f"{seen}; its detach is the proof", host_name=host_name)
    return Holder(HolderState.UNKNOWN, seen, _how_to_stop(server_id), host_name=host_name)


class ServerTakeover(CloudTakeover[CinderVolume]):
    """Takes volumes from dead servers."""

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
            if refused.is_missing_server:
                return unanswered("Nova has no such server in this project; its guest may run on")
            return unanswered(f"Nova does not report it: {short(refused.message)}")
        except BackendError as error:
            return unanswered(f"Nova does not report it: {error.cause}")
        server: Description = answer["server"]
        return judged(report_of(server), server_id, str(server.get("name") or "")), server

    async def take_from(self, volume: Volume, server_id: str) -> None:
        """See `TakesOver.take_from`; the volume is known to be one of the cluster's."""
        if not await self._is_proven(volume, server_id):
            return
        await self._request_detach(volume, server_id)
        limit_s = self._limits.transition_s
        if not await self._left(volume, server_id) or not await self._attachments.wait_forgotten(
            volume, server_id, limit_s
        ):
            evidence = f"its compute service has not detached it in {limit_s:.0f} s"
            raise not_proven(server_id, evidence, _how_to_recover(server_id))

    async def _request_detach(self, volume: Volume, server_id: str) -> None:
        try:
            await self._attachments.request_detach(volume, server_id)
        except OpenStackRefused as refused:
            if refused.mentions("Unable to detach volume"):
                return  # an earlier detach has not ended: its end is the proof as well
            if refused.status == 409:
                is_down = refused.mentions("Service is unavailable at this time")
                reason = short(refused.message)
                evidence = "its compute service is down" if is_down else f"Nova does not detach it: {reason}"
                raise not_proven(server_id, evidence, _how_to_recover(server_id)) from refused
            raise translated(refused) from refused

    async def _left(self, volume: Volume, server_id: str) -> bool:
        """Wait until Cinder has no attachment of the volume to the server; return False after the timeout."""
        left = await self._volumes.poll.until(
            volume.volume_id,
            lambda seen: None if seen is not None and seen.holder == server_id else True,
            self._limits.transition_s,
            at_once=True,
        )
        return bool(left)

    def _evidence(self, node: Description, held: CinderVolume) -> Evidence:
        return evidence_of(node, held)

    def _how_to_stop(self, node_id: str) -> str:
        return _how_to_stop(node_id)

    async def _request_stop(self, node_id: str) -> None:
        try:
            await self._caller.call(Call(NOVA, "POST", f"/servers/{node_id}/action", body={"os-stop": None}))
        except OpenStackRefused as refused:
            if not refused.mentions("vm_state stopped", "task_state powering-off"):
                raise translated(refused) from refused


def _how_to_stop(server_id: str) -> str:
    return f"run openstack server stop {server_id}"


def _how_to_recover(server_id: str) -> str:
    return f"once its host is off: openstack server evacuate {server_id}, as administrator"
