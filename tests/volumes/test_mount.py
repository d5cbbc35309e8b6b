"""A volume between the count of a Mount and the delivery of its answer."""

import asyncio

from tests.volumes.world import Caller, World


async def test_a_trial_that_begins_as_a_mount_is_answered_leaves_it_mounted() -> None:
    """Docker is about to start its container, and the volume is not in use yet."""
    world = World()
    await world.create("v")
    await world.mount("v", "c1")
    second = await world.service.mount("v", "c2", Caller())
    await world.service.unmount("v", "c1")  # an unconfirmed count is left, which is to be tried
    world.timers.fire()
    second.answered(True)
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.is_mounted()
    assert world.entry().confirmed == {"c2": 1}
