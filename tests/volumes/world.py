"""A host with its backends in memory, with operations that inspect, stop and break it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from volplug.drivers.base import Driver, DriverInfo, Scope
from volplug.errors import ConfigurationError, HostError
from volplug.models import EngineIdentity, FilesystemTag, MountSource, TakeoverPolicy, Volume, VolumeSpec
from volplug.sizes import GIB
from volplug.testing.host import MemoryHost
from volplug.testing.memory import MemoryCloud, MemoryDriver, device_of
from volplug.volumes.background import Timers
from volplug.volumes.converge_request import Timeouts
from volplug.volumes.events import EventLog
from volplug.volumes.ledger import Entry, Ledger
from volplug.volumes.node import Deadlines, LocalNode
from volplug.volumes.operations import ApiCall, Operation, Operations
from volplug.volumes.options import Defaults, read_options
from volplug.volumes.service import VolumeService

ROOT = "/mounts"
_RUNS = count(1)
IMPATIENT = Timeouts(release_s=0, quick_release_s=0, backend_s=0.003, poll_s=0.001)
GENEROUS = Deadlines(slow_answer_s=10, answer_s=10, lookup_s=10, release_wait_s=0.003)


class Gate:
    """A place where calls stop until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def pass_through(self) -> None:
        self.reached.set()
        await self.opened.wait()


class GatedDriver(MemoryDriver):
    """A node's view of the cloud whose calls can be held up."""

    def __init__(self, cloud: MemoryCloud, node_id: str = "node-a", backend: str = "memory") -> None:
        super().__init__(cloud, node_id, backend)
        self.gates: dict[str, Gate] = {}

    def hold(self, call: str) -> Gate:
        """Hold up all calls of one kind from now on."""
        return self.gates.setdefault(call, Gate())

    async def create(self, spec: VolumeSpec) -> Volume:
        await self._gate("create")
        return await super().create(spec)

    async def delete(self, volume: Volume) -> None:
        await self._gate("delete")
        await super().delete(volume)

    async def get(self, name: str) -> Volume | None:
        found = await super().get(name)
        await self._gate("get")  # the answer may be stale when it arrives
        return found

    async def list(self) -> Sequence[Volume]:
        await self._gate("list")
        return await super().list()

    async def attach(self, volume: Volume) -> MountSource:
        await self._gate("attach")
        return await super().attach(volume)

    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        await self._gate("tag_filesystem")
        return await super().tag_filesystem(volume, tag)

    async def detach(self, volume: Volume) -> None:
        await self._gate("detach")
        await super().detach(volume)

    async def _gate(self, call: str) -> None:
        if call in self.gates:
            await self.gates[call].pass_through()


class LocalDriver(GatedDriver):
    """A `GatedDriver` of volumes that never leave their host."""

    @property
    def info(self) -> DriverInfo:
        return DriverInfo(driver="local", scope=Scope.LOCAL, remote=False)


class MemoryStore:
    """A store that remembers what was written to it, and fails on demand.

    Attributes:
        entries: The entries that would survive a crash.
        operations: The operations of the API that would.
        engine: The last connected run of the engine.
        writes: Every write in its order: name, desired state, whether durable.
        broken: Whether writes fail.
        gate: Holds writes of entries with unconfirmed counts, as a disk that stalls.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.operations: dict[str, Operation] = {}
        self.engine: EngineIdentity | None = None
        self.writes: list[tuple[str, str, bool]] = []
        self.broken = False
        self.gate: Gate | None = None

    async def save(self, entry: Entry, *, durable: bool) -> None:
        if self.gate is not None and entry.unconfirmed:
            await self.gate.pass_through()
        self._fail_if_broken()
        self.entries[entry.name] = entry
        self.writes.append((entry.name, entry.desired.value, durable))

    async def forget(self, name: str) -> None:
        self._fail_if_broken()
        self.entries.pop(name, None)

    async def save_operation(self, operation: Operation, outdated: Sequence[str]) -> None:
        self._fail_if_broken()
        self.operations[operation.operation_id] = replace(operation)
        for operation_id in outdated:
            self.operations.pop(operation_id, None)

    async def save_engine(self, engine: EngineIdentity) -> None:
        self._fail_if_broken()
        self.engine = engine

    def kept_operations(self) -> list[Operation]:
        """Return the operations as a new process reads them."""
        return [replace(each, is_cancelled=False) for each in self.operations.values()]

    async def check_writable(self) -> None:
        self._fail_if_broken()

    def _fail_if_broken(self) -> None:
        if self.broken:
            raise HostError("the state file cannot be used: disk full")


class RecordingTimers(Timers):
    """Timers that record their delays, and that a test can fire."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[tuple[str, float]] = []

    def schedule(
        self, name: str, delay_s: float, action: Callable[[], Awaitable[None]], *, at_stop: bool = False
    ) -> None:
        self.delays.append((name, delay_s))
        super().schedule(name, delay_s, action, at_stop=at_stop)

    def fire(self) -> None:
        """Run all pending timers now."""
        for name, waiting in list(self._scheduled.items()):
            waiting.handle.cancel()
            self._start(name)


class Caller:
    """Docker's end of a connection."""

    def __init__(self, *, gone: bool = False) -> None:
        self.gone = gone

    def is_gone(self) -> bool:
        return self.gone


