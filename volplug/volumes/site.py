"""What the use cases of this host share: backends, host, ledger, locks, and the one way to converge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from volplug.drivers.base import Driver
from volplug.errors import ConfigurationError, VolplugError
from volplug.host.base import Host
from volplug.models import TakeoverPolicy, Volume
from volplug.steps import OnStep, unannounced
from volplug.volumes.convergence import Goal
from volplug.volumes.job import UNCONDITIONAL, Conditions, Job, Patience
from volplug.volumes.ledger import Desired, EngineIdentity, Entry, Ledger
from volplug.volumes.run import Run
from volplug.volumes.slots import Slots, Timers

_DESIRES: Final = {
    Goal.PRESENT: Desired.PRESENT,
    Goal.MOUNTED: Desired.MOUNTED,
    Goal.ABSENT: Desired.ABSENT,
}


_LEADS_AWAY: Final = frozenset({Goal.DETACHED, Goal.ABSENT})


@dataclass(frozen=True, slots=True)
class Limits:
    """Times of the Docker edge, in seconds.

    Attributes:
        slow_answer_s: To answer Create and Mount; Docker waits 120 s.
        answer_s: To answer everything else; Docker waits 60 s.
        lookup_s: To ask backends for Get.
        linger_s: How long a volume stays attached after its last unmount; None for the driver's own default.
        long_linger_s: The same after a Mount whose client left, so that its retry finds it attached.
        settle_s: How old an answered Mount must be before a trial release doubts it.
        release_wait_s: How long a Mount gives another node to let go of the volume.
        retry_max_s: Longest pause between two tries to reach an unmet desired state.
    """

    slow_answer_s: float = 110.0
    answer_s: float = 50.0
    lookup_s: float = 5.0
    linger_s: float | None = None
    long_linger_s: float = 60.0
    settle_s: float = 60.0
    release_wait_s: float = 20.0
    retry_max_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Site:
    """This host with its backends.

    Attributes:
        backends: Name to driver, at least one.
        default_backend: Used for volumes created without `-o backend=`.
        hosts: This machine, by the backend whose devices are worked on: each has threads of its own.
        ledger: What this host remembers.
        mount_root: Directory below which every volume has its place.
        boot_clock: Seconds since boot, going on through suspend.
        patience: How long a convergence waits.
        limits: Times of the Docker edge.
        slots: Locks.
        timers: What is scheduled.
        on_step: Told of every change of the world.
        takeover: When a Mount may take a volume from a node that does not let go of it.
        perhaps_leaving: Volumes of which a detach may be under way. A cloud takes none back, so that a device
            which still shows is about to go.
        is_engine_alive: Whether a run of the engine that spoke before still exists.
    """

    backends: Mapping[str, Driver]
    default_backend: str
    hosts: Mapping[str, Host]
    ledger: Ledger
    mount_root: str
    boot_clock: Callable[[], float]
    patience: Patience = field(default_factory=Patience)
    limits: Limits = field(default_factory=Limits)
    slots: Slots = field(default_factory=Slots)
    timers: Timers = field(default_factory=Timers)
    on_step: OnStep = unannounced
    takeover: TakeoverPolicy = TakeoverPolicy.PROOF
    perhaps_leaving: set[str] = field(default_factory=set)
    is_engine_alive: Callable[[EngineIdentity], bool] = lambda _: False

    def driver(self, backend: str) -> Driver:
        """Return the driver of a backend.

        Raises:
            ConfigurationError: If no such backend is configured (any more).
        """
        driver = self.backends.get(backend)
        if driver is None:
            known = ", ".join(sorted(self.backends))
            raise ConfigurationError(f"backend {backend!r} is not configured", f"Backends are {known}")
        return driver

    def host(self, backend: str) -> Host:
        """Return this machine for work on the devices of a backend.

        Those of a backend that is not configured any more are only looked at, by the default one's threads.
        """
        return self.hosts.get(backend) or self.hosts[self.default_backend]

    def target(self, name: str) -> str:
        """Return where a volume's filesystem is mounted."""
        return f"{self.mount_root}/{name}"

    def mountpoint(self, name: str, volume: Volume | None) -> str:
        """Return the path that Docker binds into containers."""
        subpath = volume.subpath if volume else ""
        return f"{self.target(name)}/{subpath}" if subpath else self.target(name)

    def linger_s(self, backend: str) -> float:
        """Return how long a volume of this backend stays attached after its last unmount."""
        if self.limits.linger_s is not None:
            return self.limits.linger_s
        return self.driver(backend).info.default_linger_s

    def is_in_use(self, name: str) -> bool:
        """Tell whether a Mount is counted or being answered."""
        entry = self.ledger.get(name)
        return self.slots.of(name).pending > 0 or (entry is not None and entry.is_claimed)

    async def identify(self, name: str) -> None:
        """Learn from the backends which volume is mounted here without memory of it.

        Raises:
            VolplugError: If none knows it and one could not be asked; to be tried again.
        """
        failure: VolplugError | None = None
        for driver in self.backends.values():
            try:
                volume = await driver.get(name)
            except VolplugError as error:
                failure = error
                continue
            if volume is not None:
                await self.ledger.remember(volume)
                return
        if failure is not None:
            raise failure

    async def converge(
        self,
        operation: str,
        name: str,
        backend: str,
        goal: Goal,
        conditions: Conditions = UNCONDITIONAL,
    ) -> Volume | None:
        """Bring a volume to the goal; the caller holds its lock.

        What is still to be done is in the ledger before the first change, and what became known is there
        afterwards, however it ended.

        Raises:
            VolplugError: Why it could not be reached, with its context.
        """
        entry = self.ledger.get(name)
        known = entry.record if entry and entry.backend == backend else None
        driver = self.driver(backend)
        patience_s = conditions.patience_s
        if patience_s is None:
            patience_s = self.patience.mount_s if goal is Goal.MOUNTED else self.patience.release_s
        target, is_leaving = self.target(name), name in self.perhaps_leaving
        job = Job(operation, goal, name, backend, driver, target, patience_s, known, conditions, is_leaving)

        async def before_change(volume: Volume | None) -> None:
            if goal in _LEADS_AWAY:
                self.perhaps_leaving.add(name)
            if goal in _DESIRES:
                now = self.ledger.get(name) or Entry(name, backend)
                await self.ledger.put(replace(now, record=volume, desired=_DESIRES[goal]))

        run = Run(job, self.host(backend), self.patience, before_change, self.on_step)
        try:
            volume = await run.to_goal()
            if goal in _LEADS_AWAY | {Goal.MOUNTED}:
                self.perhaps_leaving.discard(name)
            return volume
        finally:
            await self._note(name, goal, run)

    async def _note(self, name: str, goal: Goal, run: Run) -> None:
        entry = self.ledger.get(name)
        if run.record_is_absent:
            if entry is not None and not entry.is_claimed:
                await self.ledger.forget(name)
        elif run.volume is not None:
            entry = await self.ledger.remember(run.volume)
            is_unwanted = entry.desired is Desired.NONE and not entry.is_claimed
            if goal is Goal.MOUNTED and run.is_attached_here and is_unwanted:
                # Left by an earlier life whose memory is lost; the failed Mount lets go of it.
                await self.ledger.put(replace(entry, desired=Desired.DETACHED))
