"""SIGTERM, and work that continues after it."""

import asyncio
import signal

import pytest
from structlog.testing import capture_logs

from tests.contract.conftest import World
from tests.host.pool import POOL
from tests.volumes.world import Caller
from volplug import app
from volplug.config import Settings
from volplug.control_server import ControlServer
from volplug.engine_peer import EngineProcesses
from volplug.handlers.plugin import PluginHandler
from volplug.host import process
from volplug.managed import unchanged
from volplug.server import EnginePeers, SocketServer
from volplug.store.sqlite import SqliteStore
from volplug.volumes.options import CreateRequest
from volplug.volumes.service import VolumeService

pytestmark = pytest.mark.contract


def unstarted(service: VolumeService) -> ControlServer:
    """A control API that does not listen."""
    return ControlServer(Settings(), service, unchanged, is_managed=False)


async def test_work_that_continues_after_the_stop_finds_the_state_file_open(
    world: World, service: VolumeService, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_WORK_ENDS_S", 0.01)
    server = SocketServer(PluginHandler(service, "global", EnginePeers(EngineProcesses()).identify))
    await service.create(CreateRequest(name="db"))
    attaching = world.driver.hold("attach")
    mounting = asyncio.create_task(service.mount("db", "a", Caller()))
    await attaching.reached.wait()
    with capture_logs() as logs:
        await app._stop(server, unstarted(service), service, store)
        attaching.opened.set()
        await mounting
    serious = [each["event"] for each in logs if each["log_level"] not in {"debug", "info"}]
    assert serious == ["stopped with work unfinished, the next start continues it"]
    assert "volume mounted" in [each["event"] for each in logs]


async def test_a_check_of_a_filesystem_is_asked_to_stop_and_waited_for(
    service: VolumeService, store: SqliteStore
) -> None:
    server = SocketServer(PluginHandler(service, "global", EnginePeers(EngineProcesses()).identify))
    checking = asyncio.create_task(
        process.run(POOL, ("sleep", "600"), ok=(-signal.SIGTERM,), stop_signal=signal.SIGTERM)
    )
    while not process.running_programs():  # noqa: ASYNC110 - the start of a program has no event
        await asyncio.sleep(0)
    try:
        await app._stop(server, unstarted(service), service, store)
        assert process.running_programs() == ()
    finally:
        await process.wait_for_programs(20)
        await checking
