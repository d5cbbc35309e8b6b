"""Tells the service manager how this process does, as sd_notify(3): ready, stopping, alive."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Final

import structlog

_LOG = structlog.get_logger(__name__)
_USEC: Final = 1_000_000


class ServiceManager:
    """The service manager that has started this process; without one, nothing is told.

    Args:
        environment: Its variables, see sd_notify(3) and sd_watchdog_enabled(3).
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watchdog_s = _watchdog_s(environment)
        self._pinging: asyncio.TimerHandle | None = None

    def ready(self, status: str) -> None:
        """Tell that calls are answered; from now on the event loop tells that it runs."""
        self._tell(f"READY=1\nSTATUS={status}")
        if self._watchdog_s and self._pinging is None:
            self._ping()

    def stopping(self) -> None:
        """Tell that this process is about to end."""
        self._tell("STOPPING=1")

    def _ping(self) -> None:
        self._tell("WATCHDOG=1")
        # Half of it, as sd_watchdog_enabled(3) recommends.
        self._pinging = asyncio.get_running_loop().call_later(self._watchdog_s / 2, self._ping)

    def _tell(self, state: str) -> None:
        """Send a datagram; a service manager that does not read must not stop this process."""
        if not self._address.startswith(("/", "@")):
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sending:
                sending.sendto(state.encode(), address)
        except OSError as error:
            _LOG.warning("service manager not told", state=state.partition("\n")[0], error=str(error))


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """Return how long this process may be silent; 0 if that is not watched."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    is_ours = pid in ("", str(os.getpid()))
    return int(usec) / _USEC if usec.isdecimal() and is_ours else 0.0
