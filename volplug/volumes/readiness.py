"""Readiness: whether this node can do its work, and what keeps it from that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from volplug.errors import VolplugError
from volplug.volumes.node import LocalNode
from volplug.volumes.overview import Overview
from volplug.volumes.recovery import Recovery

FRESH_S: Final = 10.0  # answers may be this old, so that frequent probes do not use up a cloud's rate limit


class Readiness:
    """Tells what keeps this node from its work, within the time that a look-up may take.

    Args:
        node: This node.
        overview: Asks the backends.
        recovery: What a previous process left.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        node: LocalNode,
        overview: Overview,
        recovery: Recovery,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._overview = overview
        self._recovery = recovery
        self._clock = clock
        self._asking: asyncio.Task[Sequence[str]] | None = None
        self._asked_s = 0.0
        self._writing: asyncio.Task[str] | None = None

    async def problems(self) -> Sequence[str]:
        """Return what keeps this node from its work; empty if nothing does."""
        if not self._recovery.is_done:
            return ["what an earlier process left is not recovered yet"]
        if self._asking is None or (self._asking.done() and self._clock() - self._asked_s > FRESH_S):
            self._asked_s = self._clock()
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> Sequence[str]:
        found = await asyncio.gather(self._problem_of_state(), self._problem_of_backends())
        return [problem for problem in found if problem]

    async def _problem_of_state(self) -> str:
        if self._writing is None or self._writing.done():  # one that hangs is not followed by others
            self._writing = asyncio.create_task(self._write())
        timeout_s = self._node.deadlines.lookup_s
        done, _ = await asyncio.wait({self._writing}, timeout=timeout_s)
        if not done:
            return f"the state file cannot be written: its disk did not answer within {timeout_s:.0f} s"
        return self._writing.result()

    async def _write(self) -> str:
        """Return why the state file cannot be written; empty if it can be."""
        try:
            await self._node.ledger.check_writable()
        except VolplugError as error:
            return str(error)
        return ""

    async def _problem_of_backends(self) -> str:
        """Return why no backend can be used; one that can be is enough."""
        problems = await self._overview.problems()
        if None in problems.values():
            return ""
        causes = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        return f"no backend can be used: {causes}"
