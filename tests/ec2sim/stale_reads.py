"""Reads that show how a volume or an instance was before its last change.

https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
"""

import random
from typing import Generic, TypeVar

from tests.ec2sim.plan import FaultPlan

_T = TypeVar("_T")


class StaleReads(Generic[_T]):
    """The former states that reads still show, by id; None: it did not exist. Not thread-safe."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._states: dict[str, _T | None] = {}
        self._reads_left: dict[str, int] = {}
        self._changes = 0

    def change(self, thing_id: str, before: _T | None, action: str) -> None:
        """Let the next reads show the state before a change that an action made, if the plan says so."""
        if not action or (self._plan.stale_after and action not in self._plan.stale_after):
            return
        self._changes += 1
        self._states.pop(thing_id, None)
        chosen = random.Random(self._changes)  # noqa: S311 - deterministic
        reads = chosen.randint(*self._plan.stale_looks)
        if reads:
            self._states[thing_id], self._reads_left[thing_id] = before, reads

    def states(self) -> dict[str, _T | None]:
        """Return the former states that are shown now."""
        return dict(self._states)

    def count_read(self, thing_id: str) -> None:
        """Count a stale read; after the last one the current state is shown."""
        self._reads_left[thing_id] -= 1
        if not self._reads_left[thing_id]:
            del self._states[thing_id]

    def clear(self) -> None:
        """Show the current state until the next change."""
        self._states.clear()
