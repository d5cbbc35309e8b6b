"""Which disk of this host is which volume.

On Nitro a disk's serial is the volume's id without the dash, so that the disk says itself what it is:
https://docs.aws.amazon.com/ebs/latest/userguide/nvme-ebs-volumes.html. On Xen a disk says nothing, and is
known by the name it was attached by: that name, free before the attach and then with a disk of the volume's
size, is noted together with the kernel's number of the disk, so that no later disk is taken for it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

from volplug.drivers.ebs.names import NITRO_NAMES, XEN_NAMES
from volplug.errors import DeviceMismatch, HostError
from volplug.host.files import replace_file
from volplug.host.sysfs import Sysfs
from volplug.models import MountSource, Volume

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Look(Protocol):
    """One look at this host's disks, for any number of questions. All of it blocks."""

    def find(self, volume: Volume, name: str = "") -> MountSource | None:
        """Return a volume's disk, or None if there is none that can be used.

        Args:
            volume: The volume.
            name: The name it was attached by, where that is known; where disks have no serial, the disk
                under it is taken for the volume's from here on.

        Raises:
            DeviceMismatch: If a disk claims to be the volume and contradicts its record.
        """
        ...

    def has(self, volume_id: str) -> bool:
        """Tell whether the kernel still shows the volume, in whatever condition."""
        ...

    def nodes_to_test(self, volume_id: str) -> Sequence[str]:
        """Return the nodes by which the kernel can be asked who uses the volume, in whatever condition it is.

        Raises:
            HostError: If there is a disk without such a node.
        """
        ...


class Devices(Protocol):
    """How volumes show on one kind of instance. All of it blocks."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names that volumes can be attached by."""
        ...

    def look(self) -> Look:
        """Look at the disks.

        Raises:
            HostError: If sysfs cannot be read.
        """
        ...

    def visible_names(self) -> Collection[str]:
        """Return names to attach by that show as disks; none where they do not show."""
        ...

    def attached_count(self) -> int:
        """Return how many EBS volumes this host shows."""
        ...

    def forget(self, volume_id: str) -> None:
        """Drop what is noted of a volume's disk."""
        ...


def devices_of(sysfs: Sysfs, model: str, notes: Path) -> Devices:
    """Return what fits this host. Blocks."""
    return XenDevices(sysfs, notes) if sysfs.is_xen() else NitroDevices(sysfs, model)


def serial_of(volume_id: str) -> str:
    """Return the serial of a volume's disk."""
    return volume_id.replace("-", "", 1)


class NitroDevices:
    """Disks with serials. See `Devices`."""

    names: Final = NITRO_NAMES

    def __init__(self, sysfs: Sysfs, model: str) -> None:
        self._sysfs = sysfs
        self._model = model

    def look(self) -> _NitroLook:
        """Read the serials."""
        return _NitroLook(self._sysfs, self._model, self._sysfs.serials())

    def visible_names(self) -> Collection[str]:
        """Return nothing: a disk does not show what it was attached by."""
        return ()

    def attached_count(self) -> int:
        """Count disks with a volume's serial; the root's is one."""
        return sum(serial.startswith("vol") for serial in self._sysfs.serials())

    def forget(self, volume_id: str) -> None:
        """Do nothing: nothing is noted."""


@dataclass(frozen=True)
class _NitroLook:
    sysfs: Sysfs
    model: str
    serials: Mapping[str, list[str]]

    def find(self, volume: Volume, name: str = "") -> MountSource | None:
        serial = serial_of(volume.volume_id)
        found = self.serials.get(serial, [])
        if len(found) > 1:
            raise DeviceMismatch(f"several disks have the serial {serial}: {', '.join(sorted(found))}")
        disk = self.sysfs.disk(found[0]) if found else None
        if disk is None:
            return None
        if disk.model != self.model:
            raise DeviceMismatch(f"{disk.node} has the serial {serial}, but its model is {disk.model!r}")
        return disk.source_of(volume, serial)

    def has(self, volume_id: str) -> bool:
        return serial_of(volume_id) in self.serials

    def nodes_to_test(self, volume_id: str) -> Sequence[str]:
        names = self.serials.get(serial_of(volume_id), [])
        return [node for node in map(self.sysfs.node_to_test, names) if node]


