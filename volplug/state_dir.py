"""The state directory: locks it for one process, checks its identity, and closes it to other users.

An empty directory in place of the real one (its disk not mounted, a setting reverted by an upgrade) would
make Docker forget every volume. So the directory has an id, and a copy of the id is kept in another place.

Volumes hold files of containers, setuid programs included. So the directories above them are closed to all
users but root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Final

from volplug.errors import AlreadyRunning, HostError
from volplug.host.devices import opened
from volplug.host.directory_id import mark_directory

_ID_FILE: Final = "state-id"
_LOCK_FILE: Final = "lock"
# How the names begin of what volplug makes in the directory.
_OWN_NAMES: Final = ("backends", ".control", "control", "lock", "mounts", "state")


def lock_state_dir(directory: Path) -> int:
    """Make the directory if it does not exist, close it to other users, and lock it for this process.

    In a directory that is refused nothing is made or changed.

    Returns:
        A descriptor that has to stay open as long as this process serves.

    Raises:
        AlreadyRunning: If another process has locked it; with its pid.
        HostError: If the directory cannot be used, or other users can access it. One that volplug has marked
            and that others cannot write to is closed instead.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with opened(str(directory), os.O_RDONLY | os.O_DIRECTORY) as place:
            _close(place, directory, "state directory", is_ours=_is_marked(place))
            _refuse_files_of_others(place, directory)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(_LOCK_FILE, flags, 0o600, dir_fd=place)
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


def close_mount_root(
    mount_root: Path, state_dir: Path, marker: Path | None, volumes: Collection[str]
) -> None:
    """Make the mount root, closed to other users; one that volplug made is closed, another is checked.

    volplug made it if it lies in the state directory, or beside the marker, as in the managed plugin, or if
    it holds nothing but volumes of this host. Earlier versions made it open to readers.

    Args:
        mount_root: A link is followed; what it leads to is judged.
        state_dir: Closed already.
        marker: A copy of the state directory's id that an earlier start wrote, or None.
        volumes: Names in the ledger.

    Raises:
        HostError: If it cannot be made, or other users can access it.
    """
    try:
        mount_root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise HostError(f"the mount root {mount_root} cannot be made: {error.strerror}") from error
    real = Path(os.path.realpath(mount_root))
    is_ours = real.is_relative_to(os.path.realpath(state_dir)) or (
        marker is not None and real.parent == Path(os.path.realpath(marker.parent))
    )
    try:
        with opened(str(real), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW) as place:
            held = set(os.listdir(place))
            is_ours = is_ours or (bool(held) and held <= set(volumes))
            _close(place, mount_root, "mount root", is_ours=is_ours)
    except OSError as error:
        raise HostError(f"the mount root {mount_root} cannot be used: {error.strerror}") from error


def _is_marked(place: int) -> bool:
    """Tell whether an open directory has volplug's id; where others can write that proves nothing."""
    try:
        status = os.stat(_ID_FILE, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _close(place: int, directory: Path, what: str, *, is_ours: bool) -> None:
    """Close a directory to other users if it is ours, or check that it is closed.

    One that others can write to is refused in any case: what is in it may be theirs.
    """
    status = os.fstat(place)
    if status.st_uid != os.geteuid():
        raise HostError(
            f"the {what} {directory} belongs to user {status.st_uid}", f"chown {os.geteuid()} {directory}"
        )
    mode = stat.S_IMODE(status.st_mode)
    if not mode & 0o077:
        return
    if mode & 0o022 or not is_ours:
        raise HostError(
            f"the {what} {directory} is open to other users of this host (mode {mode:04o})",
            f"chmod 0700 {directory}",
        )
    os.fchmod(place, mode & 0o700)


def _refuse_files_of_others(place: int, directory: Path) -> None:
    """Refuse what another user put where volplug's own files go, links included, while others could write."""
    for name in os.listdir(place):
        with contextlib.suppress(FileNotFoundError):  # a process that is stopping removes files
            owner = os.stat(name, dir_fd=place, follow_symlinks=False).st_uid
            if name.startswith(_OWN_NAMES) and owner != os.geteuid():
                raise HostError(f"{directory / name} belongs to user {owner}", "Move it away")


def check_state_id(directory: Path, marker: Path | None) -> bool:
    """Check that this is the directory that was used before; at the first use, write its id and the copy.

    Returns:
        Whether the copy was there before.

    Raises:
        StateUnusable: If the copy is the id of another directory.
    """
    was_there = marker is not None and os.path.lexists(marker)
    mark_directory(directory / _ID_FILE, marker, "state directory")
    return was_there
