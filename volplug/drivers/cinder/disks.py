"""Identifies this server's disks of Cinder's volumes, by their serials.

A hypervisor shows a volume's id as the disk's serial: virtio-blk cuts it after 20 characters, as does
virtio-scsi of older QEMUs; others show it whole, with or without its dashes, or within the wwid. The name
that Nova reports is that which it asked for, and guests name their disks otherwise.
https://docs.openstack.org/nova/latest/user/block-device-mapping.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from volplug.drivers.cloud.disks import SerialScan, WatchedDisks
from volplug.host.sysfs import Sysfs

_VIRTIO_LENGTH: Final = 20


@dataclass(frozen=True)
class GuestScan(SerialScan):
    """The disks at one moment. Everything blocks."""

    def kernel_names(self, volume_id: str) -> Sequence[str]:
        """Return the kernel's names of the disks with a volume's serial; a SCSI disk may have two serials."""
        shown = (names for serial, names in self.serials.items() if is_serial_of(serial, volume_id))
        return sorted({name for names in shown for name in names})


def is_serial_of(serial: str, volume_id: str) -> bool:
    """Tell whether a serial is that of a volume. Pure."""
    shown, wanted = serial.lower(), volume_id.lower()
    if shown in (wanted, wanted[:_VIRTIO_LENGTH]):
        return True
    return shown.replace("-", "").endswith(wanted.replace("-", ""))


def guest_disks(sysfs: Sysfs, backend: str) -> WatchedDisks[GuestScan]:
    """Return the disks of this server."""
    return WatchedDisks(sysfs, lambda: GuestScan(sysfs, sysfs.serials()), backend)
