"""volplug is killed at the steps of a volume's life on Cinder: it or another host completes what was begun.

Most steps are the core's own, and add little to tests/faults/test_kill_matrix.py, tests/follow/test_kills.py
and, for the notes of creations, to test_creation.py: they are slow here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cinder.conftest import NewPlugin
from tests.cinder.plugins import ServerPlugin
from tests.faults.records import Records
from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.shared import CINDER
from tests.lab.plugin import SERVE
from tests.lab.serve import dying_at, noting_steps
from tests.lab.waiting import wait_until
from volplug.steps import WorldStep

pytestmark = [*CINDER, pytest.mark.faults]

_NUMBERS = count()
_TIMEOUT_S: Final = 30.0
_OPTIONS: Final = {"Opts": {"size": "1GiB"}}
# Those of `_live`; the ledger's are one after each of the others.
_NOTED: Final = [(WorldStep.CREATION_NOTED, number) for number in (1, 2, 3)]
_OTHERS: Final = [
    (step, 1)
    for step in (
        WorldStep.LEDGER_WRITTEN,
        WorldStep.CREATE,
        WorldStep.ATTACH,
        WorldStep.TAG_FORMATTING,
        WorldStep.FORMAT_MARKED,
        WorldStep.MKFS_ENDED,
        WorldStep.MAKE_FILESYSTEM,
        WorldStep.BARE_DIRECTORY_MADE,
        WorldStep.MOUNT,
        WorldStep.DATA_DIRECTORY_MADE,
        WorldStep.FINISH_FORMAT,
        WorldStep.UNMOUNTED_BEFORE_RMDIR,
        WorldStep.UNMOUNT,
        WorldStep.DETACH,
        WorldStep.DELETE,
    )
]


def _all_but_one_slow(points: Sequence[tuple[object, ...]], but: tuple[object, ...]) -> list[object]:
    return [pytest.param(*each, marks=() if each == but else pytest.mark.slow) for each in points]


class RestartedPlugin:
    """A server's volplug, and how often it has died; it is started again.

    Attributes:
        plugin: The server's volplug.
        deaths: How often it has died.
    """

    def __init__(self, plugin: ServerPlugin, argv: Sequence[str] = SERVE) -> None:
        self.plugin = plugin
        self.deaths = 0
        if not plugin.start(argv):
            self.revive()

    def revive(self) -> None:
        """Start it again if it has died."""
        if self.plugin.is_killed():
            self.deaths += 1
            assert self.plugin.start()

    async def call(self, verb: str, name: str, **body: object) -> Mapping[str, Any] | None:
        """Make a call that does not fail; return None if volplug died of it, and start that again."""
        reply = await self.plugin.tried(verb, name, **body)
        if reply is None:
            await self.die()
            return None
        assert not reply.get("Err"), (reply, self.plugin.process.log_tail())
        return reply

    async def insist(self, verb: str, name: str, **body: object) -> Mapping[str, Any]:
        """Make a call, and make it again if volplug died of it."""
        return await self.call(verb, name, **body) or await self.call(verb, name, **body) or {}

    async def die(self) -> None:
        """Wait until it is dead, and start it again."""
        process = self.plugin.process
        await asyncio.to_thread(wait_until, lambda: not process.running, _TIMEOUT_S, "volplug is dead")
        self.revive()

    async def leave(self, name: str) -> None:
        """Unmount a volume, as dockerd does, which never repeats that; wait until it is detached."""
        await self.call("Unmount", name, ID=name)

        def is_detached() -> bool:
            self.revive()  # it may die after its answer
            return not self.plugin.server.disks()

        await asyncio.to_thread(wait_until, is_detached, _TIMEOUT_S, f"{name} is detached")

    async def use(self, name: str, written: int) -> None:
        """Mount a volume, check the records that were written so far, write one more, and leave it."""
        records = Records(Path((await self.insist("Mount", name, ID=name))["Mountpoint"]))
        records.acknowledged.extend(range(written))
        records.check()
        records.write()
        await self.leave(name)


@pytest.fixture
async def name(lab: OpenStackLab, plugins: list[ServerPlugin]) -> AsyncIterator[str]:
    """The name of a volume that is removed by the test."""
    yield f"db-{next(_NUMBERS)}"
    for each in plugins:
        each.process.kill()


@pytest.fixture
def plugins(new_plugin: NewPlugin) -> list[ServerPlugin]:
    """One on each server, new ones."""
    return [new_plugin(0), new_plugin(1)]


async def _live(restarted: RestartedPlugin, name: str) -> None:
    await restarted.insist("Create", name, **_OPTIONS)
    await restarted.use(name, 0)
    await restarted.use(name, 1)
    await restarted.insist("Remove", name)
    restarted.revive()
    await restarted.plugin.settle({})


@pytest.mark.parametrize(("step", "occurrence"), _all_but_one_slow([*_NOTED, *_OTHERS], but=_NOTED[1]))
async def test_what_a_killed_volplug_has_begun_the_next_one_completes(
    plugins: list[ServerPlugin], name: str, step: WorldStep, occurrence: int
) -> None:
    restarted = RestartedPlugin(plugins[0], dying_at(step, occurrence))
    await _live(restarted, name)
    assert restarted.deaths == 1


@pytest.mark.slow
async def test_a_life_takes_these_steps_and_no_others(
    plugins: list[ServerPlugin], name: str, tmp_path: Path
) -> None:
    await _live(RestartedPlugin(plugins[0], noting_steps(tmp_path / "steps")), name)
    assert plugins[0].process.stop() == 0
    seen = Counter((tmp_path / "steps").read_text().split())
    assert set(seen) == {step for step, _ in [*_NOTED, *_OTHERS]}
    assert seen[WorldStep.CREATION_NOTED] == len(_NOTED)


async def _die_on_a(plugins: list[ServerPlugin], name: str, occurrence: int) -> RestartedPlugin:
    """Have a's volplug die at a note of the creation of a volume, and stay dead."""
    a = RestartedPlugin(plugins[0], dying_at(WorldStep.CREATION_NOTED, occurrence))
    for verb, body in (("Create", _OPTIONS), ("Mount", {"ID": name})):
        if await a.plugin.tried(verb, name, **body) is None:
            break
    process = a.plugin.process
    await asyncio.to_thread(wait_until, lambda: not process.running, _TIMEOUT_S, "a's volplug is dead")
    return a


