"""What tests on real volumes look at: images, mounts, and who holds them."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import leftovers, loops
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until

_HOLD = "import sys; kept = open(sys.argv[1] + '/held', 'w'); print('holding', flush=True); sys.stdin.read()"


def image_of(volplug: VolplugProcess, name: str) -> Path:
    return volplug.state_dir / "backends" / "loop" / f"{name}.img"


def record_of(volplug: VolplugProcess, name: str) -> Path:
    return image_of(volplug, name).with_suffix(".json")


def mount_of(volplug: VolplugProcess, name: str) -> Path:
    return volplug.state_dir / "mounts" / name


def is_mounted(volplug: VolplugProcess, name: str) -> bool:
    return str(mount_of(volplug, name)) in leftovers.mounted_below(volplug.state_dir)


def is_attached(volplug: VolplugProcess, name: str) -> bool:
    image = str(image_of(volplug, name))
    return any(device.image == image for device in loops.attached_below(volplug.state_dir))


def wait_until_detached(volplug: VolplugProcess, name: str) -> None:
    wait_until(lambda: not is_attached(volplug, name), 20, f"{name} is detached")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def process_in(directory: Path) -> Iterator[int]:
    """A process of our mount namespace with a file open below the directory; gives its pid."""
    with _holding([sys.executable, "-c", _HOLD, str(directory)]) as pid:
        yield pid


@contextmanager
def container_of(directory: Path, place: Path) -> Iterator[int]:
    """A process in a mount namespace of its own with the directory bound at a place, as in a container."""
    place.mkdir(exist_ok=True)
    bind = f"mount --bind {directory} {place} && echo holding && read line < /dev/stdin; true"
    with _holding(["unshare", "-m", "--propagation", "private", "sh", "-c", bind]) as pid:
        yield pid


@contextmanager
def onlooker() -> Iterator[int]:
    """A process in a mount namespace of its own that sees every mount and uses none."""
    look = "echo holding; read line < /dev/stdin; true"
    with _holding(["unshare", "-m", "--propagation", "private", "sh", "-c", look]) as pid:
        yield pid


@contextmanager
def _holding(argv: list[str]) -> Iterator[int]:
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"holding\n"
            yield process.pid
        finally:
            process.kill()
