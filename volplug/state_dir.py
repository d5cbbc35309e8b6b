"""The state directory: locks it for one process, checks its identity, and closes it to other users.

An empty directory in place of the real one (its disk not mounted, a setting reverted by an upgrade) would
make Docker forget every volume. So the directory has an id, and a copy of the id is kept in another place.

Volumes hold files of containers, setuid programs included. So the directories above them are closed to all
users but root.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from volplug.errors import AlreadyRunning, HostError
from volplug.host.devices import opened
from volplug.host.directory_id import mark_directory

_ID_FILE: Final = "state-id"
_LOCK_FILE: Final = "lock"


def lock_state_dir(directory: Path) -> int:
    """Make the directory if it does not exist and lock it for this process.

    Returns:
        A descriptor that has to stay open as long as this process serves.

    Raises:
        AlreadyRunning: If another process has locked it; with its pid.
        HostError: If the directory cannot be used.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(directory / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(f"the state directory {directory} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise AlreadyRunning(
            f"the state directory {directory} is in use by process {holder}",
            "Stop that process, or give this one another VOLPLUG_STATE_DIR",
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def close_state_dir(directory: Path) -> None:
    """Close the state directory to other users, if volplug has marked it before, or check that it is closed.

    Raises:
        HostError: If other users can access it; a directory that is not marked is not changed.
    """
    try:
        is_ours = (directory / _ID_FILE).lstat().st_uid == os.geteuid()
    except OSError:
        is_ours = False
    _close(directory, "state directory", is_ours=is_ours)


def close_mount_root(mount_root: Path, state_dir: Path) -> None:
    """Make the mount root, closed to other users; one in the state directory is closed, another is checked.

    Raises:
        HostError: If it cannot be made, or other users can access it.
    """
    try:
        mount_root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise HostError(f"the mount root {mount_root} cannot be made: {error.strerror}") from error
    _close(mount_root, "mount root", is_ours=mount_root.is_relative_to(state_dir))


def _close(directory: Path, what: str, *, is_ours: bool) -> None:
    try:
        with opened(str(directory), os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            status = os.fstat(descriptor)
            if status.st_uid == os.geteuid() and is_ours:
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & 0o700)
                return
    except OSError as error:
        raise HostError(f"the {what} {directory} cannot be used: {error.strerror}") from error
    if status.st_uid != os.geteuid():
        raise HostError(
            f"the {what} {directory} belongs to user {status.st_uid}", f"chown {os.geteuid()} {directory}"
        )
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise HostError(
            f"the {what} {directory} is open to other users of this host (mode {mode:04o})",
            f"chmod 0700 {directory}",
        )


def check_state_id(directory: Path, marker: Path | None) -> None:
    """Check that this is the directory that was used before; at the first use, write its id and the copy.

    Raises:
        StateUnusable: If the copy is the id of another directory.
    """
    mark_directory(directory / _ID_FILE, marker, "state directory")
