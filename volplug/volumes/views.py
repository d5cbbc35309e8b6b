"""What Docker is shown of a volume. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from volplug.models import Usage, Volume
from volplug.sizes import format_size
from volplug.volumes.ledger import Desired, Entry

StatusValue = str | int | bool


@dataclass(frozen=True, slots=True)
class VolumeView:
    """One volume as Docker sees it.

    Attributes:
        name: Docker's name.
        mountpoint: Path on this host; empty while unmounted.
        created_at: With time zone, or None.
        status: Shown by `docker volume inspect`.
    """

    name: str
    mountpoint: str
    created_at: datetime | None
    status: dict[str, StatusValue]


def view_volume(
    volume: Volume, entry: Entry | None, mountpoint: str, driver: str, usage: Usage | None
) -> VolumeView:
    """Put together what is known of a volume.

    Args:
        volume: As its backend last described it.
        entry: What this host remembers, if anything.
        mountpoint: Where it is mounted, or would be.
        driver: Name of the backend's driver.
        usage: Space in the mounted filesystem at the last look.
    """
    is_mounted = entry is not None and entry.is_claimed
    status: dict[str, StatusValue] = {
        "id": volume.volume_id,
        "backend": volume.backend,
        "driver": driver,
        "size": format_size(volume.size_bytes),
        "state": volume.state.value,
        "fs": volume.filesystem.to_text(),
        "profile": volume.spec.profile,
        "mountCount": entry.mount_count if entry else 0,
    }
    if usage is not None and is_mounted:
        status["used"] = format_size(usage.used_bytes)
    if volume.holder:
        status["holder"] = volume.holder
    if volume.detail:
        status["detail"] = volume.detail
    if entry is not None:
        status |= _intentions(entry)
    return VolumeView(volume.name, mountpoint if is_mounted else "", volume.created_at, status)


def _intentions(entry: Entry) -> dict[str, StatusValue]:
    shown: dict[str, StatusValue] = {}
    if entry.desired is not Desired.NONE:
        shown["desired"] = entry.desired.value
    if entry.holders_unknown:
        shown["holdersUnknown"] = True
    if entry.last_error:
        shown["lastError"] = entry.last_error
    return shown
