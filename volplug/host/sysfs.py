"""Reads this host's disks from sysfs. Nothing is cached; every method blocks."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from volplug.errors import DeviceMismatch, HostError
from volplug.host.devices import device_number

_SECTOR_BYTES: Final = 512  # the unit of `size` for all devices: Documentation/ABI/stable/sysfs-block
_VENDOR: Final = "devices/virtual/dmi/id/sys_vendor"
_HYPERVISOR: Final = "hypervisor/type"
_NVME: Final = re.compile(r"nvme\d+n1")
_VIRTIO: Final = re.compile(r"vd[a-z]+")
_SCSI: Final = re.compile(r"sd[a-z]+")
# Device type, page code 80h and length, then the serial: SPC-4, 7.8.13.
_VPD_HEADER_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class SysfsDisk:
    """One disk of this host.

    Attributes:
        node: Path of its device node.
        size_bytes: Its size according to the kernel.
        model: The model that the disk reports; empty where disks report none.
        sequence: The kernel's number of this disk, used once per boot (Linux 5.15); empty before that.
    """

    node: str
    size_bytes: int
    model: str
    sequence: str


class Sysfs:
    """The disks of one host.

    Args:
        sys_root: Where sysfs is mounted.
        dev_root: The directory of device nodes.
    """

    def __init__(self, sys_root: Path, dev_root: Path) -> None:
        self._sys_root = sys_root
        self._blocks = sys_root / "block"
        self._dev_root = dev_root

    def is_xen(self) -> bool:
        """Return whether this host is a guest of Xen, whose disks report no serial.

        The firmware of EC2's Xen instances has the vendor Xen, that of Nitro ones Amazon EC2. Only Xen has a
        hypervisor type, which some images hide. Instance store disks are NVMe on both, so they prove nothing.
        """
        return (
            self._text(self._sys_root / _VENDOR) == "Xen" or self._text(self._sys_root / _HYPERVISOR) == "xen"
        )

    def names(self) -> Sequence[str]:
        """Return the kernel's names of all disks.

        Raises:
            HostError: If sysfs cannot be read, which does not prove that a disk is missing.
        """
        try:
            return os.listdir(self._blocks)
        except OSError as error:
            raise HostError(f"{self._blocks} cannot be read: {error.strerror}") from error

    def serials(self) -> dict[str, list[str]]:
        """Return the kernel's names of disks by serial, without disks that have none.

        A SCSI disk is found by its serial and by its wwid, which may hold a serial that the former lacks.

        Raises:
            HostError: As `names`.
        """
        found: dict[str, list[str]] = {}
        for name in self.names():
            for serial in self._serials(name):
                found.setdefault(serial, []).append(name)
        return found

    def sequence(self, name: str) -> str:
        """Return the kernel's number of a disk, empty if there is none."""
        return self._text(self._blocks / name / "diskseq")

    def disk(self, name: str) -> SysfsDisk | None:
        """Return a disk that can be used, or None if it is missing, not ready yet, or being removed.

        Raises:
            DeviceMismatch: If its node belongs to another disk.
        """
        place, node = self._blocks / name, self._dev_root / name
        size_bytes, number = self._size_bytes(name), self._text(place / "dev")
        found = self._number_of(node)
        if not size_bytes or not re.fullmatch(r"\d+:\d+", number) or not found:
            return None
        if found != number:
            raise DeviceMismatch(f"{node} is device {found}, but {name} is {number}")
        return SysfsDisk(str(node), size_bytes, self._text(place / "device/model"), self.sequence(name))

    def node_to_test(self, name: str) -> str:
        """Return the node to open for testing whether a disk is in use, "" if the disk is being removed.

        Raises:
            HostError: If the disk is there but has no such node.
        """
        node, number = self._dev_root / name, self._text(self._blocks / name / "dev")
        found = self._number_of(node)
        if found and found == number:
            return str(node)
        if not self._size_bytes(name):
            return ""
        raise HostError(
            f"the disk {name} cannot be tested for use: it is {number or 'without a number'}, but {node} is "
            f"{found or 'not there'}",
            f"Check that {self._dev_root} is the host's, and run udevadm trigger --name-match={name}",
        )

    def _serials(self, name: str) -> set[str]:
        """Return the serials of a disk; each kind of disk has it in another file."""
        place = self._blocks / name
        if _NVME.fullmatch(name):
            found = {self._text(place / "device/serial")}
        elif _VIRTIO.fullmatch(name):
            found = {self._text(place / "serial")}
        elif _SCSI.fullmatch(name):
            found = {self._vpd_serial(place / "device/vpd_pg80"), self._text(place / "device/wwid")}
        else:
            found = set()
        return found - {""}

    def _vpd_serial(self, path: Path) -> str:
        try:
            page = path.read_bytes()[_VPD_HEADER_BYTES:]
        except OSError:
            return ""  # the disk has no such page, or is being removed
        return page.decode("ascii", "replace").strip(" \0")

    def _size_bytes(self, name: str) -> int:
        sectors = self._text(self._blocks / name / "size")
        return int(sectors) * _SECTOR_BYTES if sectors.isdecimal() else 0

    def _number_of(self, node: Path) -> str:
        found = device_number(str(node))
        return "" if found is None else f"{os.major(found)}:{os.minor(found)}"

    def _text(self, path: Path) -> str:
        try:
            return path.read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            return ""  # missing, or its disk is being removed
