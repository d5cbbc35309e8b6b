"""One machine with a Docker engine, as far as volumes notice it, and a volplug that can die."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import cast

from tests.volumes.world import GENEROUS, IMPATIENT, ROOT, Caller, Clock, MemoryStore
from tests.walks.laboratory import Laboratory, WatchedDriver, WatchedHost
from tests.walks.mortal import Killed, Life, Mortal
from volplug.drivers.base import Driver
from volplug.drivers.memory import device_of
from volplug.errors import VolplugError
from volplug.host.base import Host
from volplug.volumes.ledger import Desired, EngineIdentity, Ledger, Store
from volplug.volumes.options import Defaults
from volplug.volumes.service import VolumeService
from volplug.volumes.site import Site
from volplug.volumes.slots import Timers

_NUMBERS = count(1)
_NEVER_S = 1e6


@dataclass(frozen=True)
class Container:
    """A running container with one volume.

    Attributes:
        mount_id: What dockerd calls its use of the volume.
        volume: The volume's name.
        device: What it has mounted.
    """

    mount_id: str
    volume: str
    device: str


class ClockTimers(Timers):
    """Timers that go by a clock of ours."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._due_s: dict[str, float] = {}

    def schedule(
        self, name: str, delay_s: float, action: Callable[[], Awaitable[None]], *, at_stop: bool = False
    ) -> None:
        self._due_s[name] = self._clock() + delay_s
        super().schedule(name, _NEVER_S, action, at_stop=at_stop)

    async def run_due(self) -> None:
        """Run what is due, and what that makes due."""
        while due := [name for name in self._waiting if self._due_s[name] <= self._clock()]:
            for name in due:
                self._waiting[name].handle.cancel()
                self._start(name)
            while self.running:
                await asyncio.wait(self.running)

    def drop(self) -> None:
        """Forget everything."""
        for name in list(self._waiting):
            self.cancel(name)


