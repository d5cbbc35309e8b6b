"""Loop devices, as sysfs tells them."""

import subprocess
from pathlib import Path

from tests.lab.waiting import wait_until


def attached() -> dict[str, str]:
    """Every loop device in use and the path of its image, as the kernel tells it."""
    found: dict[str, str] = {}
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found[f"/dev/{entry.parent.parent.name}"] = entry.read_text().strip()
        except OSError:
            continue  # detached between the listing and the reading
    return found


def attached_below(directory: Path) -> dict[str, str]:
    """The loop devices whose images lie below ``directory``."""
    prefix = f"{directory}/"
    return {device: image for device, image in attached().items() if image.startswith(prefix)}


def detach_below(directory: Path, timeout_s: float = 10.0) -> list[str]:
    """Detach what is left attached below ``directory``; returns the images that were."""
    left = attached_below(directory)
    for device in left:
        subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)
    wait_until(lambda: not attached_below(directory), timeout_s, f"no loop device is used below {directory}")
    return sorted(left.values())