@pytest.mark.parametrize("occurrence", _all_but_one_slow([(1,), (2,), (3,)], but=(3,)))
async def test_what_a_killed_volplug_has_begun_another_host_can_use(
    plugins: list[ServerPlugin], name: str, occurrence: int
) -> None:
    """Of a note without a volume nothing follows; a volume that was attached is free once a is back."""
    a = await _die_on_a(plugins, name, occurrence)
    b = RestartedPlugin(plugins[1])
    await b.insist("Create", name, **_OPTIONS)
    if occurrence == 3:
        error = await b.plugin.error("Mount", name, ID=name)
        assert f"node {a.plugin.server.name} holds the volume" in error
        assert f"openstack server stop {a.plugin.server.id}" in error
        a.revive()
        await asyncio.to_thread(wait_until, _is_free(a.plugin), _TIMEOUT_S, "a has detached it")
    await b.use(name, 0)
    a.revive()
    await a.use(name, 1)
    await b.insist("Remove", name)
    await b.plugin.settle({})
    await a.plugin.settle({})


def _is_free(plugin: ServerPlugin) -> Callable[[], bool]:
    return lambda: not plugin.server.disks()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("occurrence", "step"),
    [(1, WorldStep.CREATION_NOTED), (2, WorldStep.ATTACH), (3, WorldStep.TAKE_OVER), (3, WorldStep.ATTACH)],
)
async def test_the_heir_of_a_killed_volplug_whose_server_is_off_is_killed_as_well(
    lab: OpenStackLab, plugins: list[ServerPlugin], name: str, occurrence: int, step: WorldStep
) -> None:
    a = await _die_on_a(plugins, name, occurrence)
    await asyncio.to_thread(lab.servers.stop, a.plugin.server)
    try:
        b = RestartedPlugin(plugins[1], dying_at(step))
        await b.insist("Create", name, **_OPTIONS)
        await b.use(name, 0)
        assert b.deaths == 1
    finally:
        await asyncio.to_thread(lab.servers.start, a.plugin.server)
    a.revive()
    await a.use(name, 1)
    await b.insist("Remove", name)
    await b.plugin.settle({})
    await a.plugin.settle({})
