"""Caches the list of a directory's volumes while no file in it is created, removed or replaced."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from volplug.drivers.loop.records import is_change_detectable
from volplug.host.loopdev import LoopDevice
from volplug.models import Volume

FRESH_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    seen: tuple[tuple[int, int, int], tuple[LoopDevice, ...]]
    until_s: float
    volumes: Sequence[Volume]


class CachedList:
    """The last list that was read.

    Every creation, deletion and change of a record puts a new name into the directory, which changes the
    directory's own times. A file that is edited in place does not change them, so an entry expires soon.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._entry: _CacheEntry | None = None

    def volumes(
        self, devices: Sequence[LoopDevice], read: Callable[[], Sequence[Volume]]
    ) -> Sequence[Volume]:
        """Return the cached list, the same object, while it is valid; otherwise read the directory.

        Args:
            devices: The current loop devices that may have one of our images.
            read: Reads the directory.
        """
        status = os.stat(self._directory)  # before reading: a change meanwhile has to show at the next call
        directory = (status.st_dev, status.st_ino, status.st_ctime_ns)
        seen = (directory, tuple(devices))
        entry, now_s = self._entry, time.monotonic()
        if entry is not None and entry.seen == seen and now_s < entry.until_s:
            return entry.volumes
        volumes = tuple(read())
        if is_change_detectable(status):
            self._entry = _CacheEntry(seen, now_s + FRESH_S, volumes)
        return volumes
