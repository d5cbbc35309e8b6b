"""Reads volumes from Cinder: parses descriptions, and looks volumes up by name, by id, or all of a cluster.

Look-ups stay within the cluster and are filtered by Cinder, whose filters ignore case, and which an operator
can switch off: so everything is checked again. Reads come from one database, and are taken for current; only
what this process deleted within the last minute stays deleted.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qs, urlsplit

from volplug.drivers.cinder import timeouts
from volplug.drivers.cinder.errors import OpenStackRefused, translated
from volplug.drivers.cinder.openstack import CINDER, Call, OpenStackCaller, answered, shown
from volplug.drivers.cinder.options import ATTACHED, TOKEN
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cloud.tags import CLUSTER, NAME
from volplug.drivers.cloud.timeouts import PAGE, VOLUMES_KNOWN
from volplug.drivers.cloud.volumes import CloudVolume, CloudVolumes, Description, described, details_of
from volplug.errors import BackendError
from volplug.models import FilesystemPhase, Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB

# With "error_deleting", which a superfluous volume is left in if its storage fails.
_UNUSED: Final = frozenset({"creating", "available", "error", "error_deleting"})
_TRANSITIONS: Final = frozenset({VolumeState.CREATING, VolumeState.DETACHING, VolumeState.DELETING})

# Those of `_STATES` that end without a further call.
_STATES_THAT_END: Final = _TRANSITIONS | {VolumeState.ATTACHING}

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# What is shown besides, by Cinder's names; tenants do not see the quality of service.
DETAILS: Final = {"volume_type": "type", "encrypted": "encrypted", "availability_zone": "zone"}

# Statuses: https://docs.openstack.org/api-ref/block-storage/v3/#volumes-volumes
_STATES: Final = MappingProxyType(
    {
        "creating": VolumeState.CREATING,
        "downloading": VolumeState.CREATING,
        "available": VolumeState.AVAILABLE,
        "reserved": VolumeState.ATTACHING,
        "attaching": VolumeState.ATTACHING,
        "in-use": VolumeState.DETACHING,  # its attachment has ended a moment earlier
        "detaching": VolumeState.DETACHING,
        "deleting": VolumeState.DELETING,
    }
)
# With an attachment, work of Cinder's that leaves the volume in use.
_IN_USE: Final = frozenset(
    {"in-use", "extending", "retyping", "backing-up", "uploading", "reserved", "attaching"}
)
# Without one, work that ends, but is neither of this host nor waited for.
WORKING: Final = frozenset(
    {
        "awaiting-transfer",
        "backing-up",
        "extending",
        "maintenance",
        "managing",
        "restoring-backup",
        "retyping",
        "unmanaging",
        "uploading",
    }
)
_FAILED: Final = MappingProxyType(
    {
        "available": "Cinder has it attached, but calls it available",
        "error": "Cinder could not create it, or its administrator has set this",
        "error_backing-up": "a backup of it has failed",
        "error_deleting": "Cinder could not delete it",
        "error_extending": "Cinder could not extend it",
        "error_managing": "Cinder could not take it over",
        "error_restoring": "Cinder could not restore a backup to it, so its contents are incomplete",
    }
)


@dataclass(frozen=True, slots=True)
class CinderVolume(CloudVolume):
    """A volume as Cinder describes it.

    Attributes:
        volume_type: Its type.
        token: Of the creation that made it, or "".
        attachment_id: Of its attachment, or ""; each attachment has another one.
        is_encrypted: Whether the compute host encrypts it, so that a new volume reads as random data.
        is_shareable: Whether several servers may attach it at once.
        was_attached: Whether it is noted to have been attached; noted only for volumes with blank=unverified.
    """

    volume_type: str = ""
    token: str = ""
    attachment_id: str = ""
    is_encrypted: bool = False
    is_shareable: bool = False
    was_attached: bool = False

    @property
    def is_transitional(self) -> bool:
        """Tell whether its state ends automatically; of an attach Cinder names the server only at its end."""
        return self.state in _TRANSITIONS or (self.state is VolumeState.ATTACHING and not self.holder)

    @property
    def is_untouched(self) -> bool:
        """Tell whether the volume was, as far as it shows, never attached."""
        is_pending = self.volume.filesystem.phase is FilesystemPhase.PENDING
        is_detached = not self.holder and self.status in _UNUSED
        return is_pending and is_detached and not self.was_attached


def read_volume(description: Description, backend: str) -> CinderVolume:
    """Parse a volume of a response."""
    metadata = _metadata(description)
    attachments = [each for each in description.get("attachments") or () if isinstance(each, Mapping)]
    attachment = attachments[0] if attachments else {}
    status, volume_id = str(description.get("status", "")), str(description["id"])
    # A server that is being migrated has two attachments for a while.
    holders = {str(each.get("server_id")) for each in attachments}
    state, detail = _state_of(description, status, len(holders))
    size_bytes = int(description.get("size") or 0) * GIB
    volume = Volume(
        name="",
        volume_id=volume_id,
        backend=backend,
        size_bytes=size_bytes,
        state=state,
        spec=VolumeSpec("", size_bytes),
        created_at=_time_of(description.get("created_at")),
        holder=str(attachment.get("server_id") or "") or None,
        detail=detail,
        details=details_of(description, DETAILS),
    )
    return CinderVolume(
        described(volume, metadata, "metadata"),
        status=status,
        since=_time_of(description.get("updated_at")) if state in _STATES_THAT_END else None,
        volume_type=str(description.get("volume_type") or ""),
        token=metadata.get(TOKEN, ""),
        attachment_id=str(attachment.get("attachment_id") or ""),
        is_encrypted=bool(description.get("encrypted")),
        is_shareable=bool(description.get("multiattach")),
        was_attached=ATTACHED in metadata,
    )


def _state_of(description: Description, status: str, holders: int) -> tuple[VolumeState, str]:
    """Return the state of a volume, and the reason for an error; `holders` is how many servers have it."""
    if status == "deleting":
        return VolumeState.DELETING, ""
    if holders > 1 or description.get("multiattach"):
        return VolumeState.ERROR, "it can be attached to several servers at once, which is not supported"
    if str(description.get("bootable", "")).lower() == "true":
        return VolumeState.ERROR, "it is a bootable volume, which volplug does not mount"
    if holders and status in _IN_USE:
        return VolumeState.IN_USE, ""
    if status in _STATES and not (holders and status == "available"):  # an administrator has set that
        return _STATES[status], ""
    if status in WORKING:
        return VolumeState.ERROR, f"Cinder is not done with it ({status}); it can be used once that has ended"
    why = _FAILED.get(status, f"Cinder calls its status {status!r}")
    to = "in-use" if holders else "available"
    repair = f"openstack volume set --state {to} {description['id']}"
    return VolumeState.ERROR, f"{why}; if it is sound: {repair}"


def _metadata(description: Description) -> dict[str, str]:
    found = description.get("metadata")
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


def _time_of(text: object) -> datetime | None:
    """Return a time; Cinder's are in UTC, without saying so."""
    try:
        return datetime.fromisoformat(str(text)).replace(tzinfo=UTC, microsecond=0)
    except ValueError:
        return None


