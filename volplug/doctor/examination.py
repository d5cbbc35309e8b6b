"""Examination: what the checks of doctor work with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, ParamSpec, TypeVar

from volplug.api.client import ControlClient
from volplug.config import Settings
from volplug.drivers.base import Driver
from volplug.errors import ConfigurationError, OperationTimeout, VolplugError
from volplug.findings import Finding, Level
from volplug.host.threads import Pool

_P = ParamSpec("_P")
_T = TypeVar("_T")
_CALLS: Final = 64  # that may hang; more than the checks make
_QUICK_S: Final = 5.0  # one answer of this host: a disk or a daemon that takes longer is in trouble


def pool_of_doctor() -> Pool:
    """Return threads for what may block."""
    return Pool("doctor", _CALLS)


@dataclass(frozen=True, slots=True)
class Examination:
    """What is known at the start of a run of doctor.

    Attributes:
        settings: Those of the volplug of this host: of the managed plugin if that is what runs here.
        drivers: The backends that could be built, by name.
        daemon: Client of the volplug that runs here; None if it does not run or does not answer. For one
            thread at a time: `client` returns others.
        is_managed: Whether volplug is installed here as a managed plugin.
        daemon_pid: Process id of that volplug; 0 if it does not run, or is in a pid namespace out of sight.
        mistakes: What is wrong with the settings.
        unused_days: List volumes that were not used for so many days; None not to.
        pool: Threads for what may block.
    """

    settings: Settings
    drivers: Mapping[str, Driver]
    daemon: ControlClient | None
    is_managed: bool
    daemon_pid: int = 0
    mistakes: Sequence[ConfigurationError] = ()
    unused_days: float | None = None
    pool: Pool = field(default_factory=pool_of_doctor)

    async def blocking(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run what may block in a thread; it may hang."""
        return await self.pool.blocking(function, *args, **kwargs)

    async def quickly(self, what: str, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run what answers at once on a sound host, in a thread.

        Raises:
            OperationTimeout: If it does not answer.
        """
        return await quickly(self.pool, what, function, *args, **kwargs)

    def client(self) -> ControlClient | None:
        """Return a client of the volplug that runs here, for one thread."""
        return ControlClient(self.daemon.endpoint, restart_s=0) if self.daemon is not None else None


async def quickly(
    pool: Pool, what: str, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """Run what answers at once on a sound host, in a thread.

    Raises:
        OperationTimeout: If it does not answer.
    """
    call = pool.submit(function, *args, **kwargs)
    done, _ = await asyncio.wait({call}, timeout=_QUICK_S)
    if not done:
        raise _hanging(what, _QUICK_S)
    return call.result()


def _hanging(what: str, after_s: float) -> OperationTimeout:
    return OperationTimeout(
        f"{what} did not answer within {after_s:.0f} s", "Look for hung tasks in the kernel's log: dmesg"
    )


async def isolated(
    name: str, work: Awaitable[Sequence[Finding]], timeout_s: float, subject: str = ""
) -> Sequence[Finding]:
    """Return what a check finds; that it fails, or does not end in time, is a finding as well.

    A check that does not end is left behind: it may wait for a thread that hangs, also when it is cancelled.
    """
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=timeout_s)
    if not done:
        error: BaseException | None = _hanging("what is checked", timeout_s)
    elif (error := task.exception()) is None:
        return task.result()
    if isinstance(error, VolplugError):
        return [Finding(name, Level.RED, subject, error.cause, error.remedy)]
    message = f"the check failed: {type(error).__name__}: {' '.join(str(error).split())}"
    return [Finding(name, Level.RED, subject, message, "Report it: this is a bug of volplug")]