class Node:
    """One machine.

    Attributes:
        host: Its kernel.
        containers: What runs on it.
        store: What volplug keeps on its disk.
    """

    def __init__(self, laboratory: Laboratory, name: str, clock: Clock) -> None:
        self._laboratory = laboratory
        self._name = name
        self._clock = clock
        self._driver = WatchedDriver(laboratory, name)
        self.host = WatchedHost(laboratory, name)
        self.store = MemoryStore()
        self.containers: list[Container] = []
        self._engine = EngineIdentity(next(_NUMBERS), 0)
        self._undisturbed: set[str] = set()
        self._life = Life()
        self._timers = ClockTimers(self._clock)
        self._service: VolumeService | None = None

    # Volplug's life

    async def start(self) -> None:
        """Start volplug, or start it anew after its death."""
        self.kill()
        self._undisturbed.clear()
        life = self._life = Life()
        self._timers = ClockTimers(self._clock)
        store = self.store
        site = Site(
            backends={"memory": cast(Driver, Mortal(self._driver, life))},
            default_backend="memory",
            host=cast(Host, Mortal(self.host, life)),
            ledger=Ledger(cast(Store, Mortal(store, life)), store.entries.values(), store.engine),
            mount_root=ROOT,
            boot_clock=self._clock,
            patience=IMPATIENT,
            limits=GENEROUS,
            timers=self._timers,
            is_engine_alive=lambda engine: engine == self._engine,
        )
        self._site = site
        self._service = VolumeService(site, Defaults())
        await self._service.start()
        for name in ("v", "w"):
            async with site.slots.of(name):
                pass

    def kill(self) -> None:
        """SIGKILL."""
        self._life.end()
        self._timers.drop()

    def die_after(self, crossings: int | None) -> None:
        """SIGKILL somewhere in what comes next, or not after all."""
        self._life.end_after(crossings)

    async def revive(self) -> None:
        """Start volplug if it is dead."""
        if self._life.is_over:
            await self.start()

    async def pass_time(self) -> None:
        """Let what is due happen."""
        await self._timers.run_due()

    # What befalls the machine

    async def lose_power(self) -> None:
        """Off and on again; what was counted is of another boot."""
        self.kill()
        self.host.lose_power()
        self.containers.clear()
        for name, entry in self.store.entries.items():
            self.store.entries[name] = replace(entry.without_claims(), mounted_at_s=0)
        self._engine = EngineIdentity(next(_NUMBERS), 0)
        await self.start()

    async def lose_mount_namespace(self) -> None:
        """What `docker plugin disable -f` and enable do: our mounts are gone, containers go on."""
        self.kill()
        self.host.mounts.clear()
        await self.start()

    async def lose_state(self) -> None:
        """The state file is gone at a start."""
        self.kill()
        self.store = MemoryStore()
        await self.start()

    def restart_engine(self, *, containers_live: bool) -> None:
        """A new dockerd: it sends no Unmount for what ended with the old one."""
        self._engine = EngineIdentity(next(_NUMBERS), 0)
        if not containers_live:
            for container in self.containers:
                self._let_go(container)
            self.containers.clear()

    # What Docker asks

    async def create(self, name: str) -> bool:
        """`docker volume create`."""
        return await self._ask(lambda service: service.create(name, {})) is not _FAILED

    async def remove(self, name: str) -> bool:
        """`docker volume rm`, whatever dockerd itself knows of containers."""
        return await self._ask(lambda service: service.remove(name)) is not _FAILED

    async def look(self, name: str) -> None:
        """`docker volume inspect` and `docker volume ls`."""
        await self._ask(lambda service: service.get(name))
        await self._ask(lambda service: service.list())

    async def run(self, name: str) -> bool:
        """`docker run -d`: mount, start, write a record."""
        mount_id = f"c{next(_NUMBERS)}"
        if await self._mount(name, mount_id) is _FAILED:
            return False
        device = self.host.mounts.get(f"{ROOT}/{name}", "")
        if not device:
            self._laboratory.breach(f"{name} was answered as mounted on {self._name} and is not")
            return False
        self.host.holders.setdefault(device, set()).add(mount_id)
        self.containers.append(Container(mount_id, name, device))
        self._undisturbed.add(mount_id)
        self._laboratory.records.setdefault(device, []).append(next(_NUMBERS))
        return True

    async def stop(self, container: Container) -> None:
        """`docker stop`: dockerd sends one Unmount, and never again."""
        self.containers.remove(container)
        self._let_go(container)
        await self._ask(lambda service: service.unmount(container.volume, container.mount_id))

    async def copy(self, container: Container) -> None:
        """`docker cp`: a Mount and an Unmount with the running container's ID."""
        if await self._mount(container.volume, container.mount_id) is not _FAILED:
            await self._ask(lambda service: service.unmount(container.volume, container.mount_id))

    async def mount_and_leave(self, name: str) -> None:
        """A Mount whose client does not wait for the answer."""
        await self._mount(name, f"c{next(_NUMBERS)}", Caller(gone=True))

    async def _mount(self, name: str, mount_id: str, caller: Caller | None = None) -> object:
        path = await self._ask(lambda service: service.mount(name, mount_id, caller or Caller()))
        await asyncio.sleep(0)  # the answer goes out
        return path

    def _let_go(self, container: Container) -> None:
        self.host.holders.get(container.device, set()).discard(container.mount_id)

    async def _ask(self, call: Callable[[VolumeService], Awaitable[object]]) -> object:
        assert self._service is not None
        if self._life.is_over:
            return _FAILED
        try:
            await self._service.engine_seen(self._engine)
            answer = await call(self._service)
        except (VolplugError, Killed):
            return _FAILED
        return _FAILED if self._life.is_over else answer

    # What is true

    def without_mount(self) -> list[Container]:
        """Containers of this life of volplug whose volume is not mounted, where `docker cp` looks for it."""
        if self._life.is_over:
            return []
        return [
            container
            for container in self.containers
            if container.mount_id in self._undisturbed
            and self.host.mounts.get(f"{ROOT}/{container.volume}") != container.device
        ]

    def unsettled(self) -> list[str]:
        """What this machine has not let go of."""
        left = [f"{target} is mounted on {self._name}" for target in self.host.mounts]
        left += [
            f"{volume.name} ({device_of(volume.volume_id)}) is attached to {self._name}"
            for volume in self._laboratory.cloud.volumes.values()
            if volume.holder == self._name
        ]
        left += [
            f"{entry} on {self._name}"
            for entry in self._site.ledger.entries()
            if entry.is_claimed or entry.desired is not Desired.NONE
        ]
        return left


_FAILED = object()
