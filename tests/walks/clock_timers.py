"""Timers on a clock of the walk."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.volumes.world import Clock
from volplug.volumes.background import Timers

_NEVER_S = 1e6


class ClockTimers(Timers):
    """Timers that run only when the walk advances the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._due_s: dict[str, float] = {}

    def schedule(
        self, name: str, delay_s: float, action: Callable[[], Awaitable[None]], *, at_stop: bool = False
    ) -> None:
        self._due_s[name] = self._clock() + delay_s
        super().schedule(name, _NEVER_S, action, at_stop=at_stop)

    @property
    def waiting(self) -> list[str]:
        """The names of pending timers."""
        return list(self._scheduled)

    async def run_due(self) -> None:
        """Run due timers, and those that they make due."""
        while due := [name for name in self._scheduled if self._due_s[name] <= self._clock()]:
            for name in due:
                self._scheduled[name].handle.cancel()
                self._start(name)
            while self.running:
                await asyncio.wait(self.running)

    def drop(self) -> None:
        """Forget everything."""
        for name in self.waiting:
            self.cancel(name)
