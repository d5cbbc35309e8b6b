import asyncio

from volplug.volumes.slots import Slots


async def test_two_who_change_one_volume_never_overlap_although_neither_keeps_the_slot() -> None:
    slots, inside, most = Slots(), 0, 0

    async def change() -> None:
        nonlocal inside, most
        async with slots.of("v"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(change() for _ in range(20)))
    assert most == 1


async def test_different_volumes_do_not_wait_for_each_other() -> None:
    slots = Slots()
    async with slots.of("v"), slots.of("w"):
        pass


async def test_pending_mounts_are_counted_until_the_last_is_answered() -> None:
    slots = Slots()
    slot = slots.of("v")
    slot.begin_mount()
    slots.of("v").begin_mount()
    slot.end_mount()
    assert slots.of("v").pending == 1
    slot.end_mount()
    assert slots.of("v").pending == 0