@dataclass
class Clock:
    """Seconds since boot, set by hand."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class World:
    """One host. `restart` starts a new process with the content of the store.

    Attributes:
        cloud: The cloud of the first backend.
        driver: The first backend, called memory.
        backends: All of them.
        host: The machine.
        hosts: The machine as seen by single backends, by their names.
        store: The state that survives a crash of the process.
        clock: Seconds since boot.
        deadlines: Time limits of answers to Docker.
        timeouts: How long a convergence waits.
        takeover: When a Mount may take a volume from another node.
        doubt: Why the default backend may not be the expected one.
    """

    cloud: MemoryCloud = field(default_factory=MemoryCloud)
    host: MemoryHost = field(default_factory=MemoryHost)
    hosts: dict[str, MemoryHost] = field(default_factory=dict)
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: Clock = field(default_factory=Clock)
    deadlines: Deadlines = GENEROUS
    timeouts: Timeouts = IMPATIENT
    takeover: TakeoverPolicy = TakeoverPolicy.PROOF
    doubt: ConfigurationError | None = None

    def __post_init__(self) -> None:
        self.driver = GatedDriver(self.cloud)
        self.backends: dict[str, Driver] = {"memory": self.driver}
        self.restart()

    def restart(self) -> None:
        """Build everything again, as after a crash; nothing of the old process continues."""
        self.timers = RecordingTimers()
        self.ledger = Ledger(self.store, self.store.entries.values(), self.store.engine)
        self.node = LocalNode(
            backends=self.backends,
            default_backend="memory",
            hosts={name: self.hosts.get(name, self.host) for name in self.backends},
            ledger=self.ledger,
            mount_root=ROOT,
            boot_clock=self.clock,
            timeouts=self.timeouts,
            deadlines=self.deadlines,
            timers=self.timers,
            operations=Operations(EventLog(f"run{next(_RUNS)}"), kept=self.store.kept_operations()),
            operation_store=self.store,
            takeover=self.takeover,
            doubt=self.doubt,
        )
        self.service = VolumeService(self.node, Defaults())

    def add_backend(
        self, name: str, kind: type[GatedDriver] = GatedDriver
    ) -> tuple[MemoryCloud, GatedDriver]:
        """Configure one more backend with a cloud of its own."""
        cloud = MemoryCloud()
        driver = kind(cloud, backend=name)
        self.backends[name] = driver
        self.restart()
        return cloud, driver

    # Docker's calls

    async def create(self, name: str, **options: str) -> None:
        await self.service.create(read_options(name, options))

    async def mount(self, name: str, mount_id: str = "c1", *, container: str = "") -> str:
        """Mount a volume, and start a container on it if one is named."""
        mounted = await self.service.mount(name, mount_id, Caller())
        mounted.answered(True)
        await asyncio.sleep(0)
        if container:
            self.occupy(name, container)
        return mounted.path

    async def mounted(self, name: str = "v", mount_id: str = "c1") -> Volume:
        """Create and mount a volume; its Mount is as old as a trial release asks for."""
        await self.create(name)
        await self.mount(name, mount_id)
        self.clock.now_s += self.deadlines.mount_grace_s
        return self.volume(name)

    # State

    def volume(self, name: str = "v") -> Volume:
        """The one volume of this name in the first cloud."""
        (found,) = (volume for volume in self.cloud.volumes.values() if volume.name == name)
        return found

    def device(self, name: str = "v") -> str:
        return device_of(self.volume(name).volume_id)

    def occupy(self, name: str, container: str) -> None:
        """Let a container hold the volume, as its own bind mount does."""
        self.host.holders.setdefault(self.device(name), set()).add(container)

    def vacate(self, name: str) -> None:
        """End all containers of a volume."""
        self.host.holders.pop(self.device(name), None)

    def is_mounted(self, name: str = "v") -> bool:
        return f"{ROOT}/{name}" in self.host.mounts

    def entry(self, name: str = "v") -> Entry:
        entry = self.ledger.get(name)
        assert entry is not None, f"nothing is remembered of {name}"
        return entry

    def calls_since(self, before: int) -> list[str]:
        return self.cloud.calls[before:]

    # Time

    async def run_timers(self) -> None:
        """Run everything that is scheduled now, once."""
        self.timers.fire()
        while running := self.timers.running:
            await asyncio.wait(running)

    async def finish_tasks(self) -> None:
        """Wait for tasks that run after an answer, such as writes of the ledger."""
        while running := self.node.tasks.running:
            await asyncio.wait(running)

    async def recover(self) -> None:
        """Start, and wait until recovery has handled every volume; its timers are still pending."""
        names = set(self.store.entries) | {path.removeprefix(f"{ROOT}/") for path in self.host.mounts}
        await self.service.start()
        for name in sorted(names):
            async with self.node.locks.of(name):
                pass


def call(key: str = "", fingerprint: str = "") -> ApiCall:
    """A request of the control API."""
    return ApiCall(request_id="request-1", idempotency_key=key, fingerprint=fingerprint)


def spec_of(name: str, size_bytes: int = GIB) -> VolumeSpec:
    return VolumeSpec(name, size_bytes)
