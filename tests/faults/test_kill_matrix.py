"""Killed at every step that changes the world and brought back: nothing is lost, everything is finished.

A kill point is one occurrence of a step in the life of a volume; a variant is what follows the kill. The
default tests have each variant with each step and each kill point with some variant; the others are slow.
"""

from collections import Counter

import pytest

from tests.faults.life import Life, live, lose_host
from tests.lab.serve import dying_at, noting_steps
from tests.served.conftest import LocalMachine
from volplug.steps import WorldStep

pytestmark = [pytest.mark.faults, pytest.mark.loop, pytest.mark.spread]

# One host has nothing to take from others; tests/follow/test_kills.py kills at what that takes.
# Docker starts no durable operation.
_NOT_OF_LOOP = {
    *(WorldStep.FENCE, WorldStep.TAKE_OVER, WorldStep.CREATION_NOTED, WorldStep.OPERATION_WRITTEN),
    *(WorldStep.DATASET_MADE, WorldStep.DATASET_NOTED, WorldStep.DATASET_STAGED),
}
STEPS: list[WorldStep] = [step for step in WorldStep if step not in _NOT_OF_LOOP]
_AT_EACH_MOUNT = (
    WorldStep.LOOP_CONFIGURED,
    WorldStep.ATTACH,
    WorldStep.BARE_DIRECTORY_MADE,
    WorldStep.MOUNT,
    WorldStep.UNMOUNTED_BEFORE_RMDIR,
    WorldStep.UNMOUNT,
    WorldStep.DETACH,
)
OCCURRENCES = dict.fromkeys(STEPS, 1) | dict.fromkeys(_AT_EACH_MOUNT, 3) | {WorldStep.LEDGER_WRITTEN: 16}
KILL_POINTS = [(step, number + 1) for step, times in OCCURRENCES.items() for number in range(times)]
_REPEATS, _GIVES_UP, _KILLED_AGAIN, _HOST_LOST = VARIANTS = range(4)


def _is_slow(variant: int, step: WorldStep, occurrence: int) -> bool:
    """Deal out the occurrences of a step to the variants; if there are fewer than variants, several times."""
    return (occurrence - 1 + variant + STEPS.index(step)) % min(OCCURRENCES[step], len(VARIANTS)) != 0


def _at_each_kill_point(variant: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("step", "occurrence"),
        [
            pytest.param(*point, marks=[pytest.mark.slow] if _is_slow(variant, *point) else [])
            for point in KILL_POINTS
        ],
    )


def test_each_variant_is_killed_at_each_step_and_each_kill_point_is_visited() -> None:
    chosen = [
        (variant, *point) for variant in VARIANTS for point in KILL_POINTS if not _is_slow(variant, *point)
    ]
    assert {(variant, step) for variant, step, _ in chosen} == {(v, step) for v in VARIANTS for step in STEPS}
    assert {(step, occurrence) for _, step, occurrence in chosen} == set(KILL_POINTS)


async def test_a_life_takes_each_step_as_often_as_it_is_killed_there(machine: LocalMachine) -> None:
    file = machine.directory / "steps"
    await _live_and_end(Life(machine, argv=noting_steps(file)))
    assert Counter(WorldStep(line) for line in file.read_text().splitlines()) == Counter(OCCURRENCES)


@_at_each_kill_point(_REPEATS)
async def test_the_caller_repeats_what_was_not_answered(
    machine: LocalMachine, step: WorldStep, occurrence: int
) -> None:
    life = Life(machine, argv=dying_at(step, occurrence))
    await _live_and_end(life)
    assert life.crashes == 1


@_at_each_kill_point(_GIVES_UP)
async def test_the_caller_gives_up_and_volplug_settles_by_itself(
    machine: LocalMachine, step: WorldStep, occurrence: int
) -> None:
    life = Life(machine, repeats=False, argv=dying_at(step, occurrence))
    await _live_and_end(life)
    assert life.crashes == 1


@_at_each_kill_point(_KILLED_AGAIN)
async def test_the_recovery_is_killed_as_well(
    machine: LocalMachine, step: WorldStep, occurrence: int
) -> None:
    """The next starts are killed at their first ledger write, unmount, detach and again ledger write."""
    again = (WorldStep.LEDGER_WRITTEN, WorldStep.UNMOUNT, WorldStep.DETACH, WorldStep.LEDGER_WRITTEN)
    life = Life(machine, argv=dying_at(step, occurrence), later=[dying_at(each, 1) for each in again])
    await _live_and_end(life)
    # Once the volume is deleted, nothing of it is written any more.
    assert life.crashes > (0 if step is WorldStep.DELETE else 1)


@_at_each_kill_point(_HOST_LOST)
async def test_the_whole_host_is_lost_with_it(
    machine: LocalMachine, step: WorldStep, occurrence: int
) -> None:
    life = Life(machine, argv=dying_at(step, occurrence), after_crash=lose_host)
    await _live_and_end(life)
    assert life.crashes == 1


async def _live_and_end(life: Life) -> None:
    try:
        life.start()
        await live(life)
    except BaseException:
        life.volplug.kill()
        raise
    life.end()
