import asyncio

from tests.volumes.world import World
from volplug.volumes.locks import VolumeLocks


async def test_two_who_change_one_volume_never_overlap_although_neither_keeps_the_slot() -> None:
    locks, inside, most = VolumeLocks(), 0, 0

    async def change() -> None:
        nonlocal inside, most
        async with locks.of("v"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(change() for _ in range(20)))
    assert most == 1


async def test_different_volumes_do_not_wait_for_each_other() -> None:
    locks = VolumeLocks()
    async with locks.of("v"), locks.of("w"):
        pass


async def test_pending_mounts_are_counted_until_the_last_is_answered() -> None:
    locks = VolumeLocks()
    slot = locks.of("v")
    slot.begin_mount()
    locks.of("v").begin_mount()
    slot.end_mount()
    assert locks.of("v").mounts_in_progress == 1
    slot.end_mount()
    assert locks.of("v").mounts_in_progress == 0


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


async def test_what_runs_already_is_not_cancelled(world: World) -> None:
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
