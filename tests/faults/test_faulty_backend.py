"""A backend that is slow, fails and forgets for a while: nothing is lost, doubled or formatted twice."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest

from tests.volumes.world import ROOT, World
from volplug.errors import BackendUnavailable, VolplugError
from volplug.models import FilesystemPhase
from volplug.testing.faulty import FaultPlan, FaultyDriver
from volplug.volumes.ledger import Desired

pytestmark = pytest.mark.faults

NAMES = ("one", "two")
_TRIES = 60


class Stormy:
    """A host in memory whose backend suffers from a plan."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self.world = World()
        self.world.backends["memory"] = FaultyDriver(self.world.driver, plan)
        self.world.restart()

    async def insist(self, call: Callable[[], Awaitable[object]]) -> None:
        """Repeat a call until it succeeds, as users do; whatever else goes wrong is an error of ours."""
        errors = []
        for _ in range(_TRIES):
            try:
                await call()
            except VolplugError as error:
                errors.append(str(error))
            else:
                return await self.look()
        raise AssertionError(f"in vain: {errors[-5:]}")

    async def look(self) -> None:
        """Ask as dockerd does between its calls: what exists is never said to be missing."""
        self.world.clock.now_s += self.world.deadlines.mount_grace_s
        try:
            listed = {view.name for view in await self.world.service.list()}
        except BackendUnavailable:  # rather than an empty list that is not certain
            listed = set()
        assert listed >= {volume.name for volume in self.world.cloud.volumes.values()}
        for volume in list(self.world.cloud.volumes.values()):
            view = await self.world.service.get(volume.name)
            assert view.volume_id == volume.volume_id

    async def settle(self) -> None:
        """Let what is scheduled happen until nothing more is desired."""
        for _ in range(_TRIES):
            await self.world.run_timers()
            if all(entry.desired in {Desired.NONE, Desired.MOUNTED} for entry in self.world.ledger.entries()):
                return
        raise AssertionError("it never comes to rest")

    def check(self, mounted: set[str]) -> None:
        """Never two volumes of one name, never formatted twice, and mounted is what is counted."""
        names = sorted(volume.name for volume in self.world.cloud.volumes.values())
        assert names == sorted(set(names))
        assert all(disk.formats <= 1 for disk in self.world.host.disks.values())
        assert {place.removeprefix(f"{ROOT}/") for place in self.world.host.mounts} == mounted
        claimed = {entry.name for entry in self.world.ledger.entries() if entry.is_claimed}
        assert claimed == mounted
        tags = {volume.name: volume.filesystem.phase for volume in self.world.cloud.volumes.values()}
        assert all(tags[name] is FilesystemPhase.FORMATTED for name in mounted)


async def _live(stormy: Stormy, *, restarts: bool) -> None:
    world = stormy.world
    for name in NAMES:
        await stormy.insist(partial(world.create, name))
    for life in range(4):
        for name in NAMES:
            await stormy.insist(partial(world.mount, name, f"c{life}", container="c"))
        stormy.check(set(NAMES))
        if restarts:
            world.restart()
            await world.recover()
        for name in NAMES:
            world.vacate(name)
            await stormy.insist(partial(world.service.unmount, name, f"c{life}"))
        await stormy.settle()
        stormy.check(set())
        assert all(volume.holder is None for volume in world.cloud.volumes.values())
    for name in NAMES:
        await stormy.insist(partial(world.service.remove, name))
    stormy.plan.end()
    await stormy.settle()
    assert world.cloud.volumes == {}


_STORM = FaultPlan(latency_s=0.0005, error_rate=0.2, lost_answer_rate=0.2)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("seed", range(6))
async def test_errors_and_lost_answers(seed: int, restarts: bool) -> None:
    stormy = Stormy(replace(_STORM, seed=seed))
    await _live(stormy, restarts=restarts)
    assert stormy.plan.errors > 5


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("seed", range(6))
async def test_look_ups_that_know_only_what_was_before(seed: int, restarts: bool) -> None:
    stormy = Stormy(replace(_STORM, seed=seed, stale_reads=3))
    await _live(stormy, restarts=restarts)
    assert stormy.plan.stale_answers > 5
