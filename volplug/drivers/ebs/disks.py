"""This host's disks as the driver's calls need them: found, awaited, and named, without blocking."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from volplug.drivers.ebs.devices import Devices, Look, devices_of
from volplug.drivers.ebs.names import DeviceNames
from volplug.errors import VolumeInUse
from volplug.host import devices as host_devices
from volplug.host.disk_watch import DiskWatch
from volplug.host.sysfs import Sysfs
from volplug.host.threads import DevicePool
from volplug.models import MountSource, Volume

_THREADS = 8
_OPENS = 32


class Disks:
    """The disks of this host.

    Args:
        sysfs: Where they show.
        model: How EBS calls its NVMe disks.
        notes: The file for what is known of disks without serials.
        backend: What the backend is called.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        sysfs: Sysfs,
        model: str,
        notes: Path,
        backend: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sysfs = sysfs
        self._model = model
        self._notes = notes
        self._clock = clock
        self._pool = DevicePool(f"{backend}-disks", _THREADS, backend)
        # Opening a disk that hangs may hang; looking for others goes on.
        self._opens = DevicePool(f"{backend}-opens", _OPENS, backend)
        self._watch = DiskWatch(self._look, self._pool)
        self._devices: Devices | None = None
        self._names: DeviceNames | None = None

    async def locate(self, volume: Volume) -> MountSource | None:
        """Return a volume's disk, or None if this host has none that can be used.

        Raises:
            DeviceMismatch: If a disk claims to be the volume and contradicts its record.
            HostError: If sysfs cannot be read.
        """
        return await self._pool.blocking(lambda: self._look().find(volume))

    async def shows(self, volume_id: str) -> bool:
        """Tell whether this host shows a volume, in whatever condition."""
        return await self._pool.blocking(lambda: self._look().has(volume_id))

    async def arrival(self, volume: Volume, name: str, timeout_s: float) -> MountSource | None:
        """Wait for the disk of a volume that is being attached by a name; None after the time.

        Raises:
            DeviceMismatch: If what comes is not the volume's.
        """
        return await self._watch.until(lambda look: look.find(volume, name), timeout_s)

    async def departure(self, volume_id: str, timeout_s: float) -> bool:
        """Wait until a volume's disk has gone; False after the time."""
        gone = await self._watch.until(lambda look: None if look.has(volume_id) else True, timeout_s)
        return gone is not None

    async def refuse_if_held(self, volume_id: str) -> None:
        """Refuse if anybody uses a volume's disk, in whatever condition that is.

        Raises:
            VolumeInUse: If the kernel says so.
            HostError: If the kernel cannot be asked.
        """
        for node in await self._pool.blocking(lambda: self._look().nodes_to_test(volume_id)):
            if await host_devices.is_held(self._opens, node, 0):
                raise VolumeInUse(f"{node} is in use on this host")

    async def can_be_trusted(self) -> bool:
        """Tell whether disks that are not seen are not there: sysfs shows at least something."""
        return bool(await self._pool.blocking(self._sysfs.names))

    async def attached_count(self) -> int:
        """Return how many EBS volumes this host shows, its root included."""
        return await self._pool.blocking(lambda: self._made().attached_count())

    async def take_name(self, volume_id: str) -> str:
        """Choose a name to attach a volume by; it is the volume's until `leave_name`.

        Raises:
            LimitExceeded: If there is none left.
        """
        visible = await self._pool.blocking(lambda: self._made().visible_names())
        # Nothing is awaited between the choice and its note, so that no two get the same.
        return self._device_names().take(volume_id, visible)

    def use_name(self, volume_id: str, name: str) -> None:
        """Note by which name a volume is attached."""
        if self._names is not None:
            self._names.use(name, volume_id)

    def leave_name(self, volume_id: str) -> None:
        """Note that a volume is not attached by any name."""
        if self._names is not None:
            self._names.leave(volume_id)

    def avoid_name(self, name: str) -> None:
        """Note that a name cannot be used, at least for a while."""
        if self._names is not None:
            self._names.avoid(name)

    async def forget(self, volume_id: str) -> None:
        """Drop what is known of a volume's disk, which has gone."""
        self.leave_name(volume_id)
        await self._pool.blocking(lambda: self._made().forget(volume_id))

    # What runs in threads

    def _made(self) -> Devices:
        if self._devices is None:  # two at once would make the same
            self._devices = devices_of(self._sysfs, self._model, self._notes)
        return self._devices

    def _look(self) -> Look:
        return self._made().look()

    def _device_names(self) -> DeviceNames:
        if self._names is None:
            self._names = DeviceNames(self._made().names, self._clock)
        return self._names
