"""One machine with a Docker engine, as far as it matters to volumes, and a volplug that can die."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from itertools import count
from typing import cast

from tests.volumes.world import GENEROUS, Caller, Clock
from tests.walks.clock_timers import ClockTimers
from tests.walks.ground import Container, Ground
from tests.walks.killable import KillableProxy, Killed, ProcessRun
from volplug.drivers.base import Driver
from volplug.errors import NotCancellable, VolplugError
from volplug.host.base import Host
from volplug.models import EngineIdentity
from volplug.volumes.durable_operations import OperationStore
from volplug.volumes.events import EventLog
from volplug.volumes.ledger import Desired, Ledger, Store
from volplug.volumes.mount import MountAnswer
from volplug.volumes.node import LocalNode
from volplug.volumes.operations import ApiCall, ApiVerb, Operations
from volplug.volumes.options import Defaults, read_options
from volplug.volumes.service import VolumeService

NAMES = ("v", "w")
_FAILED = object()


class Node:
    """One machine.

    Attributes:
        ground: The environment of its volplug.
        containers: Its running containers.
    """

    def __init__(self, ground: Ground, clock: Clock, breach: Callable[[str], None]) -> None:
        self.ground = ground
        self.containers: list[Container] = []
        self._clock = clock
        self._breach = breach
        self._numbers = count(1)  # its own, so that a walk is the same each time
        self._engine = EngineIdentity(next(self._numbers), 0)
        self._undisturbed: set[str] = set()
        self._process_run = ProcessRun()
        self._timers = ClockTimers(clock)

    # Start and end of volplug

    async def start(self) -> None:
        """Start volplug, or restart it after its death."""
        self.kill()
        self._undisturbed.clear()
        run, ground = ProcessRun(), self.ground
        memory = await ground.load()
        self._process_run, self._timers = run, ClockTimers(self._clock)
        store = KillableProxy(memory.store, run)
        self._node = LocalNode(
            backends={ground.backend: cast(Driver, KillableProxy(ground.driver, run))},
            default_backend=ground.backend,
            hosts={ground.backend: cast(Host, KillableProxy(ground.host, run))},
            ledger=Ledger(cast(Store, store), memory.entries, memory.engine),
            mount_root=ground.mount_root,
            boot_clock=self._clock,
            timeouts=ground.timeouts,
            deadlines=GENEROUS,
            timers=self._timers,
            operations=Operations(EventLog(f"run{next(self._numbers)}"), kept=list(memory.operations)),
            operation_store=cast(OperationStore, store),
            is_engine_alive=lambda engine: engine == self._engine,
        )
        self._service = VolumeService(self._node, Defaults())
        await self._service.start()
        for name in NAMES:  # recovery has the locks until its end
            async with self._node.locks.of(name):
                pass

    def kill(self) -> None:
        """SIGKILL."""
        self._process_run.end()
        self._timers.drop()

    def die_after(self, crossings: int | None) -> None:
        """SIGKILL at some later crossing, if the run gets there."""
        self._process_run.end_after(crossings)

    async def revive(self) -> None:
        """Start volplug if it is dead."""
        if self._process_run.is_over:
            await self.start()

    async def pass_time(self) -> None:
        """Advance the clock and run due timers."""
        await self._timers.run_due()

    # Faults of the machine

    async def lose_power(self) -> None:
        """Off and on again; the counts are from another boot."""
        self.power_off()
        await self.start()

    def power_off(self) -> None:
        """Off, until it is started again."""
        self.kill()
        self.ground.lose_power()
        self.containers.clear()
        self._engine = EngineIdentity(next(self._numbers), 0)

    async def lose_state(self, dice: random.Random | None) -> None:
        """Restart with the state lost or damaged."""
        self.kill()
        self.ground.lose_state(dice)
        await self.start()

    def restart_engine(self, *, containers_live: bool) -> None:
        """A new dockerd: it sends no Unmount for containers that ended with the old one."""
        self._engine = EngineIdentity(next(self._numbers), 0)
        if not containers_live:
            for container in self.containers:
                self.ground.end(container)
            self.containers.clear()

    # Docker's calls

    async def create(self, name: str) -> None:
        """`docker volume create`."""
        await self._ask(lambda service: service.create(read_options(name, self.ground.options)))

    async def remove(self, name: str) -> None:
        """`docker volume rm`, without dockerd's own check of containers."""
        await self._ask(lambda service: service.remove(name))

    async def look(self, name: str) -> None:
        """`docker volume inspect` and `docker volume ls`."""
        await self._ask(lambda service: service.get(name))
        await self._ask(lambda service: service.list())

    async def run(self, name: str) -> bool:
        """`docker run -d`: mount, start, write a record."""
        mount_id = f"c{next(self._numbers)}"
        if await self._mount(name, mount_id) is _FAILED:
            return False
        device = self.ground.device_at(name)
        if not device:
            self._breach(f"{name} was answered as mounted and is not")
            return False
        container = Container(mount_id, name, device)
        if wrong := self.ground.begin(container):
            self._breach(f"{container}: {wrong}")
        self.containers.append(container)
        self._undisturbed.add(mount_id)
        return True

    async def stop(self, container: Container) -> None:
        """`docker stop`: dockerd sends one Unmount, and never again."""
        self.containers.remove(container)
        self.ground.end(container)
        await self._ask(lambda service: service.unmount(container.volume, container.mount_id))

    async def copy(self, container: Container) -> None:
        """`docker cp`: a Mount and an Unmount with the running container's ID."""
        if await self._mount(container.volume, container.mount_id) is not _FAILED:
            await self._ask(lambda service: service.unmount(container.volume, container.mount_id))

    async def mount_and_leave(self, name: str) -> None:
        """A Mount whose client disconnects, before the answer or while it is written."""
        mount_id = f"c{next(self._numbers)}"
        caller = Caller(gone=next(self._numbers) % 2 == 0)
        mounted = await self._ask(lambda service: service.mount(name, mount_id, caller))
        if isinstance(mounted, MountAnswer):
            mounted.answered(False)
            await asyncio.sleep(0)

    async def _mount(self, name: str, mount_id: str) -> object:
        mounted = await self._ask(lambda service: service.mount(name, mount_id, Caller()))
        if not isinstance(mounted, MountAnswer):
            return _FAILED
        mounted.answered(True)
        await asyncio.sleep(0)
        return mounted.path

    async def _ask(self, call: Callable[[VolumeService], Awaitable[object]]) -> object:
        if self._process_run.is_over:
            return _FAILED
        try:
            await self._service.engine_seen(self._engine)
            answer = await call(self._service)
        except (VolplugError, Killed):
            return _FAILED
        return _FAILED if self._process_run.is_over else answer

    # Calls of the control API

    async def ask_api(self, verb: ApiVerb, name: str) -> None:
        """A request, repeated if it was not answered; its operation runs on after it."""
        call = ApiCall(
            request_id="walk", idempotency_key=f"k{next(self._numbers)}", fingerprint=f"{verb} {name}"
        )
        if await self._start(verb, name, call) is _FAILED:
            await self._start(verb, name, call)

    async def _start(self, verb: ApiVerb, name: str, call: ApiCall) -> object:
        match verb:
            case ApiVerb.CREATE:
                request = read_options(name, self.ground.options)
                return await self._ask(lambda service: service.start_create(request, call))
            case ApiVerb.DELETE:
                return await self._ask(lambda service: service.start_delete(name, call))
            case ApiVerb.RELEASE:
                return await self._ask(lambda service: service.start_release(name, call))
            case ApiVerb.TAKEOVER:
                return await self._ask(lambda service: service.start_takeover(name, call))

    def cancel(self, name: str) -> None:
        """Cancel what the API does with a volume."""
        operations = self._service.operations
        for operation in operations.running:
            with contextlib.suppress(NotCancellable):
                if operation.volume == name:
                    operations.cancel(operation.operation_id)

    async def finish(self) -> None:
        """Wait for the end of what no caller waits for."""
        while running := self._node.tasks.running:
            await asyncio.wait(running)

    # State

    def without_mount(self) -> list[Container]:
        """Containers of this run of volplug whose volume is not mounted, where `docker cp` needs it."""
        if self._process_run.is_over:
            return []
        return [
            container
            for container in self.containers
            if container.mount_id in self._undisturbed
            and self.ground.device_at(container.volume) != container.device
        ]

    def unsettled(self) -> list[str]:
        """Volumes and entries that this machine has not released."""
        return (
            self.ground.left()
            + [
                f"{entry}, and {self._timers.waiting} waits"
                for entry in self._node.ledger.entries()
                if entry.is_claimed or entry.desired is not Desired.NONE
            ]
            + [f"{operation} has not ended" for operation in self._node.operations.running]
        )
