"""Loop devices in use; detaches those that a lab left attached."""

import contextlib
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from tests.lab.programs import find_program
from tests.lab.waiting import wait_until
from volplug.host import loopdev


@dataclass(frozen=True)
class LoopDevice:
    """A loop device and its image: the path as the kernel reports it, and the file itself."""

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
    """The path of the image as the kernel reports it; empty if the device was detached meanwhile."""
    try:
        return Path(f"/sys/block/{Path(device).name}/loop/backing_file").read_text().rstrip("\n")
    except OSError:
        return ""


def attached_below(directory: Path) -> list[LoopDevice]:
    """The loop devices whose images lie below ``directory``, with the images' paths there.

    The kernel's path alone does not suffice: it belongs to the namespace in which the image was opened, and
    that of an image on a mount that is gone by now begins at that mount.
    """
    below = []
    files: dict[tuple[int, int], str] | None = None
    for device in attached():
        if device.image.startswith(f"{directory}/"):
            below.append(device)
        elif not _leads_to_its_file(device):
            files = _files_below(directory) if files is None else files
            if device.file in files:
                below.append(replace(device, image=files[device.file]))
    return below


def detach_below(directory: Path, timeout_s: float = 10.0) -> list[str]:
    """Detach what is left attached below ``directory``; return the images."""
    left = attached_below(directory)
    for device in left:
        subprocess.run([find_program("losetup"), "--detach", device.name], check=False, capture_output=True)
    wait_until(
        lambda: not attached_below(directory), timeout_s, f"no loop device is in use below {directory}"
    )
    return sorted(device.image for device in left)


def _leads_to_its_file(device: LoopDevice) -> bool:
    try:
        status = os.stat(device.image)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == device.file


def _files_below(directory: Path) -> dict[tuple[int, int], str]:
    found: dict[tuple[int, int], str] = {}
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # another lab's, which is being removed
                status = os.lstat(f"{parent}/{name}")
                found[status.st_dev, status.st_ino] = f"{parent}/{name}"
    return found
