import asyncio

from tests.volumes.world import World


async def test_a_new_timer_replaces_the_old(world: World) -> None:
    done: list[str] = []

    async def note(text: str) -> None:
        done.append(text)

    world.timers.schedule("v", 60, lambda: note("first"))
    world.timers.schedule("v", 60, lambda: note("second"))
    world.timers.schedule("w", 60, lambda: note("other"))
    world.timers.cancel("w")
    await world.run_timers()
    assert done == ["second"]


async def test_stopping_starts_only_what_has_to_happen_before_the_end(world: World) -> None:
    done: list[str] = []

    async def note(text: str) -> None:
        done.append(text)

    world.timers.schedule("v", 60, lambda: note("can wait for the next start"))
    world.timers.schedule("w", 60, lambda: note("cannot"), at_stop=True)
    world.timers.flush()
    await asyncio.wait(world.timers.running)
    assert done == ["cannot"]


async def test_a_running_task_is_not_cancelled(world: World) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def act() -> None:
        started.set()
        await go_on.wait()
        done.append("all")

    world.timers.schedule("v", 60, act)
    world.timers.fire()
    await started.wait()
    world.timers.cancel("v")
    go_on.set()
    await world.run_timers()
    assert done == ["all"]
