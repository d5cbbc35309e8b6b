"""Changes made by this process that stale reads may not show yet: volumes it created or deleted.

They make existence exact, as `Driver.get` demands. Stale reads of other values are left to the core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from cachetools import TTLCache

from volplug.models import Volume


class OwnWrites:
    """The volumes that this process created and deleted, kept as long as reads may be stale.

    Args:
        clock: Monotonic seconds.
        horizon_s: How long reads may be stale, in seconds.
    """

    def __init__(self, clock: Callable[[], float], horizon_s: float) -> None:
        self._created: TTLCache[str, Volume] = TTLCache(math.inf, horizon_s, clock)
        self._deleted: TTLCache[str, bool] = TTLCache(math.inf, horizon_s, clock)

    def created(self, volume: Volume) -> None:
        """Note a volume whose creation the cloud has confirmed, or its newer description."""
        self._created[volume.volume_id] = volume

    def deleted(self, volume_id: str) -> None:
        """Note a volume whose deletion the cloud has confirmed or reported."""
        self._created.pop(volume_id, None)
        self._deleted[volume_id] = True

    def is_created(self, volume_id: str) -> bool:
        """Tell whether this process created the volume recently, so that the cloud may not find it yet."""
        return volume_id in self._created

    def is_deleted(self, volume_id: str) -> bool:
        """Tell whether the volume is deleted, even if reads still show it."""
        return volume_id in self._deleted

    def missing(self, shown_ids: Collection[str]) -> list[Volume]:
        """Return the created volumes that a read misses."""
        return [volume for volume in self._created.values() if volume.volume_id not in shown_ids]
