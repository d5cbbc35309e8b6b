import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.disks import Disk
from tests.lab import loops
from tests.lab.leftovers import mounted_below


def _clean(directory: Path) -> None:
    """Undo what a test left attached or mounted below its directory, and fail if something stays."""
    loops.detach_below(directory)
    for place in mounted_below(directory):
        subprocess.run(["umount", place], check=True, capture_output=True)
    assert mounted_below(directory) == []
    assert loops.attached_below(directory) == []


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Path]:
    """A directory for images, which may not exist yet."""
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")
    try:
        yield tmp_path / "images"
    finally:
        _clean(tmp_path)


@pytest.fixture
def disk(images: Path) -> Disk:
    """The same directory as the root of a disk of 64 MiB."""
    images.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(images)], check=True)
    return Disk(images)
