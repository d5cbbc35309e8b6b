"""The log of what changes the world, and of why."""

from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tests.volumes.bench import Bench
from tests.volumes.world import World, spec_of
from volplug.errors import VolumeNotFound
from volplug.testing.memory import MemoryDriver, device_of
from volplug.volumes.converge import CHANGES
from volplug.volumes.decision import PASSIVE_STEPS, Goal, Step
from volplug.volumes.observed import BackendState, DeviceMatch, Observed


@pytest.fixture
async def bench() -> Bench:
    return Bench()


def changes(logs: Sequence[EventDict]) -> list[str]:
    return [log["event"] for log in logs if log["log_level"] == "info"]


def test_every_step_that_changes_the_world_has_a_line_of_its_own() -> None:
    assert CHANGES.keys() == set(Step) - PASSIVE_STEPS
    assert len(set(CHANGES.values())) == len(CHANGES)


async def test_the_life_of_a_volume_is_one_line_for_each_change(bench: Bench) -> None:
    with capture_logs() as logs:
        volume = await bench.to(Goal.PRESENT, spec=spec_of("v"))
        for goal in (Goal.MOUNTED, Goal.RELEASED, Goal.DETACHED, Goal.ABSENT):
            await bench.to(goal)
    assert changes(logs) == [
        "volume created",
        "volume attached",
        "format begun",
        "filesystem made",
        "volume mounted",
        "format finished",
        "volume unmounted",
        "volume detached",
        "volume deleted",
    ]
    assert volume is not None
    for log in logs:
        if log["log_level"] == "info":
            assert (log["volume"], log["backend"], log["volume_id"]) == ("v", "memory", volume.volume_id)
            assert float(log["duration_s"]) >= 0
    with_device = {log["event"] for log in logs if log.get("device") == device_of(volume.volume_id)}
    assert with_device >= {"volume attached", "volume mounted", "volume unmounted", "volume detached"}


async def test_a_takeover_is_a_warning_that_names_the_node() -> None:
    world = World()
    await world.create("v")
    await MemoryDriver(world.cloud, "node-b").attach(world.volume())
    world.cloud.dead_nodes.add("node-b")
    with capture_logs() as logs:
        await world.mount("v")
    taken = next(log for log in logs if log["event"] == "volume taken over")
    assert (taken["log_level"], taken["from_node"]) == ("warning", "node-b")
    assert taken["volume_id"] == world.volume().volume_id
    assert str(taken["operation"]).startswith("mount ")


async def test_what_changes_nothing_logs_nothing_but_debug_lines_that_say_why(bench: Bench) -> None:
    await bench.to(Goal.MOUNTED, known=await bench.volume())
    with capture_logs() as logs:
        await bench.to(Goal.MOUNTED)
    assert changes(logs) == []
    assert {log["step"] for log in logs} == {Step.DONE}
    assert "mount=ok" in str(logs[-1]["observed"])


async def test_the_debug_line_of_a_refusal_names_its_reason(bench: Bench) -> None:
    with capture_logs() as logs, pytest.raises(VolumeNotFound):
        await bench.to(Goal.MOUNTED)
    assert [str(log["step"]) for log in logs] == ["refused: not_found"]


def test_the_log_of_a_reading_shows_what_differs_from_the_defaults() -> None:
    seen = Observed(backend_state=BackendState.HERE, device=DeviceMatch.RIGHT)
    assert str(seen) == "backend_state=here device=right"
