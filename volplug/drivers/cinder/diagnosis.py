"""Diagnosis of a Cinder backend. OpenStack has no dry runs: what may be read is read.

What may be changed is judged by the roles of the token, as by the policies that services have by default:
https://docs.openstack.org/cinder/latest/configuration/block-storage/policy.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from shlex import quote
from typing import Final, Protocol

from volplug.drivers.base import failed_check
from volplug.drivers.cinder.creation import MESSAGES, chosen_of
from volplug.drivers.cinder.openstack import CINDER, NOVA, Call, OpenStackCaller, Token, answered
from volplug.drivers.cinder.quota import read_quota
from volplug.drivers.cinder.server import ThisServer
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cinder.volumes import WORKING, CinderVolume, CinderVolumes
from volplug.drivers.cloud.diagnosis import CloudDiagnosis
from volplug.drivers.cloud.identity import CloudNode
from volplug.drivers.cloud.service_clock import ServiceClock
from volplug.errors import DuplicateVolumes, VolplugError
from volplug.findings import Finding, Level
from volplug.models import VolumeState

_CHANGE: Final = frozenset({"member", "manager", "admin"})  # roles that may change volumes, by default
_ADMIN: Final = "admin"
_CHANGES: Final = (
    *("volume:create", "volume:delete", "volume:create_volume_metadata", "volume:update_volume_metadata"),
    *("os_compute_api:os-volumes-attachments:create", "os_compute_api:os-volumes-attachments:delete"),
)


class OpenStackAccount(Protocol):
    """Whose calls the services get; see `volplug.drivers.cinder.openstack.OpenStack`."""

    clock: ServiceClock

    async def token(self) -> Token:
        """Return what Keystone says of the token that calls are made with."""
        ...


class CinderDiagnosis(CloudDiagnosis[CinderVolume, CloudNode]):
    """Diagnoses a backend."""

    _CLOUD = "OpenStack"
    _SHOW_NODE = "openstack server show {}"

    def __init__(
        self,
        caller: OpenStackCaller,
        account: OpenStackAccount,
        host: ThisServer,
        volumes: CinderVolumes,
        limits: CinderTimeouts,
    ) -> None:
        longest_s = {
            VolumeState.CREATING: limits.create_s,
            VolumeState.ATTACHING: limits.attaching_s,
            VolumeState.DETACHING: limits.detach_s,
            VolumeState.DELETING: limits.delete_s,
        }
        super().__init__(volumes, account.clock, longest_s)
        self._caller = caller
        self._keystone = account
        self._host = host

    async def _of_metadata(self, backend: str) -> Sequence[Finding]:
        if sources := await self._host.sources():
            found = f"a server is named by {', '.join(sources)}"
            return [Finding("metadata-service", Level.GREEN, backend, found)]
        cause = "neither firmware, config drive nor metadata service name a server"
        remedy = "Set server_id to what openstack server list shows for this host"
        return [Finding("metadata-service", Level.RED, backend, cause, remedy)]

    async def _account(self) -> str:
        token = await self._keystone.token()
        who = f"user {token.user} of project {token.project} as {', '.join(token.roles)}"
        return f"Keystone accepts {who}, this token until {token.expires_at:%Y-%m-%d %H:%M} UTC"

    # Permissions, quota, services

    async def _permissions(
        self, backend: str, node: CloudNode, seen: Sequence[CinderVolume]
    ) -> Sequence[Finding]:
        token = await self._keystone.token()
        attachments = f"/servers/{node.node_id}/os-volume_attachments"
        denied, quota, services = await asyncio.gather(
            self._denied(
                backend,
                (Call(CINDER, "GET", "/volumes/detail", {"limit": "1"}), Level.RED),
                (Call(CINDER, "GET", "/os-availability-zone"), Level.RED),
                (Call(NOVA, "GET", attachments), Level.RED),
                # Only for why a creation has failed.
                (Call(CINDER, "GET", "/messages", {"limit": "1"}, microversion=MESSAGES), Level.YELLOW),
            ),
            self._quota(backend),
            self._services(backend, token),
        )
        return [*denied, *self._judge_roles(backend, token, is_denied=bool(denied)), *quota, *services]

    async def _denied(self, backend: str, *reads: tuple[Call, Level]) -> list[Finding]:
        async def tried(read: Call, level: Level) -> Finding | None:
            try:
                await answered(self._caller, read)
            except VolplugError as error:
                return failed_check("permissions", backend, error, level)
            return None

        found = await asyncio.gather(*(tried(read, level) for read, level in reads))
        return [each for each in found if each is not None]

    def _judge_roles(self, backend: str, token: Token, *, is_denied: bool) -> list[Finding]:
        """Judge what cannot be tried without a change."""
        if not _CHANGE & set(token.roles):
            cause = (
                f"as {', '.join(token.roles)}, user {token.user} may change no volumes by default policies"
            )
            who = f"--user {quote(token.user)} --project {quote(token.project)}"
            remedy = f"Unless policies differ, as administrator: openstack role add {who} member"
            return [Finding("permissions", Level.YELLOW, backend, cause, remedy)]
        if is_denied:
            return []
        cause = f"all reads are permitted; not tried, as they are changes: {', '.join(_CHANGES)}"
        return [Finding("permissions", Level.GREEN, backend, cause)]

    async def _quota(self, backend: str) -> list[Finding]:
        try:
            limits = await read_quota(self._caller)
        except VolplugError as error:
            return [failed_check("quota", backend, error, Level.YELLOW)]
        full = [each for each in limits if each.maximum is not None and each.used >= each.maximum]
        remedy = "Delete volumes, or have the quota raised: openstack quota set"
        return [
            Finding("quota", Level.YELLOW, backend, f"the project's quota of {each.name} is used up", remedy)
            for each in full
        ] or [Finding("quota", Level.GREEN, backend, "the project's quota has room for volumes")]

    async def _services(self, backend: str, token: Token) -> list[Finding]:
        """Check the services of Cinder and Nova, which are shown to administrators."""
        if _ADMIN not in token.roles:
            hidden = "which services of Cinder and Nova are down is shown to administrators only"
            return [Finding("services", Level.GREEN, backend, hidden)]
        found: list[Finding] = []
        for service, kind in ((CINDER, "volume"), (NOVA, "compute")):
            try:
                shown = await answered(self._caller, Call(service, "GET", "/os-services", expects="services"))
            except VolplugError as error:
                found.append(failed_check("services", backend, error, Level.YELLOW))
                continue
            for each in (each for each in shown["services"] if each.get("state") == "down"):
                cause = f"{each.get('binary')} on {each.get('host')} is down, by what {service} reports"
                remedy = f"Start it there, and see its log; openstack {kind} service list shows all"
                found.append(Finding("services", Level.YELLOW, backend, cause, remedy))
        return found or [Finding("services", Level.GREEN, backend, "all services of Cinder and Nova are up")]

    # Volumes

    def _repair(self, seen: CinderVolume) -> str:
        set_state = f"openstack volume set --state {{}} {seen.volume_id}"
        if seen.state is VolumeState.CREATING:
            delete = f"openstack volume delete {seen.volume_id}"
            return (
                f"See the log of cinder-volume; as administrator: {set_state.format('error')}, then {delete}"
            )
        if seen.state is VolumeState.DELETING:
            delete = f"openstack volume delete --force {seen.volume_id}"
            return (
                f"See the log of cinder-volume; as administrator: {set_state.format('error')}, then {delete}"
            )
        if seen.holder:
            to = set_state.format("in-use")
            return f"Start nova-compute on the host of {seen.holder}; else as administrator: {to}"
        to = set_state.format("available")
        return f"If no server has it (openstack volume show {seen.volume_id}), as administrator: {to}"

    def _duplicates(self, found: Sequence[CinderVolume]) -> tuple[Level, str]:
        try:
            chosen = chosen_of(found)
        except DuplicateVolumes:
            rename = "openstack volume set --property volplug:name=OTHER-NAME ID"
            return (
                Level.RED,
                f"Delete the one without your data: openstack volume delete ID; or rename: {rename}",
            )
        spare = [each.volume_id for each in found if each != chosen]
        delete = f"openstack volume delete {' '.join(spare)}"
        return Level.YELLOW, f"Of concurrent creations; delete what was never attached: {delete}"

    def _of_error(self, seen: CinderVolume) -> tuple[Level, str, str]:
        cause, _, repair = seen.volume.detail.partition("; if it is sound: ")
        if seen.status in WORKING:
            return Level.YELLOW, cause, "Wait until that has ended"
        show = f"openstack volume show {seen.volume_id}"
        return Level.RED, cause, f"If it is sound: {repair}" if repair else f"Correct it; {show} shows it"