class CinderVolumes(CloudVolumes[CinderVolume]):
    """The volumes of one cluster in Cinder."""

    def __init__(
        self,
        caller: OpenStackCaller,
        cluster: str,
        backend: str,
        limits: CinderTimeouts,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(cluster, limits, clock, VOLUMES_KNOWN, CinderVolume)
        self._caller = caller
        self._backend = backend

    def _parse(self, description: Description) -> CinderVolume:
        return read_volume(description, self._backend)

    def _tags_in(self, description: Description) -> Mapping[str, str]:
        return _metadata(description)

    async def all(self) -> list[CinderVolume]:
        """Return all volumes of the cluster."""
        return await self._listed({CLUSTER: self.cluster})

    async def by_id(self, volume_id: str) -> CinderVolume | None:
        """See `CloudVolumes.by_id`."""
        if _ID.fullmatch(volume_id) is None:
            return None
        found = await shown(self._caller, CINDER, f"/volumes/{volume_id}", "volume")
        return self.read(found) if found is not None and self._is_ours(found) else None

    async def by_ids(self, volume_ids: Collection[str]) -> dict[str, CinderVolume]:
        """See `CloudVolumes.by_ids`."""
        if len(volume_ids) <= timeouts.FEW:
            read = await asyncio.gather(*map(self.by_id, volume_ids))
            found = [each for each in read if each is not None]
        else:
            found = await self.all()
        return {each.volume_id: each for each in found if each.volume_id in volume_ids}

    async def write_tags(self, volume_id: str, tags: Mapping[str, str]) -> None:
        """See `CloudVolumes.write_tags`."""
        path, body = f"/volumes/{volume_id}/metadata", {"metadata": tags}
        await answered(self._caller, Call(CINDER, "POST", path, body=body, expects="metadata"))

    async def _named(self, names: Collection[str]) -> list[CinderVolume]:
        if len(names) > timeouts.FEW:
            return await self.all()
        parts = [self._listed({CLUSTER: self.cluster, NAME: name}) for name in names]
        return [each for part in await asyncio.gather(*parts) for each in part]

    async def _listed(self, metadata: Mapping[str, str]) -> list[CinderVolume]:
        """Read all pages; if the volume that ends a page is gone before the next one is read, begin anew."""
        for _ in range(timeouts.LISTS):
            found: dict[str, Description] = {}
            marker = ""
            try:
                while True:
                    page, marker = await self._page(metadata, marker)
                    found |= {str(each["id"]): each for each in page}
                    if not marker:
                        return self._existing(found.values())
            except OpenStackRefused as refused:
                if not marker or refused.status not in {400, 404}:
                    raise translated(refused) from refused
        raise BackendError("volumes are deleted faster than they can be listed", "Try again")

    async def _page(self, metadata: Mapping[str, str], marker: str) -> tuple[Sequence[Description], str]:
        """Return a page and where the next one begins, "" for the last one."""
        query = {"metadata": repr(dict(metadata)), "limit": str(PAGE)}  # Cinder reads a literal of Python
        query |= {"marker": marker} if marker else {}
        answer = await self._caller.call(Call(CINDER, "GET", "/volumes/detail", query, expects="volumes"))
        # Of the link only the marker: behind a proxy the rest may be wrong.
        links = [str(each["href"]) for each in answer.get("volumes_links") or () if each.get("rel") == "next"]
        following = parse_qs(urlsplit(links[0]).query).get("marker", [""])[0] if links else ""
        return answer["volumes"], following
