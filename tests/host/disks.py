"""Real loop devices and mounts for tests, which vanish with the test whatever happens in it."""

import os
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from tests.lab.waiting import wait_until
from volplug.host import loop_attach, mountinfo
from volplug.host.devices import is_held_now
from volplug.host.filesystems import FILESYSTEMS
from volplug.host.format_mark import mark_of, mark_region
from volplug.host.loopdev import LoopDevice
from volplug.models import BlockDevice, FilesystemPhase, FilesystemTag, VolumeSpec

P = ParamSpec("P")
T = TypeVar("T")

MIB = 1024**2
SMALL_MIB = {"ext4": 8, "xfs": 300, "btrfs": 128}
FS_TYPES = tuple(SMALL_MIB)


@dataclass(frozen=True)
class Disk:
    """An attached image.

    Attributes:
        image: its file.
        device: its loop device.
        source: the same, as the host layer takes it.
    """

    image: Path
    device: LoopDevice
    source: BlockDevice

    @property
    def path(self) -> str:
        return self.device.path

    def write(self, offset: int, data: bytes) -> None:
        with open(self.path, "r+b") as file:
            file.seek(offset)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


class Disks:
    """Makes disks below one directory, and undoes all mounts and attachments there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._programs: list[subprocess.Popen[bytes]] = []

    def image(self, size_mib: int, name: str = "image") -> Path:
        """A sparse file of zeros."""
        path = self.directory / name
        with path.open("xb") as file:
            file.truncate(size_mib * MIB)
        return path

    def attach(self, image: Path) -> Disk:
        device = aside(loop_attach.attach, str(image), image.name)
        return Disk(image, device, BlockDevice(device.path, image.name, image.stat().st_size))

    def blank(self, size_mib: int, name: str = "image") -> Disk:
        return self.attach(self.image(size_mib, name))

    def target(self, name: str = "volume") -> str:
        return str(self.directory / "mounts" / name)

    def holder(self, script: str, *wrapper: str) -> subprocess.Popen[bytes]:
        """Start a shell that runs the script, says it is ready, and lives until its input is closed."""
        program = subprocess.Popen(
            [*wrapper, "sh", "-c", f"set -e; {script}; echo ready; read end"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
        )
        self._programs.append(program)
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        return program

    def in_another_namespace(self, script: str) -> subprocess.Popen[bytes]:
        """The same in a mount namespace of its own, which no unmount of ours reaches."""
        return self.holder(script, "unshare", "-m", "--propagation", "private")

    def close(self) -> None:
        for program in self._programs:
            end(program)
        for mountpoint in reversed(self.mounted()):
            subprocess.run(["umount", "--lazy", mountpoint], check=False, capture_output=True)
        assert self.mounted() == []
        for device in self.attached():
            subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)
        wait_until(lambda: not self.attached(), 20, "no image of the test is attached")

    def attached(self) -> list[str]:
        """The loop devices of images below the directory; asks sysfs, not the code that is tested."""
        found = []
        for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
            with suppress(OSError):  # detached meanwhile
                if entry.read_text().startswith(f"{self.directory}/"):
                    found.append(f"/dev/{entry.parts[3]}")
        return found

    def mounted(self) -> list[str]:
        prefix = f"{self.directory}/"
        entries = mountinfo.parse(aside(mountinfo.read))
        return [entry.mountpoint for entry in entries if entry.mountpoint.startswith(prefix)]


def aside(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call what may block from a test that runs in an event loop, where the package itself may not block."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call, *args, **kwargs).result()


@contextmanager
def held(path: str) -> Iterator[None]:
    """Hold a device exclusively."""
    descriptor = os.open(path, os.O_RDONLY | os.O_EXCL)
    try:
        yield
    finally:
        os.close(descriptor)


def assert_let_go(disk: Disk) -> None:
    """A namespace that another test makes copies our mounts, and may keep them a moment longer."""
    wait_until(lambda: not is_held_now(disk.path), 20, f"{disk.path} is let go")


def end(program: subprocess.Popen[bytes]) -> None:
    program.communicate()


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def damage_inode(path: str, inode: str) -> None:
    """Damage an inode of an ext4 that is not mounted: its checksum is wrong."""
    block, offset = re.findall(
        r"block (\d+), offset 0x([0-9a-f]+)", run("debugfs", "-R", f"imap {inode}", path)
    )[0]
    block_bytes = int(re.findall(r"Block size: +(\d+)", run("dumpe2fs", "-h", path))[0])
    with open(path, "r+b") as file:
        file.seek(int(block) * block_bytes + int(offset, 16) + 100)
        file.write(b"\xff" * 4)
        file.flush()
        os.fsync(file.fileno())


def mark(disk: Disk, tag: FilesystemTag) -> None:
    """As before mkfs."""
    disk.write(mark_region(tag.fs_type, disk.source.size_bytes).offset, mark_of(tag))


def mkfs_argv(disk: Disk, tag: FilesystemTag, options: Sequence[str] = ()) -> tuple[str, ...]:
    return FILESYSTEMS[tag.fs_type].mkfs_argv(disk.path, options, tag.uuid)


def plan(fs_type: str) -> FilesystemTag:
    return FilesystemTag(FilesystemPhase.FORMATTING, fs_type, str(uuid.uuid4()))


def formatted(tag: FilesystemTag) -> FilesystemTag:
    return FilesystemTag(FilesystemPhase.FORMATTED, tag.fs_type, tag.uuid)


def spec_of(fs_type: str, options: Sequence[str] = ()) -> VolumeSpec:
    return VolumeSpec("volume", SMALL_MIB[fs_type] * MIB, fs_type, mkfs_options=tuple(options))
