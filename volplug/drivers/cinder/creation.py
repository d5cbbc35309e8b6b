"""Creates volumes: a note, one request with all metadata, and a choice if several hosts were at it.

Cinder's creations are not idempotent, and its names not unique. The metadata carries a token that this host
has noted, so that after a lost answer or a crash it finds its own volume again. Hosts that create one name at
once each make a volume; each lists the name afterwards, all choose the same one, and the others delete their
own. A list may be too early to show another host's volume, so a volume is chosen once more before it is first
attached, and not before `race_s` after this host has created it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

import structlog
from cachetools import LRUCache

from volplug.drivers.cinder.errors import OpenStackRefused, creation_failed, translated
from volplug.drivers.cinder.notes import CreationNote, CreationNotes
from volplug.drivers.cinder.openstack import CINDER, Call, OpenStackCaller, answered
from volplug.drivers.cinder.options import ATTACHED, create_body, is_unverified, metadata_of, user_metadata
from volplug.drivers.cinder.settings import CinderSettings
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cinder.volumes import CinderVolume, CinderVolumes
from volplug.drivers.cloud.batching import Batcher
from volplug.drivers.cloud.timeouts import COLLECT_S, PROOF_HOLDS_S, VOLUMES_KNOWN
from volplug.drivers.cloud.volumes import duplicate_volumes, no_volume
from volplug.errors import (
    BackendError,
    BackendUnavailable,
    OperationTimeout,
    Unsupported,
    VolplugError,
    VolumeExists,
    VolumeInUse,
)
from volplug.models import FilesystemPhase, Volume, VolumeSpec, VolumeState

_LOG = structlog.get_logger(__name__)
MESSAGES: Final = "3.5"  # the microversion with the messages API


class CinderCreator:
    """Creates volumes, and makes sure before a volume is first attached that it is the one of its name."""

    def __init__(
        self,
        caller: OpenStackCaller,
        volumes: CinderVolumes,
        notes: CreationNotes,
        settings: CinderSettings,
        limits: CinderTimeouts,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._caller = caller
        self._volumes = volumes
        self._notes = notes
        self._settings = settings
        self._limits = limits
        self._sleep = sleep
        self._created_s: LRUCache[str, float] = LRUCache(VOLUMES_KNOWN)  # by volume id
        self._zones: frozenset[str] | None = None
        # Creations that come together ask once.
        self._zone_reads = Batcher(self._read_zones, COLLECT_S, 1)

    # Creating

    async def create(self, spec: VolumeSpec, server_zone: str) -> Volume:
        """See `Driver.create`; the spec was checked."""
        note = await self._notes.find(spec.name)
        found = [] if self._volumes.was_absent(spec.name) else await self._volumes.by_name(spec.name)
        begun = chosen_of(found)
        is_own = begun is not None and note is not None and begun.token == note.token and not note.volume_id
        if begun is None or (is_own and begun.state is VolumeState.DELETING):
            note, begun = await self._request(spec, await self._zone(server_zone), is_first=note is None)
        elif not (is_own and begun.is_untouched and begun.volume.spec == spec):
            raise VolumeExists(f"{begun.volume_id} has this name")
        settled = await self._settled(begun)
        chosen = await self._choose(spec.name, note, self._limits.delete_s)
        if chosen is None:
            raise BackendUnavailable(
                f"Cinder does not list {settled.volume_id}, which it has made", "Try again"
            )
        if chosen.volume_id != settled.volume_id:
            raise VolumeExists(
                f"{chosen.volume_id} has this name, another host has created it at the same time"
            )
        await self._refuse_unsuitable(chosen)
        await self._notes.succeeded(spec.name, chosen.volume_id)
        return chosen.volume

    async def _request(
        self, spec: VolumeSpec, zone: str, *, is_first: bool
    ) -> tuple[CreationNote, CinderVolume]:
        """Request a volume, and return it with the note of its token."""
        token = await self._notes.begin(spec.name)
        metadata = metadata_of(
            spec, self._volumes.cluster, user_metadata(spec, self._settings.metadata), token
        )
        body = {"volume": {**create_body(spec, self._settings, zone), "metadata": metadata}}
        try:
            answer = await self._caller.call(
                Call(CINDER, "POST", "/volumes", body=body, is_repeatable=False, expects="volume")
            )
        except OpenStackRefused as refused:
            if is_first:
                await self._notes.drop(spec.name)
            raise translated(refused) from refused
        except BackendUnavailable as lost:
            return CreationNote(token), await self._requested(spec.name, token, lost)
        made = self._volumes.read(answer["volume"])
        self._created_s[made.volume_id] = asyncio.get_running_loop().time()
        return CreationNote(token), made

    async def _requested(self, name: str, token: str, lost: BackendUnavailable) -> CinderVolume:
        """Return the volume of a request whose answer was lost.

        Raises:
            BackendUnavailable: If it does not show; a retry finds it, or requests it again.
        """
        with contextlib.suppress(BackendUnavailable):
            for each in await self._volumes.by_name(name):
                if each.token == token:
                    return each
        cause = f"it is unknown whether the volume was created: {lost.cause}"
        raise BackendUnavailable(cause, lost.remedy or "Try again") from lost

    async def _zone(self, server_zone: str) -> str:
        """Return the zone for new volumes: this server's if Cinder has it, which is asked once."""
        if self._settings.availability_zone or not server_zone:
            return self._settings.availability_zone
        if self._zones is None:
            self._zones = await self._zone_reads.ask("")
        return server_zone if server_zone in self._zones else ""

    async def _read_zones(self, keys: Collection[str]) -> Mapping[str, frozenset[str]]:
        call = Call(CINDER, "GET", "/os-availability-zone", expects="availabilityZoneInfo")
        answer = await answered(self._caller, call)
        zones = frozenset(str(each.get("zoneName")) for each in answer["availabilityZoneInfo"])
        return dict.fromkeys(keys, zones)

    async def _settled(self, begun: CinderVolume) -> CinderVolume:
        """Wait until a new volume is available.

        Raises:
            LimitExceeded: If Cinder finds no room for it.
            UnexpectedState: If Cinder fails to create it.
            OperationTimeout: If that takes too long.
        """
        if not begun.is_transitional and begun.state is not VolumeState.ERROR:
            return begun
        seen = await self._volumes.wait_settled(begun.volume_id, self._limits.create_s)
        if seen is None:
            raise OperationTimeout(f"Cinder is still creating {begun.volume_id}", "Try again")
        if seen.state is VolumeState.ERROR and seen.status == "error":
            reasons = await self._reasons(seen.volume_id)
            await self._discard(seen)
            raise creation_failed(seen.volume_id, reasons)
        return seen

    async def _reasons(self, volume_id: str) -> list[str]:
        query = {"resource_uuid": volume_id}
        try:
            answer = await self._caller.call(Call(CINDER, "GET", "/messages", query, microversion=MESSAGES))
        except (OpenStackRefused, BackendError):
            return []  # an old Cinder, or not allowed
        return [str(each.get("user_message", "")) for each in answer.get("messages", ())]

    async def _refuse_unsuitable(self, made: CinderVolume) -> None:
        """Refuse a volume that its type makes unusable here, and delete it.

        Raises:
            Unsupported: If it is encrypted and the option blank does not permit that, or is shareable.
        """
        kind = made.volume_type or "its"
        if made.is_shareable:
            why, remedy = f"type {kind} allows several attachments at once", "Choose another type"
        elif made.is_encrypted and not is_unverified(made.volume.spec):
            why = f"type {kind} is encrypted: a new volume reads as random data, not as blank"
            remedy = "Choose another type, or -o blank=unverified to format it without that proof"
        else:
            return
        await self._discard(made)
        raise Unsupported(why, remedy)

    async def _discard(self, made: CinderVolume) -> None:
        """Delete a new volume that cannot be used; its note stays if that fails, for the next creation."""
        if await self._remove(made, self._limits.delete_s):
            await self._notes.drop(made.volume.name)

    # Choosing

    async def _choose(self, name: str, note: CreationNote | None, wait_s: float = 0.0) -> CinderVolume | None:
        """Return the volume of a name, and have this host's volumes deleted that are not it."""
        found = await self._volumes.by_name(name)
        chosen = chosen_of(found)
        if note is not None and chosen is not None:
            for each in found:
                if each.token == note.token and each.volume_id != chosen.volume_id:
                    await self._remove(each, wait_s)
        return chosen

    async def _remove(self, made: CinderVolume, wait_s: float) -> bool:
        """Delete a volume that this host has created, unless it was attached; return whether it is gone.

        It does not count from then on, so an attach does not wait for its end. A failure leaves a blank
        volume more, which is not chosen, and is deleted at the next opportunity.
        """
        try:
            seen = await self._volumes.by_id(made.volume_id)
            if seen is None or seen.token != made.token or not seen.is_untouched:
                return seen is None
            # Once and soon: what was read holds for this moment, and not for a retry after a timeout.
            call = Call(
                CINDER,
                "DELETE",
                f"/volumes/{made.volume_id}",
                is_repeatable=False,
                within_s=PROOF_HOLDS_S,
            )
            await answered(self._caller, call)
            left = await self._volumes.wait_settled(made.volume_id, wait_s) if wait_s else None
        except VolplugError as error:
            _LOG.warning("superfluous volume not deleted", volume_id=made.volume_id, error=str(error))
            return False
        fields = {"volume_id": made.volume_id, "volume": made.volume.name}
        _LOG.info("superfluous volume is being deleted", **fields)
        is_gone = left is not None and left.state is VolumeState.DELETING
        if is_gone:
            self._volumes.deleted(made.volume_id)
        return is_gone

    # Attaching

    async def before_attach(self, volume: Volume) -> bool:
        """Make sure that a volume without a filesystem is the one of its name; delete this host's others.

        Returns:
            Whether data without any signature on it is noise: `blank=unverified` was asked for, this host
            created the volume, and it was never attached before.

        Raises:
            VolumeInUse: If another one is.
            VolumeNotFound: If there is none.
        """
        note = await self._notes.find(volume.name)
        if volume.filesystem.phase is not FilesystemPhase.PENDING:
            if note is not None:  # of a creation here, whose volume may be one too many
                await self._choose(volume.name, note)
            return False
        if note is not None:
            now_s = asyncio.get_running_loop().time()
            await self._sleep(
                max(0.0, self._created_s.get(volume.volume_id, now_s) + self._limits.race_s - now_s)
            )
        chosen = await self._choose(volume.name, note)
        if chosen is None:
            raise no_volume(volume.volume_id)
        if chosen.volume_id != volume.volume_id:
            # The core reads the name again, and gets the other one.
            raise VolumeInUse(
                f"{volume.volume_id} is not the volume of this name, {chosen.volume_id} is", "Try again"
            )
        if not is_unverified(chosen.volume.spec) or chosen.was_attached:
            return False
        # From now on, it may hold data that reads as random.
        await self._volumes.write_tags(volume.volume_id, {ATTACHED: "true"})
        return note is not None and note.token == chosen.token

    async def after_attach(self, volume: Volume) -> None:
        """Drop the note of a volume that is attached: it is the one of its name, whichever host made it."""
        await self._notes.drop(volume.name)

    async def deleted(self, volume: Volume) -> None:
        """Drop the note of a volume that was deleted."""
        await self._notes.drop(volume.name, volume.volume_id)


def chosen_of(found: Sequence[CinderVolume]) -> CinderVolume | None:
    """Return the volume of a name, or None. Pure.

    That which was attached or formatted already, else the oldest. The others were never attached, since the
    choice is made again before a volume is first attached.

    Args:
        found: All volumes of the name, all read at one moment.

    Raises:
        DuplicateVolumes: If several are not those of concurrent creations, or several may have data.
    """
    existing = [each for each in found if not _is_going(each)]
    if len(existing) <= 1:
        return next(iter(existing or found), None)
    touched = [each for each in existing if not each.is_untouched]
    if len(touched) > 1 or not all(each.token for each in existing):
        raise duplicate_volumes(existing, "metadata")
    return touched[0] if touched else min(existing, key=_age)


def _is_going(found: CinderVolume) -> bool:
    """Tell whether a volume is to be deleted, by whichever host, also if Cinder has failed to."""
    has_failed = found.status == "error_deleting" and found.is_untouched
    return found.state is VolumeState.DELETING or has_failed


def _age(found: CinderVolume) -> tuple[str, str]:
    """Order by time of creation; Cinder's database may keep whole seconds only, so ids decide."""
    created_at = found.volume.created_at
    return created_at.isoformat() if created_at else "", found.volume_id
