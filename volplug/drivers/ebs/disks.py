"""Identifies, awaits and names this instance's disks, without blocking the event loop.

On Nitro a disk's serial is the volume's id without the dash:
https://docs.aws.amazon.com/ebs/latest/userguide/nvme-ebs-volumes.html. Xen is in xen.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

from volplug.drivers.cloud.disks import SerialScan, WatchedDisks
from volplug.drivers.ebs.device_names import NITRO_NAMES, DeviceNames
from volplug.drivers.ebs.xen import XenDevices, XenScan
from volplug.errors import DeviceMismatch
from volplug.host.sysfs import Sysfs, SysfsDisk
from volplug.models import BlockDevice, Volume


class Disks(WatchedDisks["DiskScan"]):
    """The disks of this host, and the names that volumes are attached under.

    Args:
        sysfs: Reads them.
        model: The model that EBS's NVMe disks report.
        notes: The file that identifies disks without serials, see `XenDevices`.
        backend: The backend's name.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        sysfs: Sysfs,
        model: str,
        notes: Path,
        backend: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(sysfs, self._scan_devices, backend)
        self._model = model
        self._notes = notes
        self._names = DeviceNames(clock)
        self._making = threading.Lock()
        self._devices: NitroDevices | XenDevices | None = None

    async def arrival(self, volume: Volume, name: str, timeout_s: float) -> BlockDevice | None:
        """Wait for the disk of a volume that is being attached under a name; return None after the timeout.

        Raises:
            DeviceMismatch: If the volume's disk cannot be identified.
        """
        return await self._watch.until(lambda scan: scan.find(volume, name), timeout_s)

    async def attached_count(self) -> int:
        """Return how many EBS volumes this host has, its root included."""
        return await self._ask(lambda scan: scan.attached_count())

    async def take_name(self, volume_id: str) -> str:
        """Choose a name to attach a volume under; it is the volume's until `leave_name`.

        Raises:
            LimitExceeded: If none is left.
        """
        names, visible = await self._ask(lambda scan: (scan.names, scan.visible_names()))
        # No await from here on, so that two volumes cannot get the same name.
        return self._names.take(volume_id, names, visible)

    def leave_name(self, volume_id: str) -> None:
        """Release the name of a volume that is not attached."""
        self._names.leave(volume_id)

    def avoid_name(self, name: str) -> None:
        """Mark a name as bad for some time."""
        self._names.avoid(name)

    async def forget(self, volume_id: str) -> None:
        """Drop the name and the note of a volume's disk, which has gone."""
        self.leave_name(volume_id)
        await self._pool.blocking(lambda: self._made().forget(volume_id))

    # In threads

    def _scan_devices(self) -> DiskScan:
        return self._made().scan()

    def _made(self) -> NitroDevices | XenDevices:
        with self._making:  # two XenDevices would overwrite each other's notes
            if self._devices is None:
                self._devices = devices_of(self._sysfs, self._model, self._notes)
            return self._devices


def devices_of(sysfs: Sysfs, model: str, notes: Path) -> NitroDevices | XenDevices:
    """Return the devices of this host's kind of instance. Blocks."""
    return XenDevices(sysfs, notes) if sysfs.is_xen() else NitroDevices(sysfs, model)


@dataclass(frozen=True)
class NitroDevices:
    """Disks with serials. Everything blocks.

    Attributes:
        sysfs: This host's disks.
        model: The model that EBS's disks report.
    """

    sysfs: Sysfs
    model: str

    def scan(self) -> NitroScan:
        """Read the disks' serials.

        Raises:
            HostError: If sysfs cannot be read.
        """
        return NitroScan(self.sysfs, self.sysfs.serials(), self.model)

    def forget(self, volume_id: str) -> None:
        """Do nothing: disks with serials need no notes."""


@dataclass(frozen=True)
class NitroScan(SerialScan):
    """The disks at one moment. Everything blocks."""

    model: str
    names: ClassVar = NITRO_NAMES  # that volumes can be attached under

    def visible_names(self) -> Collection[str]:
        """Return EC2's names of the disks present: none, the kernel names NVMe disks otherwise."""
        return ()

    def attached_count(self) -> int:
        """Return how many EBS volumes this host has; the root volume is one."""
        return sum(serial.startswith("vol") for serial in self.serials)

    def serial_of(self, volume_id: str) -> str:
        """Return a volume's id without the dash."""
        return volume_id.replace("-", "", 1)

    def check(self, disk: SysfsDisk, serial: str) -> None:
        """Check that a disk is one of EBS."""
        if disk.model != self.model:
            raise DeviceMismatch(f"{disk.node} has the serial {serial}, but its model is {disk.model!r}")


DiskScan: TypeAlias = NitroScan | XenScan
