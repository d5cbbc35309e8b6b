"""Whether this node can do its work."""

import asyncio

import pytest

from tests.volumes.test_overview import CheckedDriver
from tests.volumes.world import Clock, Gate, World
from volplug.errors import BackendDenied
from volplug.volumes.catalog import Catalog
from volplug.volumes.converge import Converger
from volplug.volumes.ledger import Desired, Entry
from volplug.volumes.node import Deadlines
from volplug.volumes.overview import Overview
from volplug.volumes.readiness import FRESH_S, Readiness
from volplug.volumes.recovery import Recovery
from volplug.volumes.release import Releaser

DENIED = BackendDenied("EC2 denied it")


@pytest.fixture
def world() -> World:
    world = World(deadlines=Deadlines(lookup_s=0.05))
    world.backends["memory"] = CheckedDriver(world.cloud)
    world.add_backend("other", CheckedDriver)
    return world


def checked(world: World, name: str) -> CheckedDriver:
    driver = world.backends[name]
    assert isinstance(driver, CheckedDriver)
    return driver


async def problems(world: World) -> str:
    return "; ".join(await world.service.monitor.readiness.problems())


async def test_a_node_is_ready_once_recovery_was_tried_for_each_volume(world: World) -> None:
    world.store.entries["v"] = Entry("v", "memory", desired=Desired.PRESENT)
    gate = checked(world, "memory").hold("get")
    world.restart()
    assert "not recovered" in await problems(world)
    await world.service.start()
    await gate.reached.wait()
    assert "not recovered" in await problems(world)
    gate.opened.set()
    await world.finish_tasks()
    assert await problems(world) == ""


async def test_one_backend_that_can_be_used_is_enough(world: World) -> None:
    await world.service.start()
    checked(world, "memory").problem = DENIED
    assert await problems(world) == ""


async def test_without_a_backend_that_can_be_used_it_is_not_ready(world: World) -> None:
    await world.service.start()
    checked(world, "memory").problem = DENIED
    gate = checked(world, "other").hold("health")
    shown = await problems(world)
    assert shown.startswith("no backend can be used: memory: EC2 denied it.; other: ")
    assert "did not answer" in shown
    gate.opened.set()


async def test_a_state_file_that_cannot_be_written_is_a_problem(world: World) -> None:
    await world.service.start()
    world.store.broken = True
    assert "disk full" in await problems(world)


async def test_a_disk_that_hangs_is_a_problem_and_gets_no_second_write(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, gate, writes = Clock(), Gate(), []

    async def hangs() -> None:
        writes.append(clock.now_s)
        await gate.pass_through()

    monkeypatch.setattr(world.store, "check_writable", hangs)
    readiness = await readiness_of(world, clock)
    for _ in range(2):
        (problem,) = await readiness.problems()
        assert "did not answer" in problem
        clock.now_s += FRESH_S + 1
    assert len(writes) == 1
    gate.opened.set()


async def test_frequent_questions_and_those_that_come_together_ask_once(world: World) -> None:
    clock, driver = Clock(), checked(world, "memory")
    readiness = await readiness_of(world, clock)
    await asyncio.gather(*(readiness.problems() for _ in range(20)))
    clock.now_s += FRESH_S
    await readiness.problems()
    assert driver.checks == 1
    clock.now_s += 1
    await readiness.problems()
    assert driver.checks == 2


async def readiness_of(world: World, clock: Clock) -> Readiness:
    """One with a clock that stands, of a node without volumes."""
    node = world.node
    converger = Converger(node)
    recovery = Recovery(node, converger, Releaser(node, converger))
    await recovery.begin()
    return Readiness(node, Overview(node, Catalog(node.backends, 1)), recovery, clock)
