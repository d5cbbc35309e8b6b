"""This instance's disks: found, waited for and named, without blocking the event loop.

On Nitro a disk's serial is the volume's id without the dash, so that a disk identifies itself:
https://docs.aws.amazon.com/ebs/latest/userguide/nvme-ebs-volumes.html. Xen is in xen.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, TypeAlias, TypeVar

from volplug.drivers.ebs.device_names import NITRO_NAMES, DeviceNames
from volplug.drivers.ebs.xen import XenDevices, XenScan
from volplug.errors import DeviceMismatch, VolumeInUse
from volplug.host import devices as host_devices
from volplug.host.disk_watch import DiskWatch
from volplug.host.sysfs import Sysfs
from volplug.host.threads import DevicePool
from volplug.models import MountSource, Volume

_THREADS: Final = 8
_OPENS: Final = 32

_T = TypeVar("_T")


class Disks:
    """The disks of this host.

    Args:
        sysfs: Where they are read.
        model: The model that EBS's NVMe disks report.
        notes: The file for what is known of disks without serials.
        backend: The backend's name.
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
        self._pool = DevicePool(f"{backend}-disks", _THREADS, backend)
        # Opening a disk that hangs may hang; scans go on.
        self._opens = DevicePool(f"{backend}-opens", _OPENS, backend)
        self._watch = DiskWatch(self._scan, self._pool)
        self._names = DeviceNames(clock)
        self._making = threading.Lock()
        self._devices: NitroDevices | XenDevices | None = None

    async def locate(self, volume: Volume) -> MountSource | None:
        """Return a volume's disk, or None if this host has none that can be used.

        Raises:
            DeviceMismatch: If it cannot be told which disk is the volume's.
            HostError: If sysfs cannot be read.
        """
        return await self._ask(lambda scan: scan.find(volume))

    async def shows(self, volume_id: str) -> bool:
        """Tell whether this host shows a volume, in whatever condition."""
        return await self._ask(lambda scan: scan.has(volume_id))

    async def arrival(self, volume: Volume, name: str, timeout_s: float) -> MountSource | None:
        """Wait for the disk of a volume that is being attached by a name; None after the timeout.

        Raises:
            DeviceMismatch: If it cannot be told which disk is the volume's.
        """
        return await self._watch.until(lambda scan: scan.find(volume, name), timeout_s)

    async def departure(self, volume_id: str, timeout_s: float) -> bool:
        """Wait until a volume's disk has gone; False after the timeout."""
        gone = await self._watch.until(lambda scan: None if scan.has(volume_id) else True, timeout_s)
        return gone is not None

    async def refuse_if_held(self, volume_id: str) -> None:
        """Refuse if a volume's disk is in use, in whatever condition it is.

        Raises:
            VolumeInUse: If the kernel says so.
            HostError: If the kernel cannot be asked.
        """
        for node in await self._ask(lambda scan: scan.nodes_to_test(volume_id)):
            if await host_devices.is_held(self._opens, node, 0):
                raise VolumeInUse(f"{node} is in use on this host")

    async def can_be_trusted(self) -> bool:
        """Tell whether a disk that is not seen is not there: sysfs shows at least one."""
        return bool(await self._pool.blocking(self._sysfs.names))

    async def attached_count(self) -> int:
        """Return how many EBS volumes this host shows, its root included."""
        return await self._ask(lambda scan: scan.attached_count())

    async def take_name(self, volume_id: str) -> str:
        """Choose a name to attach a volume by; it is the volume's until `leave_name`.

        Raises:
            LimitExceeded: If none is left.
        """
        names, visible = await self._ask(lambda scan: (scan.names, scan.visible_names()))
        # Nothing is awaited between the choice and its note, so that no two volumes get the same name.
        return self._names.take(volume_id, names, visible)

    def leave_name(self, volume_id: str) -> None:
        """Note that a volume is not attached by any name."""
        self._names.leave(volume_id)

    def avoid_name(self, name: str) -> None:
        """Note that a name cannot be used, at least for a while."""
        self._names.avoid(name)

    async def forget(self, volume_id: str) -> None:
        """Drop what is known of a volume's disk, which has gone."""
        self.leave_name(volume_id)
        await self._pool.blocking(lambda: self._made().forget(volume_id))

    async def _ask(self, question: Callable[[DiskScan], _T]) -> _T:
        return await self._pool.blocking(lambda: question(self._scan()))

    # What follows runs in threads

    def _scan(self) -> DiskScan:
        return self._made().scan()

    def _made(self) -> NitroDevices | XenDevices:
        with self._making:  # two XenDevices would not know each other's notes
            if self._devices is None:
                self._devices = devices_of(self._sysfs, self._model, self._notes)
            return self._devices


def devices_of(sysfs: Sysfs, model: str, notes: Path) -> NitroDevices | XenDevices:
    """Return what fits this host. Blocks."""
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
        return NitroScan(self.sysfs, self.model, self.sysfs.serials())

    def forget(self, volume_id: str) -> None:
        """Do nothing: nothing is noted."""


@dataclass(frozen=True)
class NitroScan:
    """The disks at one moment. Everything blocks."""

    sysfs: Sysfs
    model: str
    serials: Mapping[str, list[str]]
    names: ClassVar = NITRO_NAMES  # that volumes can be attached by

    def visible_names(self) -> Collection[str]:
        """Return those of EC2's names under which disks are seen: none, Nitro has names of its own."""
        return ()

    def attached_count(self) -> int:
        """Return how many EBS volumes this host shows; the root volume is one."""
        return sum(serial.startswith("vol") for serial in self.serials)

    def find(self, volume: Volume, name: str = "") -> MountSource | None:
        """Return a volume's disk, or None if there is none that can be used.

        Args:
            volume: The volume.
            name: The name it was attached by, where that is known; where disks have no serial, the disk
                under it is taken for the volume's from here on.

        Raises:
            DeviceMismatch: If several disks have the volume's serial, or one that is no EBS disk.
        """
        serial = _serial_of(volume.volume_id)
        found = self.serials.get(serial, [])
        if len(found) > 1:
            raise DeviceMismatch(f"several disks have the serial {serial}: {', '.join(sorted(found))}")
        disk = self.sysfs.disk(found[0]) if found else None
        if disk is None:
            return None
        if disk.model != self.model:
            raise DeviceMismatch(f"{disk.node} has the serial {serial}, but its model is {disk.model!r}")
        return MountSource(disk.node, serial, disk.size_bytes)

    def has(self, volume_id: str) -> bool:
        """Tell whether the kernel still shows the volume, in whatever condition."""
        return _serial_of(volume_id) in self.serials

    def nodes_to_test(self, volume_id: str) -> Sequence[str]:
        """Return the nodes to open for testing whether the volume is in use, in whatever condition it is.

        Raises:
            HostError: If there is a disk without such a node.
        """
        kernel_names = self.serials.get(_serial_of(volume_id), [])
        return [node for node in map(self.sysfs.node_to_test, kernel_names) if node]


DiskScan: TypeAlias = NitroScan | XenScan


def _serial_of(volume_id: str) -> str:
    return volume_id.replace("-", "", 1)
