"""The last list of a directory's volumes, kept while nothing in the directory comes, goes or is replaced."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from volplug.drivers.loop.records import is_settled
from volplug.host.loopdev import LoopDevice
from volplug.models import Volume

FRESH_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Kept:
    seen: tuple[tuple[int, int, int], tuple[LoopDevice, ...]]
    until_s: float
    volumes: Sequence[Volume]


class Listing:
    """Keeps one list.

    Every creation, deletion and change of a record puts a new name into the directory, which the directory's
    own times show. They do not show a file that somebody changes in place, hence the few seconds.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._kept: _Kept | None = None

    def volumes(
        self, devices: Sequence[LoopDevice], read: Callable[[], Sequence[Volume]]
    ) -> Sequence[Volume]:
        """Return the kept list if it still holds, the same object then, or read it anew.

        Args:
            devices: The loop devices that may be of ours, as they are now.
            read: Reads the directory.
        """
        status = os.stat(self._directory)  # before reading: what comes meanwhile must show at the next call
        directory = (status.st_dev, status.st_ino, status.st_ctime_ns)
        seen = (directory, tuple(devices))
        kept, now_s = self._kept, time.monotonic()
        if kept is not None and kept.seen == seen and now_s < kept.until_s:
            return kept.volumes
        volumes = tuple(read())
        if is_settled(status):
            self._kept = _Kept(seen, now_s + FRESH_S, volumes)
        return volumes
