"""The state directory: one process at a time, and the right directory.

An empty directory in place of the real one (its disk not mounted, a setting reverted by an upgrade) would
make Docker forget every volume. So the directory carries an id, and a copy of the id lies elsewhere.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path
from typing import Final

from volplug.errors import AlreadyRunning, HostError, StateUnusable

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

    The directory's own id is written before the copy: a crash between the two is a first use again.

    Raises:
        StateUnusable: If the copy names another directory than this one.
    """
    own = _read_id(directory / _ID_FILE)
    copy = _read_id(marker) if marker is not None else ""
    if copy and copy != own:
        found = f"has id {own[:8]}" if own else "has no id"
        raise StateUnusable(
            f"state directory {directory} is not the one used before: it {found}, {marker} says {copy[:8]}",
            "Is its disk not mounted, or a setting reverted by an upgrade? "
            f"To use this directory all the same, remove {marker}",
        )
    if not own:
        own = uuid.uuid4().hex
        _write_id(directory / _ID_FILE, own)
    if marker is not None and not copy:
        _write_id(marker, own)


def _read_id(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise StateUnusable(f"{path} cannot be read: {error}") from error


def _write_id(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        with temporary.open("w", encoding="ascii") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError as error:
        raise StateUnusable(f"{path} cannot be written: {error.strerror}") from error
