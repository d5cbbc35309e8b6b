"""Loop devices in use, and the end of those that a lab left attached."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.programs import find_program
from tests.lab.waiting import wait_until
from volplug.host import loopdev


@dataclass(frozen=True)
class LoopDevice:
    """A loop device and its image: the path as the kernel tells it, and the file itself."""

    name: str
    image: str
    file: tuple[int, int]


def attached() -> list[LoopDevice]:
    """Every loop device in use."""
    return [
        LoopDevice(device.path, _image(device.path), (device.backing_dev, device.backing_inode))
        for device in loopdev.attached()
    ]


def _image(device: str) -> str:
    """The path of the image as the kernel tells it; empty if the device was detached meanwhile."""
    try:
        return Path(f"/sys/block/{Path(device).name}/loop/backing_file").read_text().rstrip("\n")
    except OSError:
        return ""


def attached_below(directory: Path) -> list[LoopDevice]:
    """The loop devices whose images lie below ``directory``.

    The path alone does not tell: an image that was reached through a mount which is gone by now has
    a path that begins at that mount.
    """
    devices = attached()
    files = _files_below(directory) if devices else set()
    return [d for d in devices if d.file in files or d.image.startswith(f"{directory}/")]


def detach_below(directory: Path, timeout_s: float = 10.0) -> list[str]:
    """Detach what is left attached below ``directory``; returns the images that were."""
    left = attached_below(directory)
    for device in left:
        subprocess.run([find_program("losetup"), "--detach", device.name], check=False, capture_output=True)
    wait_until(lambda: not attached_below(directory), timeout_s, f"no loop device is used below {directory}")
    return sorted(device.image for device in left)


def _files_below(directory: Path) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for parent, _, names in os.walk(directory):
        for name in names:
            status = (Path(parent) / name).lstat()
            found.add((status.st_dev, status.st_ino))
    return found
