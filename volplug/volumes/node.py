"""This node: its backends, its machine, its ledger and locks. What all use cases share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from volplug.drivers.base import Driver
from volplug.errors import ConfigurationError, VolplugError
from volplug.host.base import Host
from volplug.metrics import Metrics
from volplug.models import EngineIdentity, TakeoverPolicy, Volume
from volplug.steps import OnStep, unannounced
from volplug.volumes.background import BackgroundTasks, Timers
from volplug.volumes.converge_request import Timeouts
from volplug.volumes.durable_operations import OperationStore
from volplug.volumes.events import EventLog
from volplug.volumes.ledger import Ledger
from volplug.volumes.locks import VolumeLocks
from volplug.volumes.operations import Operations


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Times at the edge to Docker, in seconds.

    Attributes:
        slow_answer_s: To answer Create and Mount; Docker waits 120 s.
        answer_s: To answer everything else; Docker waits 60 s.
        lookup_s: To ask backends for Get.
        linger_s: How long a volume stays attached after its last unmount; None for the driver's own default.
        long_linger_s: The same after a Mount whose client left, so that its retry finds it attached.
        mount_grace_s: How old an answered Mount must be before a trial release may test it: until then its
            container may be about to use the volume.
        release_wait_s: How long a Mount gives another node to detach the volume.
        retry_max_s: Longest pause between two tries to reach a desired state.
    """

    slow_answer_s: float = 110.0
    answer_s: float = 50.0
    lookup_s: float = 5.0
    linger_s: float | None = None
    long_linger_s: float = 60.0
    mount_grace_s: float = 60.0
    release_wait_s: float = 20.0
    retry_max_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNode:
    """This node, as the use cases see it.

    Attributes:
        backends: Name to driver, at least one.
        default_backend: Used for volumes created without `-o backend=`.
        hosts: This machine, by the backend whose devices are worked on: each has threads of its own.
        ledger: What this host remembers.
        mount_root: Directory below which every volume has its place.
        boot_clock: Seconds since boot, suspend included.
        wall_clock: The time, with its zone; shown, never calculated with.
        timeouts: How long a convergence waits.
        deadlines: Times at the edge to Docker.
        locks: One per volume.
        timers: What is scheduled.
        operations: Work on volumes, in progress and ended.
        operation_store: Where operations of the control API survive; None for memory only.
        on_step: Called after every change of the world.
        takeover: When a Mount may take a volume from a node that does not detach it.
        doubt: Why the default backend may not be what the operator expects: as long as it has no volume, none
            is created in it without `-o backend=`.
        is_engine_alive: Whether a run of the engine that connected before still exists.
        name: Of this node, as configured; backends may have other ids for it.
    """

    backends: Mapping[str, Driver]
    default_backend: str
    hosts: Mapping[str, Host]
    ledger: Ledger
    mount_root: str
    boot_clock: Callable[[], float]
    wall_clock: Callable[[], datetime] = _now
    timeouts: Timeouts = field(default_factory=Timeouts)
    deadlines: Deadlines = field(default_factory=Deadlines)
    locks: VolumeLocks = field(default_factory=VolumeLocks)
    timers: Timers = field(default_factory=Timers)
    operations: Operations = field(default_factory=Operations)
    operation_store: OperationStore | None = None
    on_step: OnStep = unannounced
    takeover: TakeoverPolicy = TakeoverPolicy.PROOF
    doubt: ConfigurationError | None = None
    is_engine_alive: Callable[[EngineIdentity], bool] = lambda _: False
    name: str = "node"

    @property
    def tasks(self) -> BackgroundTasks:
        """Return what runs."""
        return self.operations.tasks

    @property
    def events(self) -> EventLog:
        """Return where events are reported."""
        return self.operations.events

    @property
    def metrics(self) -> Metrics:
        """Return what is counted."""
        return self.operations.metrics

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

        Those of a backend that is not configured any more are only read, by the default one's threads.
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
        if self.deadlines.linger_s is not None:
            return self.deadlines.linger_s
        return self.driver(backend).info.default_linger_s

    def is_in_use(self, name: str) -> bool:
        """Tell whether a Mount is counted or in progress."""
        entry = self.ledger.get(name)
        return self.locks.of(name).mounts_in_progress > 0 or (entry is not None and entry.is_claimed)

    async def identify(self, name: str) -> None:
        """Ask the backends which volume it is that is mounted here without memory of it.

        Raises:
            VolplugError: If none has it and one could not be asked; to be retried.
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
