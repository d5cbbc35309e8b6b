"""Waiting for EC2 and for the kernel: shared by all who wait, and nothing of it goes on when nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import pytest

from tests.drivers.ebs.turns import turns_until
from volplug.drivers.ebs.devices import Look
from volplug.drivers.ebs.lookups import Description
from volplug.drivers.ebs.racing import first_of, to_the_end
from volplug.drivers.ebs.states import States
from volplug.drivers.ebs.watching import DiskWatch
from volplug.errors import BackendUnavailable, DeviceMismatch, HostError
from volplug.host.threads import Pool
from volplug.models import MountSource, Volume

pytestmark = pytest.mark.ebs

LONG_S = 30.0


class Descriptions:
    """Describes volumes by a script: each look the next entry, the last one for ever."""

    def __init__(self, *looks: Mapping[str, str] | Exception) -> None:
        self._looks = list(looks)
        self.asked: list[list[str]] = []

    async def __call__(self, volume_ids: Iterable[str]) -> Mapping[str, Description]:
        self.asked.append(sorted(volume_ids))
        look = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        if isinstance(look, Exception):
            raise look
        return {volume_id: {"State": state} for volume_id, state in look.items()}


def is_state(state: str) -> Callable[[Description | None], bool | None]:
    return lambda shown: True if shown and shown["State"] == state else None


async def test_all_who_wait_for_states_share_one_call() -> None:
    describe = Descriptions({"a": "creating", "b": "creating"}, {"a": "available", "b": "available"})
    states = States(describe, 0.01, 0.02)
    ended = await asyncio.gather(*(states.until(each, is_state("available"), LONG_S) for each in "ab"))
    assert (ended, describe.asked) == ([True, True], [["a", "b"], ["a", "b"]])


async def test_poll_ends_with_the_last_who_waits() -> None:
    describe = Descriptions({"a": "creating"})
    states = States(describe, 0.001, 0.001)
    before = asyncio.all_tasks()
    assert await states.until("a", is_state("available"), 0.02) is None
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert describe.asked


async def test_ec2_that_does_not_answer_is_asked_again() -> None:
    states = States(Descriptions(BackendUnavailable("away"), {"a": "available"}), 0.001, 0.001)
    assert await states.until("a", is_state("available"), LONG_S)


async def test_what_no_later_look_would_mend_is_raised() -> None:
    states = States(Descriptions(HostError("broken")), 0.001, 0.001)
    with pytest.raises(HostError, match="broken"):
        await states.until("a", is_state("available"), LONG_S)


async def test_one_who_goes_while_ec2_is_asked_leaves_the_others_their_answer() -> None:
    asked, let_go = asyncio.Event(), asyncio.Event()

    async def describe(volume_ids: Iterable[str]) -> Mapping[str, Description]:
        asked.set()
        await let_go.wait()
        return {volume_id: {"State": "available"} for volume_id in volume_ids}

    states = States(describe, 0.001, 0.001)
    gone, stays = (asyncio.ensure_future(states.until(each, is_state("available"), LONG_S)) for each in "ab")
    await asked.wait()
    gone.cancel()
    await asyncio.wait({gone})
    let_go.set()
    assert await stays


async def test_what_one_decision_raises_is_its_own() -> None:
    def refuse(_: Description | None) -> bool | None:
        raise DeviceMismatch("not this one")

    states = States(Descriptions({"a": "creating", "b": "available"}), 0.001, 0.001)
    refused, found = await asyncio.gather(
        states.until("a", refuse, LONG_S),
        states.until("b", is_state("available"), LONG_S),
        return_exceptions=True,
    )
    assert (type(refused), found) == (DeviceMismatch, True)


class Disks:
    """Disks that come when the test says so, with a kernel that sends an event each time."""

    def __init__(self) -> None:
        self.present: set[str] = set()
        self.looks = 0
        self.listeners = 0
        self._event = asyncio.Event()

    def look(self) -> Look:
        self.looks += 1
        return _Seen(set(self.present))

    def come(self, *volume_ids: str) -> None:
        self.present |= set(volume_ids)
        self._event.set()

    async def wait_for(self, predicate: Callable[[], None], timeout_s: float) -> None:
        self.listeners += 1
        assert timeout_s > LONG_S
        try:
            while True:
                self._event.clear()
                predicate()
                await self._event.wait()
        finally:
            self.listeners -= 1


class _Seen:
    def __init__(self, present: set[str]) -> None:
        self._present = present

    def find(self, volume: Volume, name: str = "") -> MountSource | None:
        raise NotImplementedError

    def nodes_to_test(self, volume_id: str) -> Sequence[str]:
        raise NotImplementedError

    def has(self, volume_id: str) -> bool:
        return volume_id in self._present


def shows(volume_id: str) -> Callable[[Look], str | None]:
    return lambda look: volume_id if look.has(volume_id) else None


@pytest.fixture
def pool() -> Pool:
    return Pool("test", 2)


async def test_all_who_wait_for_disks_share_one_ear_and_one_look(pool: Pool) -> None:
    disks = Disks()
    watch = DiskWatch(disks.look, pool, disks.wait_for)
    names = [f"vol-{number}" for number in range(50)]
    waits = [asyncio.ensure_future(watch.until(shows(name), LONG_S)) for name in names]
    # Each looks once for itself, and then the ear for all.
    await turns_until(lambda: disks.looks == 51 and disks.listeners)
    before = disks.looks
    disks.come(*names)
    assert await asyncio.gather(*waits) == names
    assert (disks.looks - before, disks.listeners) == (1, 0)


async def test_disk_that_is_there_already_needs_no_ear(pool: Pool) -> None:
    disks = Disks()
    disks.come("vol-1")
    assert await DiskWatch(disks.look, pool, disks.wait_for).until(shows("vol-1"), LONG_S) == "vol-1"
    assert (disks.looks, disks.listeners) == (1, 0)


async def test_disk_that_does_not_come_ends_the_listening_too(pool: Pool) -> None:
    disks = Disks()
    watch = DiskWatch(disks.look, pool, disks.wait_for)
    assert await watch.until(shows("vol-1"), 0.01) is None
    await asyncio.sleep(0)
    assert disks.listeners == 0


async def test_question_that_fails_fails_for_whoever_asked(pool: Pool) -> None:
    def wrong(_: Look) -> str | None:
        raise DeviceMismatch("not this one")

    disks = Disks()
    watch = DiskWatch(disks.look, pool, disks.wait_for)
    other = asyncio.ensure_future(watch.until(shows("vol-1"), LONG_S))
    with pytest.raises(DeviceMismatch):
        await watch.until(wrong, LONG_S)
    disks.come("vol-1")
    assert await other == "vol-1"


async def test_sysfs_that_is_gone_fails_for_all(pool: Pool) -> None:
    disks, is_gone = Disks(), False

    def look() -> Look:
        if is_gone:
            raise HostError("no sysfs")
        return disks.look()

    watch = DiskWatch(look, pool, disks.wait_for)
    waits = [asyncio.ensure_future(watch.until(shows(each), LONG_S)) for each in ("vol-1", "vol-2")]
    await turns_until(lambda: disks.listeners)
    is_gone = True
    disks.come("vol-1")
    assert [type(each) for each in await asyncio.gather(*waits, return_exceptions=True)] == [HostError] * 2


async def test_first_answer_ends_the_other_waits() -> None:
    ended = []

    async def never() -> str | None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("never")
        return None

    async def answer(text: str | None) -> str | None:
        return text

    assert await first_of(never(), answer(None), answer("yes")) == "yes"
    assert ended == ["never"]
    assert await first_of(answer(None), answer(None)) is None


async def test_cancelled_work_is_done_before_its_cancellation_shows() -> None:
    go, done = asyncio.Event(), []

    async def work() -> None:
        await go.wait()
        done.append("work")

    running = asyncio.ensure_future(to_the_end(work()))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.sleep(0)
    assert not running.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert done == ["work"]
