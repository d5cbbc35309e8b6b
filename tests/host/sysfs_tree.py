"""Trees in the shape of /sys and /dev; the nodes in them are those of this machine's loop devices."""

from __future__ import annotations

import os
from pathlib import Path

from volplug.host.sysfs import Sysfs

MODEL = "Amazon Elastic Block Store"
_LOOP_MAJOR = 7


class Tree:
    """The disks of one host.

    Args:
        root: Where the tree is made.
        vendor: What the firmware says; by default it is an instance of EC2's Nitro.
    """

    def __init__(self, root: Path, vendor: str = "Amazon EC2") -> None:
        self.sys, self.dev = root / "sys", root / "dev"
        (self.sys / "block").mkdir(parents=True)
        self.dev.mkdir()
        self._write("devices/virtual/dmi/id/sys_vendor", vendor)
        self.sysfs = Sysfs(self.sys, self.dev)

    def add(
        self,
        name: str,
        size_bytes: int,
        *,
        serial: str = "",
        model: str = MODEL,
        sequence: str = "1",
        minor: int = 0,
        node_minor: int | None = None,
        has_node: bool = True,
    ) -> None:
        """Make a disk; attributes are padded as NVMe pads them."""
        place = f"block/{name}"
        self._write(f"{place}/size", str(size_bytes // 512))
        self._write(f"{place}/dev", f"{_LOOP_MAJOR}:{minor}")
        self._write(f"{place}/diskseq", sequence)
        if serial:
            self._write(f"{place}/device/serial", serial.ljust(20))
            self._write(f"{place}/device/model", model.ljust(40))
        if has_node:
            number = os.makedev(_LOOP_MAJOR, minor if node_minor is None else node_minor)
            os.mknod(self.dev / name, 0o600 | 0o060000, number)

    def remove(self, name: str) -> None:
        """Take a disk away."""
        for path in sorted((self.sys / "block" / name).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (self.sys / "block" / name).rmdir()
        (self.dev / name).unlink(missing_ok=True)

    def _write(self, path: str, text: str) -> None:
        place = self.sys / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")
