import asyncio

from volplug.volumes.locks import VolumeLocks


async def test_changes_of_one_volume_never_overlap_although_no_task_keeps_the_lock_object() -> None:
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


async def test_mounts_in_progress_are_counted_until_the_last_is_answered() -> None:
    locks = VolumeLocks()
    lock = locks.of("v")
    lock.begin_mount()
    locks.of("v").begin_mount()
    lock.end_mount()
    assert locks.of("v").mounts_in_progress == 1
    lock.end_mount()
    assert locks.of("v").mounts_in_progress == 0
