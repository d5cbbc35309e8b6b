"""A guest's /sys and /dev, made of files and device nodes: where programs search for disks.

It uses the standard library alone, because nova-compute uses it, too, in an environment of its own.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Mapping
from typing import Final, NamedTuple

_SECTOR_BYTES: Final = 512


class GuestDisk(NamedTuple):
    """A disk as a guest's kernel shows it.

    Attributes:
        name: Its kernel name, such as vdb.
        size_bytes: Its size.
        number: The number of its block device.
        attributes: Further files of its directory in /sys/block, such as device/serial, and their contents.
    """

    name: str
    size_bytes: int
    number: tuple[int, int]
    attributes: Mapping[str, str | bytes]


class GuestDisks:
    """The disks of one guest; its /sys and /dev are DIRECTORY/sys and DIRECTORY/dev.

    Attributes:
        sys_root: Its /sys.
        dev_root: Its /dev.
    """

    def __init__(self, directory: str) -> None:
        self.sys_root = f"{directory}/sys"
        self.dev_root = f"{directory}/dev"
        self._blocks = f"{self.sys_root}/block"

    def boot(self, facts: Mapping[str, str], root: GuestDisk) -> None:
        """Make both directories.

        Args:
            facts: Files below /sys, and their contents.
            root: The disk of the system, which has no device node.
        """
        os.makedirs(self.dev_root, exist_ok=True)
        for path, text in facts.items():
            _write(f"{self.sys_root}/{path}", text)
        self._make(root)

    def names(self) -> set[str]:
        """Return the kernel names of all disks."""
        return {name for name in os.listdir(self._blocks) if not name.startswith(".")}

    def show(self, disk: GuestDisk) -> None:
        """Show a disk and its device node."""
        os.mknod(f"{self.dev_root}/{disk.name}", stat.S_IFBLK | 0o600, os.makedev(*disk.number))
        self._make(disk)

    def resize(self, name: str, size_bytes: int) -> None:
        """Show another size."""
        _write(f"{self._blocks}/.size", str(size_bytes // _SECTOR_BYTES))
        os.rename(f"{self._blocks}/.size", f"{self._blocks}/{name}/size")

    def hide(self, name: str) -> None:
        """Hide a disk at once, as it disappears."""
        os.rename(f"{self._blocks}/{name}", f"{self._blocks}/.gone")
        os.unlink(f"{self.dev_root}/{name}")
        shutil.rmtree(f"{self._blocks}/.gone")

    def _make(self, disk: GuestDisk) -> None:
        new = f"{self._blocks}/.new-{disk.name}"
        _write(f"{new}/size", str(disk.size_bytes // _SECTOR_BYTES))
        _write(f"{new}/dev", f"{disk.number[0]}:{disk.number[1]}")
        os.makedirs(f"{new}/device")
        for path, content in disk.attributes.items():
            _write(f"{new}/{path}", content)
        os.rename(new, f"{self._blocks}/{disk.name}")  # readers see all of it or nothing


def first_free(prefix: str, taken: set[str]) -> str:
    """Return the first name that is not taken, as the kernel names disks: PREFIXa, PREFIXb and so on."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [f"{prefix}{first}{last}" for first in ("", *letters) for last in letters]
    return next(name for name in names if name not in taken)


def announce(path: str) -> None:
    """Let the kernel send a uevent of a device, as it does when a real one appears or disappears."""
    name = os.path.basename(path)
    with (
        contextlib.suppress(OSError),  # where /sys is read-only
        open(f"/sys/class/block/{name}/uevent", "w", encoding="ascii") as file,
    ):
        file.write("change")


def _write(path: str, content: str | bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(f"{content}\n".encode("ascii") if isinstance(content, str) else content)
