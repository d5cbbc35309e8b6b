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
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from volplug.drivers.cinder import timeouts
from volplug.drivers.cinder.errors import OpenStackRefused, translated
from volplug.drivers.cinder.metadata import ATTACHED, TOKEN
from volplug.drivers.cinder.openstack import CINDER, Call, OpenStackCaller, answered, shown
from volplug.drivers.cinder.statuses import state_of
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cloud.tags import CLUSTER, NAME
from volplug.drivers.cloud.timeouts import PAGE, VOLUMES_KNOWN
from volplug.drivers.cloud.volumes import CloudVolume, CloudVolumes, described, details_of
from volplug.errors import BackendError
from volplug.models import FilesystemPhase, Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB

# With "error_deleting", which a superfluous volume is left in if its storage fails.
_UNUSED: Final = frozenset({"creating", "available", "error", "error_deleting"})
_TRANSITIONS: Final = frozenset({VolumeState.CREATING, VolumeState.DETACHING, VolumeState.DELETING})

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# What is shown besides, by Cinder's names; tenants do not see the quality of service.
DETAILS: Final = {"volume_type": "type", "encrypted": "encrypted", "availability_zone": "zone"}

CinderDescription = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CinderVolume(CloudVolume):
    """A volume as Cinder describes it.

    Attributes:
        status: Its status, as Cinder names it.
        volume_type: Its type.
        token: Of the creation that made it, or "".
        attachment_id: Of its attachment, or ""; each attachment has another one.
        is_encrypted: Whether the compute host encrypts it, so that a new volume reads as random data.
        is_shareable: Whether several servers may attach it at once.
        was_attached: Whether it is noted to have been attached; noted only for volumes with blank=unverified.
    """

    status: str = ""
    volume_type: str = ""
    token: str = ""
    attachment_id: str = ""
    is_encrypted: bool = False
    is_shareable: bool = False
    was_attached: bool = False

    @property
    def is_transitional(self) -> bool:
        """Tell whether it is in a state that ends; of an attach Cinder names the server only at its end."""
        return self.state in _TRANSITIONS or (self.state is VolumeState.ATTACHING and not self.holder)

    @property
    def is_untouched(self) -> bool:
        """Tell whether the volume was, as far as it shows, never attached."""
        is_pending = self.volume.filesystem.phase is FilesystemPhase.PENDING
        is_detached = not self.holder and self.status in _UNUSED
        return is_pending and is_detached and not self.was_attached


def is_volume_id(text: str) -> bool:
    """Tell whether a text has the form of Cinder's ids."""
    return _ID.fullmatch(text) is not None


def read_volume(description: CinderDescription, backend: str) -> CinderVolume:
    """Parse a volume of a response.

    A volume whose metadata is malformed or fails a check is in state ERROR, with the reason: it must not
    break the list of all others.

    Args:
        description: Cinder's item.
        backend: Name of the configured backend.
    """
    metadata = _metadata(description)
    attachments = [each for each in description.get("attachments") or () if isinstance(each, Mapping)]
    attachment = attachments[0] if attachments else {}
    status, volume_id = str(description.get("status", "")), str(description["id"])
    is_shareable = bool(description.get("multiattach"))
    state, detail = state_of(
        status,
        volume_id,
        # A server that is being migrated has two attachments for a while.
        holders=len({str(each.get("server_id")) for each in attachments}),
        is_shareable=is_shareable,
        is_bootable=str(description.get("bootable", "")).lower() == "true",
    )
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
        zone=str(description.get("availability_zone") or ""),
        status=status,
        volume_type=str(description.get("volume_type") or ""),
        token=metadata.get(TOKEN, ""),
        attachment_id=str(attachment.get("attachment_id") or ""),
        is_encrypted=bool(description.get("encrypted")),
        is_shareable=is_shareable,
        was_attached=ATTACHED in metadata,
    )


