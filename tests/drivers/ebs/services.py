"""The core on this machine, with an EBS backend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.leftovers import mounted_below
from volplug.drivers.base import Driver
from volplug.host import mounts
from volplug.host.machine import Machine
from volplug.host.threads import DevicePool
from volplug.store.sqlite import SqliteStore
from volplug.volumes.ledger import Ledger
from volplug.volumes.node import Deadlines, LocalNode
from volplug.volumes.options import Defaults, read_options
from volplug.volumes.service import VolumeService

_STOP_S = 20.0


class Waiting:
    """A client that stays."""

    def is_gone(self) -> bool:
        return False


@dataclass
class Host:
    """One volplug without its socket."""

    service: VolumeService
    directory: Path

    async def create(self, name: str, **options: str) -> None:
        await self.service.create(read_options(name, {"size": "4", **options}))

    async def mount(self, name: str, mount_id: str = "c1") -> str:
        mounted = await self.service.mount(name, mount_id, Waiting())
        mounted.answered(True)
        return mounted.path

    async def unmount_and_stop(self, name: str, mount_id: str = "c1") -> None:
        """Unmount, and wait until what follows behind the answer is done."""
        await self.service.unmount(name, mount_id)
        await self.service.stop(_STOP_S)

    async def use_on(self, name: str) -> None:
        """Do what Docker does with a volume that is mounted already."""
        await self.mount(name, "c2")
        await self.service.get(name)
        await self.service.path(name)
        await self.service.unmount(name, "c2")


@asynccontextmanager
async def host_with(driver: Driver, directory: Path, linger_s: float = 0.0) -> AsyncIterator[Host]:
    """Start the core over a driver; at the end it detaches what lingers, and nothing stays mounted."""
    directory.mkdir(parents=True, exist_ok=True)
    store = SqliteStore(directory / "state.sqlite", "boot")
    loaded = await store.load()
    site = LocalNode(
        backends={"ebs": driver},
        default_backend="ebs",
        hosts={"ebs": Machine(str(directory / "mounts"), DevicePool("test", 64, "ebs"))},
        ledger=Ledger(store, loaded.entries, loaded.engine, lambda _: None),
        mount_root=str(directory / "mounts"),
        boot_clock=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        deadlines=Deadlines(linger_s=linger_s),
    )
    service = VolumeService(site, Defaults(fs_type="ext4", size_bytes=None, profiles={}))
    await service.start()
    try:
        yield Host(service, directory)
        await service.stop(_STOP_S)
    finally:
        for place in mounted_below(directory):
            await asyncio.to_thread(mounts.unmount, place)
