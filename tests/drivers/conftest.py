import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.disks import Disk
from tests.lab import loops
from tests.lab.leftovers import mounted_below
from volplug.drivers.loop.directory import unlock_all
from volplug.sizes import MIB


def _clean(directory: Path) -> None:
    """Undo what a test left attached or mounted below its directory, and fail if something stays."""
    unlock_all()
    for place in mounted_below(directory):
        loops.detach_below(Path(place))  # images on a disk go before the disk
        subprocess.run(["umount", place], check=True, capture_output=True)
        Path(place).rmdir()  # takes the mount out of other mount namespaces that copied it, too
    loops.detach_below(directory)
    assert mounted_below(directory) == []
    assert loops.attached_below(directory) == []


def _need_loop_devices() -> None:
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Path]:
    """A directory for images, which may not exist yet."""
    _need_loop_devices()
    try:
        yield tmp_path / "images"
    finally:
        _clean(tmp_path)


@pytest.fixture(scope="module", params=["ext4", "xfs", "btrfs"])
def mounted_disk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a disk of 512 MiB is mounted, one for all tests of a module; takes space only as it is used."""
    _need_loop_devices()
    directory = tmp_path_factory.mktemp(request.param)
    image, place = directory / "disk", directory / "mounted"
    with image.open("xb") as file:
        file.truncate(512 * MIB)
    place.mkdir()
    subprocess.run([f"mkfs.{request.param}", "-q", str(image)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        _clean(directory)


@pytest.fixture
def host_disk(mounted_disk: Path) -> Iterator[Path]:
    """The same, empty before each test and again after it: no image on it may stay attached."""
    try:
        yield mounted_disk
    finally:
        left = loops.detach_below(mounted_disk)
        for path in mounted_disk.glob("*"):
            if path.name != "lost+found":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert left == []


@pytest.fixture
def disk(images: Path) -> Disk:
    """The same directory as the root of a disk of 64 MiB."""
    images.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", str(images)], check=True)
    return Disk(images)
