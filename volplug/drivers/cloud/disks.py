"""Awaits and tests this host's disks of a cloud's volumes, without blocking the event loop.

What identifies a disk as a volume's is the driver's: a scan of the disks at one moment answers that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, Protocol, TypeVar

from volplug.errors import DeviceMismatch, VolumeInUse
from volplug.host import devices as host_devices
from volplug.host.disk_watch import DiskWatch
from volplug.host.sysfs import Sysfs, SysfsDisk
from volplug.host.threads import DevicePool
from volplug.models import BlockDevice, Volume

BUSY: Final = "Stop what uses it on this host; volplug tries again"

_THREADS: Final = 8
_OPENS: Final = 32

_T = TypeVar("_T")


class DisksAtOneMoment(Protocol):
    """What a scan has found; its methods block."""

    def find(self, volume: Volume) -> BlockDevice | None:
        """Return a volume's disk, or None if there is no usable one; raises DeviceMismatch."""
        ...

    def has(self, volume_id: str) -> bool:
        """Tell whether the volume's disk is present, usable or not."""
        ...

    def nodes_to_test(self, volume_id: str) -> Sequence[str]:
        """Return the device nodes to open for testing whether the volume is in use."""
        ...


_ScanT = TypeVar("_ScanT", bound=DisksAtOneMoment)


class WatchedDisks(Generic[_ScanT]):
    """The disks of this host, asynchronously.

    Args:
        sysfs: Reads them.
        scan: Identifies them; blocks.
        backend: The backend's name.
    """

    def __init__(self, sysfs: Sysfs, scan: Callable[[], _ScanT], backend: str) -> None:
        self._sysfs = sysfs
        self._scan = scan
        self._pool = DevicePool(f"{backend}-disks", _THREADS, backend)
        # Opening a disk that hangs may hang; scans have threads of their own.
        self._opens = DevicePool(f"{backend}-opens", _OPENS, backend)
        self._watch = DiskWatch(scan, self._pool)

    def find(self, volume: Volume) -> BlockDevice | None:
        """Return a volume's disk, or None if this host has no usable one. Blocks.

        Raises:
            DeviceMismatch: If the volume's disk cannot be identified.
            HostError: If sysfs cannot be read.
        """
        return self._scan().find(volume)

    async def locate(self, volume: Volume) -> BlockDevice | None:
        """Return what `find` returns, from a thread."""
        return await self._pool.blocking(self.find, volume)

    async def shows(self, volume_id: str) -> bool:
        """Tell whether this host has a volume's disk, usable or not."""
        return await self._ask(lambda scan: scan.has(volume_id))

    async def arrived(self, volume: Volume, timeout_s: float) -> BlockDevice | None:
        """Wait for the disk of a volume that is being attached; return None after the timeout.

        Raises:
            DeviceMismatch: If the volume's disk cannot be identified.
        """
        return await self._watch.until(lambda scan: scan.find(volume), timeout_s)

    async def departed(self, volume_id: str, timeout_s: float) -> Literal[True] | None:
        """Wait until a volume's disk has gone; return None after the timeout."""
        return await self._watch.until(lambda scan: None if scan.has(volume_id) else True, timeout_s)

    async def refuse_if_held(self, volume_id: str, node_id: str) -> None:
        """Refuse if a volume's disk is in use on this host, usable or not.

        Raises:
            VolumeInUse: If it cannot be opened exclusively.
            HostError: If it cannot be tested.
        """
        for node in await self._ask(lambda scan: scan.nodes_to_test(volume_id)):
            if await host_devices.is_held(self._opens, node, 0):
                raise VolumeInUse(f"{node} is in use on this host", BUSY, holder=node_id)

    async def can_be_trusted(self) -> bool:
        """Tell whether a missing disk is evidence: sysfs shows at least one disk."""
        return bool(await self._pool.blocking(self._sysfs.names))

    async def _ask(self, question: Callable[[_ScanT], _T]) -> _T:
        return await self._pool.blocking(lambda: question(self._scan()))


@dataclass(frozen=True)
class SerialScan:
    """The disks of a host that shows volumes' ids as serials, at one moment. Everything blocks.

    Attributes:
        sysfs: This host's disks.
        serials: The kernel's names of its disks, by serial.
    """

    sysfs: Sysfs
    serials: Mapping[str, Sequence[str]]

    def serial_of(self, volume_id: str) -> str:
        """Return what identifies a volume's disk."""
        return volume_id

    def kernel_names(self, volume_id: str) -> Sequence[str]:
        """Return the kernel's names of the disks with a volume's serial."""
        return self.serials.get(self.serial_of(volume_id), ())

    def find(self, volume: Volume, name: str = "") -> BlockDevice | None:  # for disks without serials
        """Return a volume's disk, or None if there is no usable one.

        Raises:
            DeviceMismatch: If several disks have the volume's serial, or one that is no volume's disk.
        """
        names, serial = self.kernel_names(volume.volume_id), self.serial_of(volume.volume_id)
        if len(names) > 1:
            raise DeviceMismatch(f"several disks have the serial {serial}: {', '.join(sorted(names))}")
        disk = self.sysfs.disk(names[0]) if names else None
        if disk is None:
            return None
        self.check(disk, serial)
        return BlockDevice(disk.node, serial, disk.size_bytes)

    def check(self, disk: SysfsDisk, serial: str) -> None:
        """Check that a disk with a volume's serial is one of the cloud's; raises DeviceMismatch."""

    def has(self, volume_id: str) -> bool:
        """Tell whether the volume's disk is present, usable or not."""
        return bool(self.kernel_names(volume_id))

    def nodes_to_test(self, volume_id: str) -> Sequence[str]:
        """Return the device nodes to open for testing whether the volume is in use.

        Raises:
            HostError: If a disk has no such node.
        """
        return [node for node in map(self.sysfs.node_to_test, self.kernel_names(volume_id)) if node]
