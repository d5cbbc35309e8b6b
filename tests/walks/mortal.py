"""A process that can die between any two things it does to the world, played within one process.

Everything that a volplug does to the world goes through its drivers, its host and its store. Each call of
one of those crosses into the world and back; a life that is over crosses no more.
"""

import asyncio
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any


class Killed(BaseException):
    """The process is dead. No `except Exception` of the code under test gets to see it."""


class Life:
    """One life of one process."""

    def __init__(self) -> None:
        self.is_over = False
        self._crossings_left: int | None = None

    def end(self) -> None:
        """SIGKILL, now."""
        self.is_over = True

    def end_after(self, crossings: int | None) -> None:
        """SIGKILL at a crossing that is still to come, or not after all."""
        self._crossings_left = crossings

    async def cross(self) -> None:
        """Let others have their turn, and die here if it is time.

        Raises:
            Killed: If this life is over.
        """
        await asyncio.sleep(0)
        if self._crossings_left is not None:
            self._crossings_left -= 1
            self.is_over = self.is_over or self._crossings_left <= 0
        if self.is_over:
            raise Killed


class Mortal:
    """A driver, host or store as a process reaches it: only as long as the process lives."""

    def __init__(self, real: object, life: Life) -> None:
        self._real = real
        self._life = life

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # stands for whatever the real one has
        attribute = getattr(self._real, name)
        return self._mortal(attribute) if inspect.iscoroutinefunction(attribute) else attribute

    def _mortal(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        async def crossing(*args: object, **kwargs: object) -> object:
            await self._life.cross()
            result = await call(*args, **kwargs)
            await self._life.cross()
            return result

        return crossing
