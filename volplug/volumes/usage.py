"""Space in mounted filesystems, looked at beside the calls: a dead device may hang whoever asks."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from volplug.errors import VolplugError
from volplug.host.base import Host
from volplug.models import Usage

_FRESH_S: Final = 30.0


class UsageSampler:
    """The last usage of each mounted volume; asking for it starts a new look, but never waits for one."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, Usage]] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}

    def last(self, host: Host, name: str, target: str) -> Usage | None:
        """Return the usage at the last look, and look again behind the caller's back if that is old."""
        sampled = self._last.get(name)
        if (sampled is None or time.monotonic() - sampled[0] > _FRESH_S) and name not in self._looking:
            self._looking[name] = asyncio.ensure_future(self._look(host, name, target))
        return sampled[1] if sampled else None

    def forget(self, name: str) -> None:
        """Drop what was seen of a volume that is mounted no more."""
        self._last.pop(name, None)

    async def _look(self, host: Host, name: str, target: str) -> None:
        try:
            self._last[name] = (time.monotonic(), await host.usage(target))
        except (OSError, VolplugError):
            self._last.pop(name, None)
        finally:
            del self._looking[name]
