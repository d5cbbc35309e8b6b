"""The command line on a control API with a cloud and a machine in memory, run in this process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from tests.api.conftest import directory, pytest_asyncio_loop_factories, settings, site, world
from tests.api.serving import serving
from tests.volumes.world import World
from volplug.cli.main import run
from volplug.config import Settings
from volplug.models import VolumeState

__all__ = ["directory", "pytest_asyncio_loop_factories", "settings", "site", "world"]


class Ran(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


Cli = Callable[..., Awaitable[Ran]]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable and no context of this machine is used, and ids are the same in each test."""
    monkeypatch.setattr("tests.volumes.world._RUNS", count(1))
    for name in ("VOLPLUG_HOST", "VOLPLUG_CONTEXT", "VOLPLUG_TOKEN_FILE", "VOLPLUG_CONFIG", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in a thread of this process, which may serve what it calls."""

    async def runs(*arguments: str) -> Ran:
        code = await asyncio.to_thread(run, arguments)
        written = capsys.readouterr()
        return Ran(code, written.out, written.err)

    return runs


@pytest.fixture
async def served(world: World, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A core whose control API commands call by default."""
    monkeypatch.setenv("VOLPLUG_HOST", f"unix://{settings.control_socket}")
    with capture_logs():  # the log of the process that serves is not that of commands
        await world.service.start()
        async with serving(world.service, settings):
            yield world


@pytest.fixture
async def furnished(served: World) -> World:
    """A core with volumes as hosts have them."""
    await served.create("todolist", size="10GiB", fs="xfs")
    await served.mount("todolist", container="c1")
    await served.create("a-volume-with-quite-a-long-name-as-stacks-make-them_data", size="1536GiB")
    await served.create("elsewhere", size="20GiB")
    await served.create("broken", size="512MiB")
    now = datetime.now(UTC).replace(microsecond=0)
    for operation in served.node.operations.list():
        operation.started_at = now - timedelta(minutes=5)
    ages = {"todolist": timedelta(hours=30), "elsewhere": timedelta(days=90)}
    for key, volume in served.cloud.volumes.items():
        changed = replace(volume, created_at=now - ages.get(volume.name, timedelta(seconds=150)))
        if volume.name == "elsewhere":
            changed = replace(changed, state=VolumeState.IN_USE, holder="i-0a1b2c3d4e5f60718")
        if volume.name == "broken":
            changed = replace(changed, state=VolumeState.ERROR, detail="the cloud lost it", created_at=None)
        served.cloud.volumes[key] = changed
    return served
