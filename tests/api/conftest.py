"""A control API on a cloud and a machine in memory."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.api import tls_site
from tests.api.serving import Api, serving, unix_client
from tests.volumes.world import World
from volplug.config import Settings


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that volplug serves on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def world() -> World:
    return World()


@pytest.fixture
def directory() -> Iterator[Path]:
    """The path of a socket has to be short."""
    with tempfile.TemporaryDirectory(prefix="volplug") as made:
        yield Path(made)


@pytest.fixture
def settings(directory: Path) -> Settings:
    return Settings(control_socket=directory / "c.sock")


@pytest.fixture
async def api(world: World, settings: Settings) -> AsyncIterator[Api]:
    await world.service.start()
    assert settings.control_socket is not None
    async with serving(world.service, settings), unix_client(settings.control_socket) as client:
        yield client


@pytest.fixture
def site(directory: Path) -> tls_site.Site:
    return tls_site.made_in(directory)
