"""Volumes that this process created or deleted within the last minute: reads may not show that yet.

This makes existence exact, as `Driver.get` demands. Late reads of anything else are the core's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from cachetools import TTLCache

from volplug.models import Volume


class OwnWrites:
    """What this process created and deleted; nothing is evicted before its time.

    Args:
        clock: Seconds that never go back.
        horizon_s: For how long reads may be stale, in seconds.
    """

    def __init__(self, clock: Callable[[], float], horizon_s: float) -> None:
        self._created: TTLCache[str, Volume] = TTLCache(math.inf, horizon_s, clock)
        self._deleted: TTLCache[str, bool] = TTLCache(math.inf, horizon_s, clock)

    def created(self, volume: Volume) -> None:
        """Note a volume whose creation the cloud has confirmed, or how it has become since."""
        self._created[volume.volume_id] = volume

    def deleted(self, volume_id: str) -> None:
        """Note a volume whose deletion the cloud has confirmed, or shown."""
        self._created.pop(volume_id, None)
        self._deleted[volume_id] = True

    def is_created(self, volume_id: str) -> bool:
        """Tell whether this process created the volume, so that calls may not know it yet."""
        return volume_id in self._created

    def is_deleted(self, volume_id: str) -> bool:
        """Tell whether the volume is deleted, whatever reads show."""
        return volume_id in self._deleted

    def missing(self, shown_ids: Collection[str]) -> list[Volume]:
        """Return the created volumes that a read does not show."""
        return [volume for volume in self._created.values() if volume.volume_id not in shown_ids]
