"""Identifies this server's disks of Cinder's volumes, by their serials.

A hypervisor shows a volume's id as the disk's serial: virtio-blk cuts it after 20 characters, as does
virtio-scsi of older QEMUs; others show it whole, with or without its dashes, or within the wwid. The name
that Nova reports is that which it asked for, and guests name their disks otherwise.
https://docs.openstack.org/nova/latest/user/block-device-mapping.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from volplug.drivers.cloud.disks import WatchedDisks, sole_disk
from volplug.host.sysfs import Sysfs
from volplug.models import MountSource, Volume

_VIRTIO_LENGTH: Final = 20


@dataclass(frozen=True)
class GuestScan:
    """The disks at one moment. Everything blocks."""

    sysfs: Sysfs
    serials: Mapping[str, Sequence[str]]

    def find(self, volume: Volume) -> MountSource | None:
        """Return a volume's disk, or None if there is no usable one.

        Raises:
            DeviceMismatch: If several disks have the volume's serial.
        """
        name = sole_disk(self._names(volume.volume_id), volume.volume_id)
        disk = self.sysfs.disk(name) if name else None
        return MountSource(disk.node, volume.volume_id, disk.size_bytes) if disk else None

    def has(self, volume_id: str) -> bool:
        """Tell whether the volume's disk is present, usable or not."""
        return bool(self._names(volume_id))

    def nodes_to_test(self, volume_id: str) -> Sequence[str]:
        """Return the device nodes to open for testing whether the volume is in use.

        Raises:
            HostError: If a disk has no such node.
        """
        return [node for node in map(self.sysfs.node_to_test, self._names(volume_id)) if node]

    def _names(self, volume_id: str) -> list[str]:
        """Return the kernel's names of the disks with a volume's serial; a SCSI disk may have two serials."""
        found = {
            name
            for serial, names in self.serials.items()
            if is_serial_of(serial, volume_id)
            for name in names
        }
        return sorted(found)


def is_serial_of(serial: str, volume_id: str) -> bool:
    """Tell whether a serial is that of a volume. Pure."""
    shown, wanted = serial.lower(), volume_id.lower()
    if shown in (wanted, wanted[:_VIRTIO_LENGTH]):
        return True
    return shown.replace("-", "").endswith(wanted.replace("-", ""))


def guest_disks(sysfs: Sysfs, backend: str) -> WatchedDisks[GuestScan]:
    """Return the disks of this server."""
    return WatchedDisks(sysfs, partial(_scan, sysfs), backend)


def _scan(sysfs: Sysfs) -> GuestScan:
    return GuestScan(sysfs, sysfs.serials())
