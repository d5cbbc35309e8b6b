"""Waiting for EC2: shared by all waiters, and nothing of it goes on when nothing waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import pytest

from volplug.drivers.ebs.lookups import Description
from volplug.drivers.ebs.states import States
from volplug.errors import BackendUnavailable, DeviceMismatch, HostError

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
