"""The usage of mounted volumes, sampled without a long wait: a dead device can hang."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from volplug.errors import VolplugError
from volplug.host.base import Host
from volplug.models import Usage

FRESH_S: Final = 10.0
_WAIT_S: Final = 0.15


@dataclass(frozen=True, slots=True)
class UsageSample:
    """The usage of a mounted volume as it was a while ago.

    Attributes:
        usage: What was read.
        age_s: How long ago it was read.
    """

    usage: Usage
    age_s: float


class UsageSampler:
    """Takes samples of mounted volumes, one at a time of each, and keeps the last ones.

    Args:
        wait_s: How long a caller waits for a sample, from its start.
        clock: Monotonic seconds.
    """

    def __init__(self, wait_s: float = _WAIT_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._wait_s = wait_s
        self._clock = clock
        self._taken: dict[str, tuple[float, Usage]] = {}
        self._running: dict[str, tuple[float, asyncio.Task[None]]] = {}

    async def sample(self, host: Host, name: str, target: str) -> UsageSample | None:
        """Return a fresh sample, or the last one if the device does not answer; None if there is none."""
        taken = self._taken.get(name)
        if taken is None or self._clock() - taken[0] > FRESH_S:
            began_s, task = self._running.get(name) or self._begin(host, name, target)
            if (remaining_s := began_s + self._wait_s - self._clock()) > 0:
                await asyncio.wait({task}, timeout=remaining_s)
            taken = self._taken.get(name)
        return UsageSample(taken[1], self._clock() - taken[0]) if taken else None

    def forget(self, name: str) -> None:
        """Drop the samples of a volume that is mounted no more, also the one that is being taken."""
        self._taken.pop(name, None)
        self._running.pop(name, None)

    def _begin(self, host: Host, name: str, target: str) -> tuple[float, asyncio.Task[None]]:
        running = self._clock(), asyncio.create_task(self._take(host, name, target))
        self._running[name] = running
        return running

    async def _take(self, host: Host, name: str, target: str) -> None:
        last = self._taken.get(name)
        usage = None
        try:
            usage = await host.usage(target, last[1] if last else None)
        except (OSError, VolplugError):
            pass  # the last one stays, with its age
        finally:
            running = self._running.get(name)
            if running is not None and running[1] is asyncio.current_task():
                del self._running[name]
                if usage is not None:
                    self._taken[name] = self._clock(), usage
