"""Crashes, cancellations and concurrent calls."""

# ruff: noqa: S101  # these are pytest's tests, which assert

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Final

import pytest

from volplug.drivers.base import Driver
from volplug.errors import VolumeExists, VolumeNotFound
from volplug.models import Volume, VolumeState
from volplug.testing.conformance.calls import CHANGES, by_id, change, finish_creation, located, tags_of
from volplug.testing.driver_fixtures import DriverFixtures, Eventually, Interrupt, MakeSpec, NewDriver

# Reads that check whether work continues after a cancellation. Too few miss a fault, they never invent one.
_READS: Final = 20


class InterruptionCases(DriverFixtures):
    """A volume is whole after interrupted and during concurrent calls."""

    async def test_creation_that_was_begun_is_finished(
        self, driver: Driver, make_spec: MakeSpec, interrupt_create: Interrupt
    ) -> None:
        """After a crash in `create` there is one volume, or none."""
        spec = make_spec()
        await interrupt_create(spec)
        volume = await finish_creation(driver, spec) or await driver.create(spec)
        assert (volume.state, volume.spec) == (VolumeState.AVAILABLE, spec)
        assert list(await driver.list()) == [volume]
        assert await located(driver, volume) is None

    async def test_creation_that_was_begun_is_not_turned_into_another(
        self, driver: Driver, make_spec: MakeSpec, interrupt_create: Interrupt
    ) -> None:
        """Another spec of the name is refused, or created if the begun volume does not exist."""
        spec = make_spec()
        await interrupt_create(spec)
        other = replace(spec, mode=0o711)
        if await driver.get(spec.name) is None:
            assert (await driver.create(other)).spec == other
        else:
            with pytest.raises(VolumeExists):
                await driver.create(other)
        assert len(await driver.list()) == 1

    async def test_creation_that_was_begun_can_be_given_up(
        self, driver: Driver, make_spec: MakeSpec, interrupt_create: Interrupt
    ) -> None:
        """A volume that a crash in `create` leaves can be deleted."""
        spec = make_spec()
        await interrupt_create(spec)
        begun = await driver.get(spec.name)
        if begun is not None:
            await driver.delete(begun)
        assert (await driver.get(spec.name), list(await driver.list())) == (None, [])

    @pytest.mark.parametrize("turns", [1, 2, 3])
    async def test_cancelled_creation_leaves_one_volume_or_none(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec, turns: int
    ) -> None:
        """Once the cancelled call has ended no work of it continues, and a retry succeeds."""
        spec = make_spec()
        await _cancel(asyncio.ensure_future(driver.create(spec)), turns)
        again = new_driver()
        left = await again.get(spec.name)
        for _ in range(_READS):
            await asyncio.sleep(0)
            assert await again.get(spec.name) == left
        if left is None or left.state is not VolumeState.AVAILABLE:
            left = await driver.create(spec)
        assert left.spec == spec
        await driver.attach(left)
        await driver.detach(left)
        assert list(await again.list()) == [left]

    @pytest.mark.parametrize("turns", [1, 2, 3])
    @pytest.mark.parametrize("call", CHANGES)
    async def test_cancelled_change_can_be_made_again(
        self,
        driver: Driver,
        make_spec: MakeSpec,
        stale_s: float,
        eventually: Eventually,
        call: str,
        turns: int,
    ) -> None:
        """Once the cancelled call has ended no work of it continues, and the same call succeeds."""
        volume = await driver.create(make_spec())
        if call == "detach":
            await driver.attach(volume)
        await _cancel(asyncio.ensure_future(change(driver, volume, call)), turns)

        async def shown() -> tuple[object, object]:
            found = await driver.get(volume.name)  # of a stale read, that the volume exists is exact
            return (found and found.volume_id if stale_s else found), await located(driver, volume)

        left = await shown()
        for _ in range(_READS):
            await asyncio.sleep(0)
            assert await shown() == left
        with suppress(VolumeNotFound):  # a deletion may have ended before it was cancelled
            await change(driver, volume, call)
        assert (await located(driver, volume) is not None) == (call == "attach")
        await eventually(lambda: driver.get(volume.name), _expected(driver, volume, call))

    async def test_list_is_whole_while_volumes_come_and_go(self, driver: Driver, make_spec: MakeSpec) -> None:
        """Lasting volumes are always in it, once; others neither break it nor are in state ERROR."""
        stay = [await driver.create(make_spec()) for _ in range(3)]

        async def come_and_go() -> None:
            for _ in range(3):
                volume = await driver.create(make_spec())
                await asyncio.sleep(0)
                await driver.delete(volume)

        async with asyncio.TaskGroup() as others:
            work = [others.create_task(come_and_go()) for _ in range(3)]
            while not all(task.done() for task in work):
                listed = await driver.list()
                assert [each for each in by_id(listed) if each in stay] == by_id(stay)
                assert [each.detail for each in listed if each.state is VolumeState.ERROR] == []
                await asyncio.sleep(0)  # a driver in memory never waits
        assert by_id(await driver.list()) == by_id(stay)

    async def test_concurrent_life_cycles_are_independent(
        self, driver: Driver, make_spec: MakeSpec, eventually: Eventually
    ) -> None:
        """Calls for one volume do not affect the others."""

        async def live() -> None:
            volume = await driver.create(make_spec())
            source = await driver.attach(volume)
            await driver.tag_filesystem(volume, tags_of(driver)[1])
            assert await located(driver, volume) == source
            await driver.detach(volume)
            await eventually(lambda: driver.get(volume.name), replace(volume, filesystem=tags_of(driver)[1]))
            await driver.delete(volume)

        async with asyncio.TaskGroup() as lives:  # after a failure no call continues during the clean-up
            for _ in range(5):
                lives.create_task(live())
        assert list(await driver.list()) == []

    async def test_life_cycle_can_be_repeated(self, driver: Driver, make_spec: MakeSpec) -> None:
        """Five volumes of one name, one after the other; none leaves anything."""
        spec, ids = make_spec(), set()
        for _ in range(5):
            volume = await driver.create(spec)
            await driver.attach(volume)
            await driver.detach(volume)
            await driver.delete(volume)
            ids.add(volume.volume_id)
            assert list(await driver.list()) == []
        assert len(ids) == 5


async def _cancel(task: asyncio.Future[object], turns: int) -> None:
    """Let a call begin, cancel it after some turns of the event loop, and wait until it has ended."""
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _expected(driver: Driver, volume: Volume, call: str) -> Volume | None:
    """Return the result of `get` after a change."""
    if call == "delete":
        return None
    if call == "attach":
        return replace(volume, state=VolumeState.IN_USE, holder=driver.node_id)
    return replace(volume, filesystem=tags_of(driver)[0]) if call == "tag_filesystem" else volume
