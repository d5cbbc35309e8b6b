"""DescribeVolumes hears late of changes, as EC2's is eventually consistent.

https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from volplug.testing.ec2.facts import VolumeFact


@dataclass
class _Before:
    """How a volume was, or None if it was not, and how often that is shown still."""

    fact: VolumeFact | None
    looks: int


class Past:
    """What DescribeVolumes shows instead of the truth."""

    def __init__(self) -> None:
        self._before: dict[str, _Before] = {}
        self._changes = 0

    def note(self, volume_id: str, before: VolumeFact | None, looks: tuple[int, int], seed: int) -> None:
        """Take note of how a volume was before a change."""
        self._changes += 1
        least, most = looks
        chosen = random.Random(f"{seed}:{self._changes}").randint(least, most)  # noqa: S311 - foreseeable
        if chosen:
            self._before[volume_id] = _Before(before, chosen)
        else:
            self._before.pop(volume_id, None)

    def knows(self, volume_id: str) -> bool:
        """Tell whether something else than the truth is shown of a volume."""
        return volume_id in self._before

    def shown(self, volume_id: str) -> VolumeFact | None:
        """Return what is shown of a volume that `knows` says yes of."""
        return self._before[volume_id].fact

    def changed_volumes(self) -> list[str]:
        """Return the volumes of which something else than the truth is shown."""
        return list(self._before)

    def forget(self) -> None:
        """Show nothing but the truth, until the next change."""
        self._before.clear()

    def looked(self, volume_id: str) -> None:
        """Take note that a look has been answered with the past."""
        before = self._before[volume_id]
        before.looks -= 1
        if not before.looks:
            del self._before[volume_id]
