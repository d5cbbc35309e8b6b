"""What sysfs tells of disks, read when it is asked; nothing is kept. All of it blocks."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from volplug.errors import DeviceMismatch, HostError
from volplug.host.devices import device_number

_SECTOR_BYTES: Final = 512  # sysfs counts in these, whatever the device does
_VENDOR: Final = "devices/virtual/dmi/id/sys_vendor"
_HYPERVISOR: Final = "hypervisor/type"
_NVME: Final = re.compile(r"nvme\d+n1")


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk of this host.

    Attributes:
        node: Path of its device node.
        size_bytes: What the kernel says.
        model: What the disk says; empty where disks have none.
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
        dev_root: Where device nodes lie.
    """

    def __init__(self, sys_root: Path, dev_root: Path) -> None:
        self._sys_root = sys_root
        self._blocks = sys_root / "block"
        self._dev_root = dev_root

    def is_xen(self) -> bool:
        """Tell whether disks appear under the names they were attached by.

        The firmware of Xen instances calls its vendor Xen, that of Nitro ones Amazon EC2. Only Xen has a
        hypervisor type, which some images hide. Instance store disks are NVMe on both, so those say nothing.
        """
        return (
            self._text(self._sys_root / _VENDOR) == "Xen" or self._text(self._sys_root / _HYPERVISOR) == "xen"
        )

    def names(self) -> Sequence[str]:
        """Return the kernel's names of all disks.

        Raises:
            HostError: If sysfs cannot be read: then nothing can be concluded from what is not seen.
        """
        try:
            return os.listdir(self._blocks)
        except OSError as error:
            raise HostError(f"{self._blocks} cannot be read: {error.strerror}") from error

    def serials(self) -> dict[str, list[str]]:
        """Return the kernel's names of NVMe disks by serial.

        Raises:
            HostError: As `names`.
        """
        found: dict[str, list[str]] = {}
        for name in self.names():
            if _NVME.fullmatch(name) and (serial := self._text(self._blocks / name / "device/serial")):
                found.setdefault(serial, []).append(name)
        return found

    def sequence(self, name: str) -> str:
        """Return the kernel's number of a disk, empty if there is none."""
        return self._text(self._blocks / name / "diskseq")

    def disk(self, name: str) -> Disk | None:
        """Return a disk that can be used, or None: it is not there, not there yet, or about to go.

        Raises:
            DeviceMismatch: If its node belongs to another disk.
        """
        place, node = self._blocks / name, self._dev_root / name
        sectors, number = self._text(place / "size"), self._text(place / "dev")
        if not sectors.isdecimal() or int(sectors) == 0 or not re.fullmatch(r"\d+:\d+", number):
            return None
        found = device_number(str(node))
        if found is None:
            return None
        if f"{os.major(found)}:{os.minor(found)}" != number:
            raise DeviceMismatch(
                f"{node} is device {os.major(found)}:{os.minor(found)}, but {name} is {number}"
            )
        size_bytes = int(sectors) * _SECTOR_BYTES
        return Disk(str(node), size_bytes, self._text(place / "device/model"), self.sequence(name))

    def _text(self, path: Path) -> str:
        try:
            return path.read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            return ""  # not there, or its disk is going
