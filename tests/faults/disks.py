"""Small disks that can be filled and taken away, in the place of those that volplug writes to."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from tests.lab import leftovers, loops
from tests.lab.waiting import wait_until

_BLOCK = 4096
# A process whose threads hang on a frozen disk cannot end, and so not thaw it: the disk thaws in any case.
_FREEZE = 'fsfreeze --freeze "$0" && echo frozen && read -t 60; fsfreeze --unfreeze "$0"'


@dataclass(frozen=True)
class SmallDisk:
    """An ext4 disk of its own, mounted at a directory.

    Attributes:
        image: The file that the disk is.
        directory: Where it is mounted.
    """

    image: Path
    directory: Path

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self.image, self.directory], check=True)

    def take_away(self) -> None:
        """What a lazy unmount by hand does: no path leads to it any more, whoever has it open goes on."""
        subprocess.run(["umount", "--lazy", self.directory], check=True)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let all writes hang, as on a device that does not answer; what is in memory can be read."""
        with subprocess.Popen(
            ["bash", "-c", _FREEZE, self.directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"frozen\n"
            yield

    def fill(self, *, but_bytes: int = 0) -> None:
        """Write until nothing fits any more, then free some bytes."""
        with (self.directory / "filler").open("wb", buffering=0) as file:
            while self._filled(file):
                # What was deleted before is free only after the journal's next commit.
                subprocess.run(["sync", "--file-system", self.directory], check=True)
            file.truncate(file.tell() // _BLOCK * _BLOCK - but_bytes)
            os.fsync(file.fileno())

    @staticmethod
    def _filled(file: FileIO) -> bool:
        """Write until nothing fits any more; tell whether anything did."""
        before = file.tell()
        for size in (2**20, _BLOCK, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
        return file.tell() > before

    def make_room(self) -> None:
        (self.directory / "filler").unlink()


@contextmanager
def small_disk(image: Path, directory: Path, size_mib: int) -> Iterator[SmallDisk]:
    """Mount a new disk at a directory, which is made; in the end nothing on it is attached or mounted."""
    disk = SmallDisk(image, directory)
    for each in reversed([directory, *directory.parents]):
        each.mkdir(mode=0o700, exist_ok=True)
    with disk.image.open("xb") as file:
        file.truncate(size_mib * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-b", str(_BLOCK), disk.image], check=True)
    disk.mount()
    directory.chmod(0o700)  # as an administrator is told to do
    try:
        yield disk
    finally:
        # Volumes that a failed test left first: once the disk is gone, nobody finds what is attached on it.
        for place in _below(image.parent):
            if "/mounts/" in place:
                subprocess.run(["umount", "--lazy", place], check=False)
        loops.detach_below(image.parent / "volplug")
        for place in _below(directory):
            subprocess.run(["umount", place], check=True)
        if str(directory) in _below(image.parent):
            disk.take_away()
        wait_until(lambda: not _is_attached(disk.image), 10, f"{disk.image} is let go")


def _below(directory: Path) -> list[str]:
    return leftovers.mounted_below(directory)


def _is_attached(image: Path) -> bool:
    return any(device.image == str(image) for device in loops.attached())
