"""The data directory: the one inside a volume's filesystem that containers see. Every function blocks."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final

from volplug.errors import HostError
from volplug.host import libc
from volplug.host.devices import opened
from volplug.host.filesystems import how_to_repair
from volplug.host.filesystems.base import DAMAGED
from volplug.models import VolumeSpec

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def make_data_directory(target: str, subpath: str, spec: VolumeSpec) -> None:
    """Make the directory with the spec's owner and mode, and sync it; doing so twice is harmless.

    A directory that is not empty was used before, whatever the volume's tag is: its owner and mode are kept.

    Args:
        target: Where the filesystem is mounted.
        subpath: Name of the directory; empty for the root of the filesystem, which is only given its owner.
        spec: Its uid, gid and mode are used, and its filesystem type for the error.

    Raises:
        HostError: With the kernel's reason.
    """
    try:
        with opened(target, _DIRECTORY) as root:
            if subpath:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(subpath, 0o700, dir_fd=root)
            with _opened_below(root, subpath) as directory:
                if not (subpath and os.listdir(directory)):
                    os.fchown(directory, spec.uid, spec.gid)
                    os.fchmod(directory, spec.mode)  # after fchown, which clears setuid and setgid bits
                os.fsync(directory)
                os.fsync(root)
                libc.syncfs(directory)
    except OSError as exc:
        raise _unusable("made", target, subpath, spec.fs_type, exc) from exc


def has_data_directory(target: str, subpath: str, fs_type: str) -> bool:
    """Return whether it is there, as a real directory and not a link to one.

    Raises:
        HostError: With the kernel's reason, if it cannot be read.
    """
    try:
        with opened(target, _DIRECTORY) as root, _opened_below(root, subpath):
            return True
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise _unusable("read", target, subpath, fs_type, exc) from exc


def _unusable(how: str, target: str, subpath: str, fs_type: str, exc: OSError) -> HostError:
    path = os.path.join(target, subpath)
    if exc.errno in DAMAGED:
        return HostError(
            f"the volume's filesystem is damaged: {path} cannot be {how} ({exc.strerror})",
            how_to_repair(fs_type),
        )
    return HostError(f"the data directory {path} cannot be {how}: {exc.strerror}")


@contextlib.contextmanager
def _opened_below(root: int, subpath: str) -> Iterator[int]:
    """Open one directory of a directory, by its name alone and never through a link."""
    descriptor = os.open(subpath or ".", _DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