def _metadata(description: CinderDescription) -> dict[str, str]:
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
        super().__init__(cluster, limits, clock, VOLUMES_KNOWN)
        self._caller = caller
        self._backend = backend

    async def all(self) -> list[CinderVolume]:
        """Return all volumes of the cluster."""
        return await self._listed({CLUSTER: self.cluster})

    async def by_id(self, volume_id: str) -> CinderVolume | None:
        """See `CloudVolumes.by_id`."""
        if not is_volume_id(volume_id):
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

    async def wait_settled(self, volume_id: str, timeout_s: float) -> CinderVolume | None:
        """Wait until a volume is in no transition; return None after the timeout, or once it is gone."""

        def settled(seen: CinderVolume | None) -> CinderVolume | bool | None:
            if seen is None:
                return False
            return None if seen.is_transitional else seen

        found = await self.poll.until(volume_id, settled, timeout_s)
        return found if isinstance(found, CinderVolume) else None

    async def wait_gone(self, volume_id: str, timeout_s: float) -> CinderVolume | bool | None:
        """Wait until a volume is gone; return True, or the volume if that failed, None after the timeout."""

        def gone(seen: CinderVolume | None) -> CinderVolume | bool | None:
            if seen is None:
                return True
            return None if seen.state is VolumeState.DELETING else seen

        return await self.poll.until(volume_id, gone, timeout_s, at_once=True)

    async def write_metadata(self, volume_id: str, metadata: Mapping[str, str]) -> None:
        """Write metadata of a volume, in one call; what else it has stays.

        Raises:
            VolumeNotFound: If it does not exist.
            BackendUnavailable: If Cinder does not confirm it.
        """
        path, body = f"/volumes/{volume_id}/metadata", {"metadata": metadata}
        await answered(self._caller, Call(CINDER, "POST", path, body=body, expects="metadata"))

    def read(self, description: CinderDescription) -> CinderVolume:
        """Parse the description of a volume of the cluster, and remember that it is one."""
        return self._note(read_volume(description, self._backend))

    async def _named(self, names: Collection[str]) -> list[CinderVolume]:
        if len(names) > timeouts.FEW:
            return await self.all()
        parts = [self._listed({CLUSTER: self.cluster, NAME: name}) for name in names]
        return [each for part in await asyncio.gather(*parts) for each in part]

    async def _listed(self, metadata: Mapping[str, str]) -> list[CinderVolume]:
        found = await self._pages(metadata)
        return self._without_deleted([self.read(each) for each in found if self._is_ours(each)])

    def _is_ours(self, description: CinderDescription) -> bool:
        return _metadata(description).get(CLUSTER) == self.cluster

    async def _pages(self, metadata: Mapping[str, str]) -> list[CinderDescription]:
        """Read all pages; if the volume that ends a page is gone before the next one is read, begin anew."""
        for _ in range(timeouts.LISTS):
            found: dict[str, CinderDescription] = {}
            marker = ""
            while True:
                try:
                    page, marker = await self._page(metadata, marker)
                except OpenStackRefused as refused:
                    if marker and refused.status in {400, 404}:
                        break
                    raise translated(refused) from refused
                found |= {str(each["id"]): each for each in page}
                if not marker:
                    return list(found.values())
        raise BackendError("volumes are deleted faster than they can be listed", "Try again")

    async def _page(
        self, metadata: Mapping[str, str], marker: str
    ) -> tuple[Sequence[CinderDescription], str]:
        """Return a page and where the next one begins, "" for the last one."""
        query = {
            "metadata": repr(dict(metadata)),  # Cinder reads a literal of Python
            "limit": str(PAGE),
            **({"marker": marker} if marker else {}),
        }
        answer = await self._caller.call(Call(CINDER, "GET", "/volumes/detail", query, expects="volumes"))
        links = [each for each in answer.get("volumes_links") or () if each.get("rel") == "next"]
        # Of the link only the marker: behind a proxy the rest may be wrong.
        following = parse_qs(urlsplit(str(links[0]["href"])).query).get("marker", [""])[0] if links else ""
        return answer["volumes"], following
