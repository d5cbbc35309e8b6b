"""DescribeVolumes and DescribeInstances hear late of changes, as EC2's are eventually consistent.

https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Generic, TypeVar

_T = TypeVar("_T")


@dataclass
class _Before(Generic[_T]):
    """How a thing was, or None if it was not, and how often that is shown still."""

    fact: _T | None
    looks: int


class Past(Generic[_T]):
    """What is shown of volumes, or of instances, instead of the truth."""

    def __init__(self) -> None:
        self._before: dict[str, _Before[_T]] = {}
        self._changes = 0

    def note(self, thing_id: str, before: _T | None, looks: tuple[int, int], seed: int) -> None:
        """Take note of how a thing was before a change."""
        self._changes += 1
        least, most = looks
        chosen = random.Random(f"{seed}:{self._changes}").randint(least, most)  # noqa: S311 - foreseeable
        if chosen:
            self._before[thing_id] = _Before(before, chosen)
        else:
            self._before.pop(thing_id, None)

    def knows(self, thing_id: str) -> bool:
        """Tell whether something else than the truth is shown of a thing."""
        return thing_id in self._before

    def shown(self, thing_id: str) -> _T | None:
        """Return what is shown of a thing that `knows` says yes of."""
        return self._before[thing_id].fact

    def changed(self) -> list[str]:
        """Return the ids of which something else than the truth is shown."""
        return list(self._before)

    def forget(self) -> None:
        """Show nothing but the truth, until the next change."""
        self._before.clear()

    def looked(self, thing_id: str) -> None:
        """Take note that a look has been answered with the past."""
        before = self._before[thing_id]
        before.looks -= 1
        if not before.looks:
            del self._before[thing_id]
