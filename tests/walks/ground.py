"""The environment of a volplug: a backend, a kernel, a disk for its state, and containers."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from tests.volumes.world import IMPATIENT, ROOT, MemoryStore
from tests.walks.laboratory import Laboratory, WatchedDriver, WatchedHost
from volplug.drivers.base import Driver
from volplug.host.base import Host
from volplug.models import EngineIdentity
from volplug.testing.memory import device_of
from volplug.volumes.converge_request import Timeouts
from volplug.volumes.durable_operations import OperationStore
from volplug.volumes.ledger import Entry, Store
from volplug.volumes.operations import Operation


@dataclass(frozen=True)
class Container:
    """A running container with one volume.

    Attributes:
        mount_id: The mount ID of its use of the volume.
        volume: The volume's name.
        device: The device that it has mounted.
    """

    mount_id: str
    volume: str
    device: str


class WholeStore(Store, OperationStore, Protocol):
    """All that volplug writes."""


@dataclass(frozen=True)
class Memory:
    """The state that volplug finds at its start."""

    store: WholeStore
    entries: Iterable[Entry]
    engine: EngineIdentity | None
    operations: Iterable[Operation]


class Ground(Protocol):
    """One machine, real or not.

    Attributes:
        backend: Name of its only backend.
        driver: That backend's driver.
        host: Its kernel.
        mount_root: Where volumes are mounted.
        timeouts: How long volplug waits for others here.
        options: Options of new volumes.
    """

    backend: str
    driver: Driver
    host: Host
    mount_root: str
    timeouts: Timeouts
    options: Mapping[str, str]

    async def load(self) -> Memory:
        """Open the state; files of a previous process are closed."""
        ...

    def lose_state(self, dice: random.Random | None) -> None:
        """Remove the state while no volplug runs, or damage some of it at random."""
        ...

    def lose_power(self) -> None:
        """End everything that runs or is mounted, while no volplug runs."""
        ...

    def device_at(self, name: str) -> str:
        """Return the device that is mounted at a volume's place, empty if none is."""
        ...

    def begin(self, container: Container) -> str:
        """Let a container hold its volume and write a record; return an error text, or empty."""
        ...

    def end(self, container: Container) -> None:
        """Let a container end."""
        ...

    def left(self) -> list[str]:
        """Return what is mounted or attached."""
        ...


class MemoryGround:
    """A machine in memory, on a cloud that it shares with others."""

    backend = "memory"
    mount_root = ROOT
    timeouts = IMPATIENT
    options: Mapping[str, str] = {}

    def __init__(self, laboratory: Laboratory, name: str) -> None:
        self._laboratory = laboratory
        self._name = name
        self._written = 0
        self.driver: Driver = WatchedDriver(laboratory, name)
        self.kernel = WatchedHost(laboratory, name)
        self.host: Host = self.kernel
        self.store = MemoryStore()

    async def load(self) -> Memory:
        store = self.store
        return Memory(store, list(store.entries.values()), store.engine, store.kept_operations())

    def lose_state(self, dice: random.Random | None) -> None:
        kept, self.store = self.store, MemoryStore()
        if dice is not None:
            self.store.engine = kept.engine
            self.store.entries = {name: each for name, each in kept.entries.items() if dice.random() < 0.5}
            self.store.operations = {
                key: each for key, each in kept.operations.items() if dice.random() < 0.5
            }

    def lose_power(self) -> None:
        self.kernel.lose_power()
        self.store.engine = None
        for name, entry in self.store.entries.items():
            self.store.entries[name] = replace(entry.without_claims(), mounted_at_s=0)

    def device_at(self, name: str) -> str:
        return self.kernel.mounts.get(f"{ROOT}/{name}", "")

    def begin(self, container: Container) -> str:
        self.kernel.holders.setdefault(container.device, set()).add(container.mount_id)
        self._laboratory.records.add(container.device)
        return ""

    def end(self, container: Container) -> None:
        self.kernel.holders.get(container.device, set()).discard(container.mount_id)

    def left(self) -> list[str]:
        found = [f"{target} is mounted on {self._name}" for target in self.kernel.mounts]
        return found + [
            f"{volume.name} ({device_of(volume.volume_id)}) is attached to {self._name}"
            for volume in self._laboratory.cloud.volumes.values()
            if volume.holder == self._name
        ]