@dataclass(frozen=True, slots=True)
class _Note:
    """What is noted of a disk that was attached.

    Attributes:
        kernel_name: Its name in sysfs.
        sequence: The kernel's number of it.
        boot_id: Names and numbers are those of one boot.
    """

    kernel_name: str
    sequence: str
    boot_id: str


class XenDevices:
    """Disks without serials. See `Devices`.

    Args:
        sysfs: This host's disks.
        notes: The file for what is known of them; lost notes are made again from EC2's word.
        boot_id: Which boot this is; by default the kernel is asked.
    """

    names: Final = XEN_NAMES

    def __init__(self, sysfs: Sysfs, notes: Path, boot_id: str = "") -> None:
        self._sysfs = sysfs
        self._path = notes
        self._boot_id = boot_id or _BOOT_ID.read_text(encoding="ascii").strip()
        self._changing = threading.Lock()
        self._notes = self._read()

    def look(self) -> _XenLook:
        """Read the names."""
        return _XenLook(self, self._sysfs, frozenset(self._sysfs.names()))

    def visible_names(self) -> Collection[str]:
        """Return the names of all disks; some kernels say sdX for /dev/xvdX."""
        return {f"/dev/xvd{name.removeprefix('xvd').removeprefix('sd')}" for name in self._sysfs.names()}

    def attached_count(self) -> int:
        """Count disks with names of volumes; the root's is one."""
        return sum(name.startswith(("xvd", "sd")) for name in self._sysfs.names())

    def note_of(self, volume_id: str) -> str:
        """Return the kernel's name of a volume's disk if it is still the disk that was noted, else ""."""
        note = self._notes.get(volume_id)
        if note is None or note.boot_id != self._boot_id:
            return ""
        return note.kernel_name if self._sysfs.sequence(note.kernel_name) == note.sequence else ""

    def note(self, volume_id: str, kernel_name: str, sequence: str) -> None:
        """Note a disk; whatever was noted under the name before is over."""
        with self._changing:
            kept = {each: note for each, note in self._notes.items() if note.kernel_name != kernel_name}
            self._write({**kept, volume_id: _Note(kernel_name, sequence, self._boot_id)})

    def forget(self, volume_id: str) -> None:
        """Drop what is noted of a volume's disk."""
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
        """Replace the file; no fsync, for a power cut is another boot, which makes all notes void."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            text = json.dumps({each: asdict(note) for each, note in notes.items()})
            replace_file(self._path, text, is_durable=False)
        except OSError as error:
            raise HostError(f"{self._path} cannot be written: {error.strerror}") from error
        self._notes = notes


@dataclass(frozen=True)
class _XenLook:
    devices: XenDevices
    sysfs: Sysfs
    names: Collection[str]

    def find(self, volume: Volume, name: str = "") -> MountSource | None:
        kernel_name = self.devices.note_of(volume.volume_id)
        if not name or kernel_name:
            disk = self.sysfs.disk(kernel_name) if kernel_name in self.names else None
            return disk.source_of(volume, volume.volume_id) if disk else None
        return self._appeared(volume, name.rpartition("/")[2])

    def _appeared(self, volume: Volume, name: str) -> MountSource | None:
        letters = name.removeprefix("xvd").removeprefix("sd")
        for kernel_name in (f"xvd{letters}", f"sd{letters}"):
            disk = self.sysfs.disk(kernel_name) if kernel_name in self.names else None
            if disk is not None:
                source = disk.source_of(volume, volume.volume_id)
                self.devices.note(volume.volume_id, kernel_name, disk.sequence)
                return source
        return None

    def has(self, volume_id: str) -> bool:
        return self.devices.note_of(volume_id) in self.names

    def nodes_to_test(self, volume_id: str) -> Sequence[str]:
        node = self.sysfs.node_to_test(self.devices.note_of(volume_id)) if self.has(volume_id) else ""
        return [node] if node else []
