"""Killed at every step that changes the world and brought back: nothing is lost, everything is finished."""

import pytest

from tests.faults.life import Life, killing, live, lose_host
from tests.served.conftest import LocalMachine
from volplug.steps import WorldStep

pytestmark = [pytest.mark.faults, pytest.mark.loop]

_MOST = 40
# One host has nothing to take from others; tests/follow/test_kills.py kills at what that takes.
STEPS = [step for step in WorldStep if step not in {WorldStep.FENCE, WorldStep.TAKE_OVER}]


async def _kill_at_each(machine: LocalMachine, step: WorldStep, make_life: object) -> int:
    """Live with a kill at the first such step, at the second, and so on until there is none; count them."""
    assert callable(make_life)
    for occurrence in range(1, _MOST):
        life: Life = make_life(occurrence)
        try:
            life.start()
            await live(life)
        finally:
            life.volplug.kill()
        life.end()
        if not life.crashes:
            return occurrence - 1
    raise AssertionError(f"more than {_MOST} times")


@pytest.mark.parametrize("step", STEPS)
async def test_the_caller_repeats_what_was_not_answered(machine: LocalMachine, step: WorldStep) -> None:
    kills = await _kill_at_each(machine, step, lambda n: Life(machine, argv=killing(step, n)))
    assert kills > 0, f"nothing was ever killed at {step}"


@pytest.mark.parametrize("step", STEPS)
async def test_the_caller_gives_up_and_volplug_settles_by_itself(
    machine: LocalMachine, step: WorldStep
) -> None:
    kills = await _kill_at_each(machine, step, lambda n: Life(machine, repeats=False, argv=killing(step, n)))
    assert kills > 0, f"nothing was ever killed at {step}"


@pytest.mark.parametrize("step", STEPS)
async def test_the_recovery_is_killed_as_well(machine: LocalMachine, step: WorldStep) -> None:
    """After the kill it is started again with a kill at the next ledger write, unmount and detach."""
    later = [killing(again, 1) for again in (WorldStep.UNMOUNT, WorldStep.DETACH, WorldStep.LEDGER_WRITTEN)]
    kills = await _kill_at_each(
        machine, step, lambda n: Life(machine, argv=killing(step, n), later=list(later))
    )
    assert kills > 0, f"nothing was ever killed at {step}"


@pytest.mark.parametrize("step", STEPS)
async def test_the_whole_host_is_lost_with_it(machine: LocalMachine, step: WorldStep) -> None:
    kills = await _kill_at_each(
        machine, step, lambda n: Life(machine, argv=killing(step, n), after_crash=lose_host)
    )
    assert kills > 0, f"nothing was ever killed at {step}"
