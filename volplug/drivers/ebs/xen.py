"""Which disk is which volume on Xen instances.

Their disks report no serial, and a disk is known by the name it was attached by: that name, free before the
attach, is noted together with the kernel's number of the disk, so that no later disk under the name is taken
for it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Final

from volplug.drivers.ebs.device_names import XEN_NAMES
from volplug.errors import DeviceMismatch, HostError
from volplug.host.files import replace_file
from volplug.host.sysfs import Sysfs, SysfsDisk
from volplug.models import MountSource, Volume
from volplug.sizes import format_size

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class _Note:
    """What is noted of a disk that was attached.

    Attributes:
        kernel_name: Its name in sysfs.
        sequence: The kernel's number of it.
        boot_id: The boot for which names and numbers are valid.
    """

    kernel_name: str
    sequence: str
    boot_id: str


class XenDevices:
    """Disks without serials, identified by notes. Everything blocks.

    Args:
        sysfs: This host's disks.
        notes: The file of the notes; lost ones are made again from what EC2 says.
        boot_id: The current boot; by default the kernel is asked.
    """

    def __init__(self, sysfs: Sysfs, notes: Path, boot_id: str = "") -> None:
        self._sysfs = sysfs
        self._path = notes
        self._boot_id = boot_id or _BOOT_ID.read_text(encoding="ascii").strip()
        self._changing = threading.Lock()
        self._notes = self._read()

    def scan(self) -> XenScan:
        """Read the kernel's names of disks.

        Raises:
            HostError: If sysfs cannot be read.
        """
        return XenScan(self, self._sysfs, frozenset(self._sysfs.names()))

    def noted(self, volume_id: str) -> str:
        """Return the kernel's name of a volume's disk if it is still the disk that was noted, else ""."""
        note = self._notes.get(volume_id)
        if note is None or note.boot_id != self._boot_id:
            return ""
        return note.kernel_name if self._sysfs.sequence(note.kernel_name) == note.sequence else ""

    def note(self, volume_id: str, kernel_name: str, sequence: str) -> None:
        """Note a volume's disk; an earlier note of the same kernel name is replaced."""
        with self._changing:
            kept = {each: note for each, note in self._notes.items() if note.kernel_name != kernel_name}
            self._write({**kept, volume_id: _Note(kernel_name, sequence, self._boot_id)})

    def forget(self, volume_id: str) -> None:
        """Drop the note of a volume's disk."""
        with self._changing:
            if volume_id in self._notes:
                self._write({each: note for each, note in self._notes.items() if each != volume_id})

    def _read(self) -> dict[str, _Note]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return {volume_id: _Note(**note) for volume_id, note in content.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _write(self, notes: dict[str, _Note]) -> None:
        """Replace the file. No fsync: after a power loss the boot id differs and the notes are ignored."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            text = json.dumps({each: asdict(note) for each, note in notes.items()})
            replace_file(self._path, text, is_durable=False)
        except OSError as error:
            raise HostError(f"{self._path} cannot be written: {error.strerror}") from error
        self._notes = notes


@dataclass(frozen=True)
class XenScan:
    """The disks at one moment; its methods are those of `NitroScan`."""

    devices: XenDevices
    sysfs: Sysfs
    kernel_names: Collection[str]
    names: ClassVar = XEN_NAMES

    def visible_names(self) -> Collection[str]:
        """Return the names of all disks, in EC2's spelling."""
        return {f"/dev/xvd{_letters(kernel_name)}" for kernel_name in self.kernel_names}

    def attached_count(self) -> int:
        """Return how many disks are named as volumes are; the root volume is one."""
        return sum(name.startswith(("xvd", "sd")) for name in self.kernel_names)

    def find(self, volume: Volume, name: str = "") -> MountSource | None:
        """Return the disk that was noted, else the one under the given name, and note that.

        Raises:
            DeviceMismatch: If only its size can tell whether the disk is the volume's, and it is another.
        """
        noted = self.devices.noted(volume.volume_id)
        letters = _letters(name.rpartition("/")[2])
        for kernel_name in [noted] if noted or not name else [f"xvd{letters}", f"sd{letters}"]:
            disk = self.sysfs.disk(kernel_name) if kernel_name in self.kernel_names else None
            if disk is not None:
                _refuse_if_doubtful(disk, volume)
                if not noted:
                    self.devices.note(volume.volume_id, kernel_name, disk.sequence)
                return MountSource(disk.node, volume.volume_id, disk.size_bytes)
        return None

    def has(self, volume_id: str) -> bool:
        """Tell whether the disk that was noted is there."""
        return self.devices.noted(volume_id) in self.kernel_names

    def nodes_to_test(self, volume_id: str) -> Sequence[str]:
        """Return the node of the disk that was noted."""
        node = self.sysfs.node_to_test(self.devices.noted(volume_id)) if self.has(volume_id) else ""
        return [node] if node else []


def _refuse_if_doubtful(disk: SysfsDisk, volume: Volume) -> None:
    """Refuse a disk of another size where the kernel does not number disks (before Linux 5.15).

    There, nothing but the size tells the volume's disk from one that another party has attached under the
    same name since.
    """
    if not disk.sequence and disk.size_bytes != volume.size_bytes:
        raise DeviceMismatch(
            f"{disk.node} has {format_size(disk.size_bytes)}, but {volume.volume_id} has "
            f"{format_size(volume.size_bytes)}"
        )


def _letters(name: str) -> str:
    """Return what tells a disk from others; some kernels say sdX for /dev/xvdX, and people say either."""
    return name.removeprefix("xvd").removeprefix("sd")
