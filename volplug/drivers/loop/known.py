"""Keeps descriptions of detached volumes for some seconds, or until the kernel reports a change (inotify)."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cachetools import TTLCache

from volplug.host.directory_watch import Changes, DirectoryWatch
from volplug.models import Volume, VolumeState

_RECORD: Final = ".json"
_KEPT_S: Final = 5.0  # as long as the core keeps the answers of remote backends
_MAX_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class ReadingToken:
    """What was known of changes when a reading began."""

    changes: int
    mounts: int


class KnownVolumes:
    """The descriptions of one directory's volumes. No method but `watch` waits for the directory's disk.

    Only detached volumes are kept: of an attached one this host's memory is asked, not the driver. Where the
    directory cannot be watched nothing is kept. What the kernel does not report (a link or a directory above
    this one that is renamed, an image that is attached by another path) shows after some seconds.

    Args:
        directory: Of records and images.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._watch: DirectoryWatch | None = None
        self._watched: tuple[int, int] | None = None
        self._volumes: TTLCache[str, Volume] = TTLCache(_MAX_KEPT, _KEPT_S)
        self._changed_records: set[str] | None = None
        self._changes = 0
        self._mounts = 0
        self._verified_mounts = -1

    def get(self, name: str) -> Volume | None:
        """Return a volume's description if nothing has changed since it was read."""
        with self._lock:
            self._take_events()
            # After a mount the path may lead to another directory, until a reading has checked that.
            return self._volumes.get(name) if self._mounts == self._verified_mounts else None

    def begin(self) -> ReadingToken:
        """Begin a reading: of the directory's identity first, then of what is in it."""
        with self._lock:
            self._take_events()
            return ReadingToken(self._changes, self._mounts)

    def watch(self, identity: tuple[int, int]) -> None:
        """Watch the directory, unless it is watched. Blocks.

        Args:
            identity: Device and inode of the directory that the path leads to.
        """
        with self._lock:
            if self._watched == identity:
                return
            self._lose_watch()  # it is that of another directory
        with suppress(OSError):
            watch = DirectoryWatch(str(self._directory))
            status = os.stat(self._directory)
            if (status.st_dev, status.st_ino) != identity:
                return
            with self._lock:
                self._watch, self._watched = watch, identity

    def keep(self, volume: Volume, token: ReadingToken) -> None:
        """Keep a description that was read since the token, unless something changed meanwhile."""
        with self._lock:
            self._take_events()
            if self._watch is None or token != ReadingToken(self._changes, self._mounts):
                return
            self._verified_mounts = token.mounts
            if volume.state is VolumeState.AVAILABLE and volume.holder is None:
                self._volumes[volume.name] = volume

    def drop(self, name: str) -> None:
        """Drop a description, and those that are being read: a device was attached, which no event tells."""
        with self._lock:
            self._changes += 1
            self._volumes.pop(name, None)

    def take_changed_records(self) -> set[str] | None:
        """Return the names of records that were changed since the last call; None if it may be any."""
        with self._lock:
            self._take_events()
            changed = self._changed_records
            self._changed_records = set() if self._watch is not None else None
            return changed

    def _take_events(self) -> None:
        if self._watch is not None:
            self._apply(self._watch.changes())

    def _apply(self, events: Changes) -> None:
        if events.is_lost:
            self._lose_watch()
            return
        records = {name for name in events.changed if name.endswith(_RECORD)}
        # An image is opened for a loop device, and closed when that is detached; a record is merely read.
        images = {name for name in events.changed | events.opened if not name.endswith(_RECORD)}
        if records or images:
            self._changes += 1
        if records:
            self._volumes.clear()  # another record may have the same volume_id
        for name in images:
            self._volumes.pop(Path(name).stem, None)
        if self._changed_records is not None:
            self._changed_records |= {name.removesuffix(_RECORD) for name in records}
        self._mounts += events.may_be_elsewhere

    def _lose_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
        self._watch = self._watched = self._changed_records = None
        self._changes += 1
        self._volumes.clear()
