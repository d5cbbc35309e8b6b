"""The lower bound: the same work on the same kind of image by shell commands, and by bare system calls."""

import ctypes
import errno
import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.client import CallError
from tests.lab.programs import clean_environment

_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE, _LOOP_CLR_FD = 0x4C82, 0x4C0A, 0x4C01
# struct loop_config of linux/loop.h: fd, block size, loop_info64 of which only lo_flags is set, reserved.
_CONFIG = struct.Struct("=2I5Q4I64s64s32s2Q64x")
_DIRECT_IO = 16
_ATTACH_TRIES = 50
_NONE = bytes(0)
_libc = ctypes.CDLL(None, use_errno=True)


class Shell:
    """One shell that runs the commands that one would type, so that only they are started each time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["sh"], env=clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.__exit__(kind, error, trace)

    def run(self, script: str) -> float:
        """Run commands and return the milliseconds they took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        begun = time.perf_counter_ns()
        self._process.stdin.write(f"{script}\necho $?\n".encode())
        self._process.stdin.flush()
        code = self._process.stdout.readline()
        taken = (time.perf_counter_ns() - begun) / 1e6
        if code != b"0\n":
            raise CallError(f"{script!r} ended with {code!r}")
        return taken


def pair_script(image: Path, target: Path) -> str:
    """Return the commands that attach, mount, unmount and detach."""
    return f"{mount_script(image, target)} && umount {target} && losetup --detach $device"


def mount_script(image: Path, target: Path) -> str:
    """Return the commands that attach and mount."""
    losetup = f"device=$(losetup --find --show --direct-io=on {image})"
    return f"{losetup} && mount -t ext4 $device {target}"


def attach(image: Path) -> str:
    """Attach by LOOP_CTL_GET_FREE and LOOP_CONFIGURE, without any check."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    file = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTACH_TRIES):
            path = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            if _configure(path, file):
                return path
    finally:
        os.close(file)
        os.close(control)
    raise CallError("other programs take every free loop device first")


def _configure(path: str, file: int) -> bool:
    config = _CONFIG.pack(file, 0, 0, 0, 0, 0, 0, 0, 0, 0, _DIRECT_IO, _NONE, _NONE, _NONE, 0, 0)
    device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _LOOP_CONFIGURE, config)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    finally:
        os.close(device)
    return True


def detach(device: str) -> None:
    """LOOP_CLR_FD."""
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _LOOP_CLR_FD)
    finally:
        os.close(descriptor)


def mount(device: str, target: Path) -> None:
    """Mount without options."""
    arguments = (device.encode(), os.fsencode(target), b"ext4", ctypes.c_ulong(0), b"")
    if _libc.mount(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"mount {device}: {os.strerror(ctypes.get_errno())}")


def unmount(target: Path) -> None:
    """Unmount."""
    if _libc.umount2(os.fsencode(target), 0) != 0:
        raise OSError(ctypes.get_errno(), f"umount {target}: {os.strerror(ctypes.get_errno())}")


def pair(image: Path, target: Path) -> float:
    """Attach, mount, unmount and detach; return the milliseconds."""
    begun = time.perf_counter_ns()
    device = attach(image)
    mount(device, target)
    unmount(target)
    detach(device)
    return (time.perf_counter_ns() - begun) / 1e6


def copies(image: Path, directory: Path, count: int) -> Sequence[tuple[Path, Path]]:
    """Make images with the same content, and a directory to mount each on."""
    made = []
    for number in range(count):
        copy, target = directory / f"{number}.img", directory / f"{number}"
        target.mkdir(parents=True)
        subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
        made.append((copy, target))
    return made
