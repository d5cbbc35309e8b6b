"""A process that can die between any two of its external calls, simulated within one process.

All effects of a volplug go through its drivers, its host and its store. Each call of one of those crosses the
process boundary twice; a killed process crosses it no more.
"""

import asyncio
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any


class Killed(BaseException):
    """The process is dead. No `except Exception` of the code under test catches it."""


class ProcessRun:
    """One run of a process."""

    def __init__(self) -> None:
        self.is_over = False
        self._crossings_left: int | None = None

    def end(self) -> None:
        """SIGKILL, now."""
        self.is_over = True

    def end_after(self, crossings: int | None) -> None:
        """SIGKILL at a later crossing, if the run gets there."""
        self._crossings_left = crossings

    async def cross(self) -> None:
        """Let other tasks run, and die here if it is time.

        Raises:
            Killed: If this run has ended.
        """
        await asyncio.sleep(0)
        if self._crossings_left is not None:
            self._crossings_left -= 1
            self.is_over = self.is_over or self._crossings_left <= 0
        if self.is_over:
            raise Killed


class KillableProxy:
    """A driver, host or store that works only as long as its process lives."""

    def __init__(self, real: object, run: ProcessRun) -> None:
        self._real = real
        self._process_run = run

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # stands for whatever the real one has
        attribute = getattr(self._real, name)
        return self._killable(attribute) if inspect.iscoroutinefunction(attribute) else attribute

    def _killable(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        async def crossing(*args: object, **kwargs: object) -> object:
            await self._process_run.cross()
            result = await call(*args, **kwargs)
            await self._process_run.cross()
            return result

        return crossing
