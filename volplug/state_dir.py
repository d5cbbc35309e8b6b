"""The state directory: one process at a time, and the right directory.

An empty directory in place of the real one (its disk not mounted, a setting reverted by an upgrade) would
make Docker forget every volume. So the directory carries an id, and a copy of the id lies elsewhere.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from volplug.errors import AlreadyRunning, HostError
from volplug.host.directory_id import mark_directory

_ID_FILE: Final = "state-id"
_LOCK_FILE: Final = "lock"


def lock_state_dir(directory: Path) -> int:
    """Make the directory if need be and lock it for this process.

    Returns:
        A descriptor that has to stay open as long as this process serves.

    Raises:
        AlreadyRunning: Naming the process that has it.
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


def check_state_id(directory: Path, marker: Path | None) -> None:
    """Check that this is the directory that was used before, and mark both sides at the first use.

    Raises:
        StateUnusable: If the marker names another directory than this one.
    """
    mark_directory(directory / _ID_FILE, marker, "state directory")
