"""Identifies the disks of volumes on Xen instances.

Their disks report no serial, so a disk is identified by the name under which it was attached: that name, free
before the attach, is noted together with the kernel's number of the disk, so that a later disk under the same
name is not taken for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from volplug.drivers.cloud.notes import NoteFile
from volplug.drivers.ebs.device_names import XEN_NAMES
from volplug.errors import DeviceMismatch
from volplug.host.sysfs import Sysfs, SysfsDisk
from volplug.models import BlockDevice, Volume
from volplug.sizes import format_size

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class _Note:
    """Identifies the disk of an attached volume.

    Attributes:
        kernel_name: Its name in sysfs.
        sequence: The kernel's number of it (diskseq); empty before Linux 5.15.
        boot_id: The boot for which names and numbers are valid.
        size_bytes: Its size when it was noted; 0 if unknown.
    """

    kernel_name: str
    sequence: str
    boot_id: str
    size_bytes: int = 0


class XenDevices:
    """Disks without serials, identified by notes. Everything blocks.

    Args:
        sysfs: This host's disks.
        notes: The file of the notes; lost ones are made again from EC2's device names.
        boot_id: The current boot; by default that of this host.
    """

    def __init__(self, sysfs: Sysfs, notes: Path, boot_id: str = "") -> None:
        self._sysfs = sysfs
        self._boot_id = boot_id or _BOOT_ID.read_text(encoding="ascii").strip()
        # Not durable: after a power loss the boot id differs and the notes are ignored.
        self._notes = NoteFile(notes, _Note, is_durable=False)

    def scan(self) -> XenScan:
        """Read the kernel's names of disks.

        Raises:
            HostError: If sysfs cannot be read.
        """
        return XenScan(self, self._sysfs, frozenset(self._sysfs.names()))

    def noted(self, volume_id: str) -> _Note | None:
        """Return the note of a volume's disk, or None if the name is another disk's by now."""
        note = self._notes.all().get(volume_id)
        if note is None or note.boot_id != self._boot_id:
            return None
        return note if self._sysfs.sequence(note.kernel_name) == note.sequence else None

    def note(self, volume_id: str, kernel_name: str, disk: SysfsDisk) -> None:
        """Note a volume's disk; an earlier note of the same kernel name is replaced."""
        note = _Note(kernel_name, disk.sequence, self._boot_id, disk.size_bytes)
        self._notes.change(
            lambda notes: {
                **{each: other for each, other in notes.items() if other.kernel_name != kernel_name},
                volume_id: note,
            }
        )

    def forget(self, volume_id: str) -> None:
        """Drop the note of a volume's disk."""
        self._notes.change(lambda notes: {each: notes[each] for each in notes if each != volume_id})


@dataclass(frozen=True)
class XenScan:
    """The disks at one moment; its methods are those of `NitroScan`."""

    devices: XenDevices
    sysfs: Sysfs
    kernel_names: Collection[str]
    names: ClassVar = XEN_NAMES

    def visible_names(self) -> Collection[str]:
        """Return the names of all disks as EC2 spells them."""
        return {f"/dev/xvd{_letters(kernel_name)}" for kernel_name in self.kernel_names}

    def attached_count(self) -> int:
        """Return how many disks have names of EBS volumes; the root volume is one."""
        return sum(name.startswith(("xvd", "sd")) for name in self.kernel_names)

    def find(self, volume: Volume, name: str = "") -> BlockDevice | None:
        """Return the noted disk; if none is noted, note the one under the given name and return it.

        Raises:
            DeviceMismatch: If the disk under the noted name has another size, and no number to identify it.
        """
        note, letters = self.devices.noted(volume.volume_id), _letters(name.rpartition("/")[2])
        by_name = [f"xvd{letters}", f"sd{letters}"] if name else []
        for kernel_name in [note.kernel_name] if note else by_name:
            disk = self.sysfs.disk(kernel_name) if kernel_name in self.kernel_names else None
            if disk is not None:
                if note is None:
                    self.devices.note(volume.volume_id, kernel_name, disk)
                else:
                    _refuse_another(disk, note, volume)
                return BlockDevice(disk.node, volume.volume_id, disk.size_bytes)
        return None

    def has(self, volume_id: str) -> bool:
        """Tell whether the noted disk is present."""
        note = self.devices.noted(volume_id)
        return note is not None and note.kernel_name in self.kernel_names

    def nodes_to_test(self, volume_id: str) -> Sequence[str]:
        """Return the node of the noted disk."""
        note = self.devices.noted(volume_id)
        if note is None or note.kernel_name not in self.kernel_names:
            return []
        node = self.sysfs.node_to_test(note.kernel_name)
        return [node] if node else []


def _refuse_another(disk: SysfsDisk, note: _Note, volume: Volume) -> None:
    """Refuse a disk of another size under the noted name, where the kernel does not number disks.

    Before Linux 5.15 only the size can show that another party has attached another volume under the name
    since. The volume's own size is accepted, too: it may have grown.
    """
    if not disk.sequence and disk.size_bytes not in (note.size_bytes, volume.size_bytes):
        raise DeviceMismatch(
            f"{disk.node} has {format_size(disk.size_bytes)}, but {volume.volume_id} has "
            f"{format_size(volume.size_bytes)}"
        )


def _letters(name: str) -> str:
    """Return the part that identifies a disk: some kernels use sdX for /dev/xvdX, and so do users."""
    return name.removeprefix("xvd").removeprefix("sd")
