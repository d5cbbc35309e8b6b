"""A plugin socket served in this process, over a cloud and a machine in memory."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop
from aiohttp import web

from tests.dockerd import Dockerd
from tests.volumes.world import GatedDriver
from volplug.connections import Bounds
from volplug.engine_peer import EngineProcesses
from volplug.handlers.plugin import PluginHandler
from volplug.server import EnginePeers, SocketServer, UnixSocket
from volplug.store.sqlite import SqliteStore
from volplug.testing.host import MemoryHost
from volplug.testing.memory import MemoryCloud
from volplug.volumes.converge_request import Timeouts
from volplug.volumes.ledger import Ledger
from volplug.volumes.node import Deadlines, LocalNode
from volplug.volumes.options import Defaults
from volplug.volumes.service import VolumeService


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that volplug serves on: it reads from a new connection earlier than asyncio's own."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class World:
    """The objects behind the socket."""

    socket: Path
    cloud: MemoryCloud = field(default_factory=MemoryCloud)
    driver: GatedDriver = field(init=False)
    host: MemoryHost = field(default_factory=MemoryHost)
    deadlines: Deadlines = field(default_factory=lambda: Deadlines(lookup_s=0.5, mount_grace_s=0))
    bounds: Bounds = field(default_factory=Bounds)
    body_s: float = 10.0
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.driver = GatedDriver(self.cloud)


@pytest.fixture
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="volplug") as directory:
        yield World(Path(directory) / "p.sock")


@pytest.fixture
async def store(world: World) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(world.socket.with_name("state.sqlite"), "boot-1")
    yield store
    await store.close()


@pytest.fixture
async def service(world: World, store: SqliteStore) -> AsyncIterator[VolumeService]:
    loaded = await store.load()
    site = LocalNode(
        backends={"memory": world.driver},
        default_backend="memory",
        hosts={"memory": world.host},
        ledger=Ledger(store, loaded.entries, loaded.engine),
        mount_root="/mounts",
        boot_clock=lambda: 1000.0,
        timeouts=Timeouts(release_s=0, quick_release_s=0, backend_s=1, poll_s=0.01),
        deadlines=world.deadlines,
    )
    service = VolumeService(site, Defaults())
    await service.start()
    yield service
    await service.stop(5)


@pytest.fixture
def plugin_socket(world: World) -> Iterator[UnixSocket]:
    plugin_socket = UnixSocket.of_plugin(world.socket)
    yield plugin_socket
    plugin_socket.close()
    assert not world.socket.exists()


@pytest.fixture
async def dockerd(world: World, service: VolumeService, plugin_socket: UnixSocket) -> AsyncIterator[Dockerd]:
    identify = EnginePeers(EngineProcesses()).identify
    handler = PluginHandler(service, "global", identify, world.body_s)

    async def counted(request: web.BaseRequest) -> web.StreamResponse:
        world.calls.append(request.path)
        return await handler(request)

    server = SocketServer(counted, world.bounds)
    await server.start(plugin_socket)
    async with Dockerd(world.socket) as client:
        yield client
    await server.stop()
