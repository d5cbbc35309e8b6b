"""The directory of a backend: checks its identity and its permissions, and locks it for one volplug."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from pathlib import Path
from typing import Final

from volplug.errors import BackendUnavailable, HostError, StateUnusable
from volplug.host.directory_id import check_directory_id, mark_directory

_ID_FILE: Final = ".backend-id"
# Directories that this process has locked, by device and inode; the kernel unlocks them at its end.
_locked: Final[dict[tuple[int, int], int]] = {}
_locking: Final = threading.Lock()


class Directory:
    """One backend's directory. Every method blocks.

    Args:
        path: Its path; made at its first use.
        id_copy: Path of a copy of its id, or None for an id that is not checked.
    """

    def __init__(self, path: Path, id_copy: Path | None) -> None:
        self.path = path
        self._id_file = path / _ID_FILE
        self._id_copy = id_copy
        self._marking = threading.Lock()
        self._checked = (0, 0)

    @property
    def identity(self) -> tuple[int, int]:
        """Return device and inode of the directory at the last check; zeros if it did not exist."""
        return self._checked

    def mark(self) -> None:
        """Make the directory at its first use, and refuse another directory than that of the last use.

        Raises:
            BackendUnavailable: As `check`.
            HostError: If it cannot be made or written.
        """
        self.check()
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise HostError(f"{self.path} cannot be made: {error.strerror}") from error
        self.check()  # it exists by now; this locks it
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise HostError(f"{self.path} is not writable", "Check that its disk is mounted")
        if self._id_copy is not None:
            with self._marking:  # two ids at once would be two directories
                mark_directory(self._id_file, self._id_copy)

    def check_usable(self) -> None:
        """Check that `mark` can make the directory and write to it, without a change.

        Raises:
            BackendUnavailable: As `check`.
            HostError: If it cannot be made or written.
        """
        self.check()
        self._refuse_unwritable()

    def check_without_lock(self) -> None:
        """Check the same, but lock nothing out: next to a volplug that uses the directory.

        Raises:
            BackendUnavailable: As `check`, except that another volplug may use it.
            HostError: If it cannot be made or written.
        """
        self._identify()
        self._check_id()
        self._refuse_unwritable()

    def _refuse_unwritable(self) -> None:
        place = self.place()
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            raise HostError(f"{place} is not a writable directory", "Check that its disk is mounted")

    def place(self) -> Path:
        """Return the directory, or the nearest one above it that exists."""
        return next(each for each in (self.path, *self.path.parents) if each.exists())

    def check(self) -> None:
        """Refuse a directory that only has the right path: its contents prove nothing.

        Raises:
            BackendUnavailable: If it is not the directory that was used before, others write to it, or
                another volplug uses it.
        """
        identity = self._identify()
        if identity == (0, 0) or identity != self._checked:
            self._check_id()
            if identity != (0, 0):
                self._lock(identity)
            self._checked = identity

    def _identify(self) -> tuple[int, int]:
        """Return the directory as it is now, like `identity`, if no others write to it."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return 0, 0
        except OSError as error:
            raise BackendUnavailable(f"{self.path} cannot be read: {error.strerror}") from error
        self._refuse_if_others_write(status)
        return status.st_dev, status.st_ino

    def _check_id(self) -> None:
        try:
            check_directory_id(self._id_file, self._id_copy)
        except StateUnusable as error:
            raise BackendUnavailable(error.cause, error.remedy) from error

    def _refuse_if_others_write(self, status: os.stat_result) -> None:
        """Refuse other writers: they would decide what is mounted, and which files root overwrites."""
        if status.st_uid != os.geteuid():
            raise BackendUnavailable(
                f"{self.path} belongs to user {status.st_uid}", f"chown {os.geteuid()} {self.path}"
            )
        if status.st_mode & 0o022:
            mode = stat.S_IMODE(status.st_mode)
            raise BackendUnavailable(
                f"{self.path} can be written by other users of this host (mode {mode:04o})",
                f"chmod go-w {self.path}",
            )

    def _lock(self, identity: tuple[int, int]) -> None:
        """Lock out a second volplug, which might have a state directory of its own."""
        with _locking:
            if identity in _locked:
                return
            try:
                descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise BackendUnavailable(f"{self.path} cannot be locked: {error.strerror}") from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(descriptor)
                raise BackendUnavailable(
                    f"{self.path} is used by another volplug",
                    "Stop that one, or give each its own directory",
                ) from error
            _locked[identity] = descriptor


def unlock_all() -> None:
    """Unlock the directories that this process has used: another volplug may use them, or their disks go."""
    with _locking:
        while _locked:
            os.close(_locked.popitem()[1])
