"""What is shown of a volume, and the usage of mounted ones, which is sampled in the background."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from volplug.errors import VolplugError
from volplug.host.base import Host
from volplug.models import FilesystemTag, Usage, Volume, VolumeState
from volplug.volumes.ledger import Desired, Entry

_FRESH_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class VolumeView:
    """One volume as this host knows it.

    Attributes:
        name: Docker's name.
        volume_id: The backend's id of it.
        backend: Name of the backend that has it.
        driver: Name of the backend's driver.
        mountpoint: Path on this host; empty while unmounted.
        created_at: With time zone, or None.
        size_bytes: As the backend reports it.
        state: As the backend reports it.
        filesystem: Its filesystem tag.
        profile: The profile that it was created with.
        mount_count: Mounts that were answered and not unmounted.
        used_bytes: Space used in the mounted filesystem, by the last sample; None if there is none.
        holder: Node that has it attached, or None.
        detail: Why the state is `error`; empty otherwise.
        desired: What is still to be reached on this host.
        holders_unknown: Whether it was found mounted with no memory of the containers that use it.
        last_error: Why the desired state is not reached yet; empty if nothing failed.
    """

    name: str
    volume_id: str
    backend: str
    driver: str
    mountpoint: str
    created_at: datetime | None
    size_bytes: int
    state: VolumeState
    filesystem: FilesystemTag
    profile: str
    mount_count: int = 0
    used_bytes: int | None = None
    holder: str | None = None
    detail: str = ""
    desired: Desired = Desired.NONE
    holders_unknown: bool = False
    last_error: str = ""


def view_volume(
    volume: Volume, entry: Entry | None, mountpoint: str, driver: str, usage: Usage | None
) -> VolumeView:
    """Put together what is known of a volume. Pure.

    Args:
        volume: As its backend last described it.
        entry: What this host remembers, if anything.
        mountpoint: Where it is mounted, or would be.
        driver: Name of the backend's driver.
        usage: The last sample of the mounted filesystem.
    """
    entry = entry or Entry(volume.name, volume.backend)
    return VolumeView(
        name=volume.name,
        volume_id=volume.volume_id,
        backend=volume.backend,
        driver=driver,
        mountpoint=mountpoint if entry.is_claimed else "",
        created_at=volume.created_at,
        size_bytes=volume.size_bytes,
        state=volume.state,
        filesystem=volume.filesystem,
        profile=volume.spec.profile,
        mount_count=entry.mount_count,
        used_bytes=usage.used_bytes if usage and entry.is_claimed else None,
        holder=volume.holder,
        detail=volume.detail,
        desired=entry.desired,
        holders_unknown=entry.holders_unknown,
        last_error=entry.last_error,
    )


class UsageSampler:
    """Samples the usage of mounted volumes in the background: statvfs on a dead device can hang."""

    def __init__(self) -> None:
        self._samples: dict[str, tuple[float, Usage]] = {}
        self._sampling: dict[str, asyncio.Task[None]] = {}

    def last(self, host: Host, name: str, target: str) -> Usage | None:
        """Return the last sample, and start another one, without a wait for it, if that is old."""
        sample = self._samples.get(name)
        is_fresh = sample is not None and time.monotonic() - sample[0] <= _FRESH_S
        if not is_fresh and name not in self._sampling:
            self._sampling[name] = asyncio.ensure_future(self._take_sample(host, name, target))
        return sample[1] if sample else None

    def forget(self, name: str) -> None:
        """Drop the sample of a volume that is mounted no more."""
        self._samples.pop(name, None)

    async def _take_sample(self, host: Host, name: str, target: str) -> None:
        try:
            self._samples[name] = (time.monotonic(), await host.usage(target))
        except (OSError, VolplugError):
            self._samples.pop(name, None)
        finally:
            del self._sampling[name]
