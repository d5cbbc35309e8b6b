"""The shared poll: one for all waits, at its pace, and none without a wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

import pytest

from volplug.drivers.cloud.polling import SharedPoll, first_result
from volplug.errors import BackendUnavailable, DeviceMismatch, HostError

LONG_S = 300.0


class Reads:
    """Reads volumes' states by a script: each read the next entry, the last one for ever."""

    def __init__(self, *reads: Mapping[str, str] | Exception) -> None:
        self._reads = list(reads)
        self.asked: list[list[str]] = []

    async def __call__(self, volume_ids: Collection[str]) -> Mapping[str, str]:
        self.asked.append(sorted(volume_ids))
        read = self._reads.pop(0) if len(self._reads) > 1 else self._reads[0]
        if isinstance(read, Exception):
            raise read
        return read


def is_state(state: str) -> Callable[[str | None], bool | None]:
    return lambda seen: True if seen == state else None


async def test_all_waits_share_one_call() -> None:
    reads = Reads({"a": "creating", "b": "creating"}, {"a": "available", "b": "available"})
    poll = SharedPoll(reads, 0.01, 0.02)
    ended = await asyncio.gather(*(poll.until(each, is_state("available"), LONG_S) for each in "ab"))
    assert (ended, reads.asked) == ([True, True], [["a", "b"], ["a", "b"]])


async def test_poll_ends_with_the_last_wait() -> None:
    reads = Reads({"a": "creating"})
    poll = SharedPoll(reads, 0.001, 0.001)
    before = asyncio.all_tasks()
    assert await poll.until("a", is_state("available"), 0.02) is None
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert reads.asked


async def test_cloud_that_does_not_answer_is_asked_again() -> None:
    poll = SharedPoll(Reads(BackendUnavailable("away"), {"a": "available"}), 0.001, 0.001)
    assert await poll.until("a", is_state("available"), LONG_S)


async def test_failure_that_a_later_poll_would_not_mend_is_raised() -> None:
    poll = SharedPoll(Reads(HostError("broken")), 0.001, 0.001)
    with pytest.raises(HostError, match="broken"):
        await poll.until("a", is_state("available"), LONG_S)


async def test_wait_that_is_cancelled_during_a_read_leaves_the_others_their_answer() -> None:
    asked, released = asyncio.Event(), asyncio.Event()

    async def read(volume_ids: Collection[str]) -> Mapping[str, str]:
        asked.set()
        await released.wait()
        return dict.fromkeys(volume_ids, "available")

    poll = SharedPoll(read, 0.001, 0.001)
    gone, stays = (asyncio.ensure_future(poll.until(each, is_state("available"), LONG_S)) for each in "ab")
    await asked.wait()
    gone.cancel()
    await asyncio.wait({gone})
    released.set()
    assert await stays


async def test_what_one_decision_raises_is_its_own() -> None:
    def refuse(_: str | None) -> bool | None:
        raise DeviceMismatch("not this one")

    poll = SharedPoll(Reads({"a": "creating", "b": "available"}), 0.001, 0.001)
    refused, found = await asyncio.gather(
        poll.until("a", refuse, LONG_S),
        poll.until("b", is_state("available"), LONG_S),
        return_exceptions=True,
    )
    assert (type(refused), found) == (DeviceMismatch, True)


@pytest.mark.parametrize(
    ("states", "reads"),
    [
        (["in-use", "in-use", "in-use"], 3),
        (["in-use", "in-use", "available", "in-use", "in-use", "in-use"], 6),
    ],
)
async def test_as_many_reads_in_a_row_have_to_agree_as_a_wait_asks_for(states: list[str], reads: int) -> None:
    asked = Reads(*({"a": state} for state in states))
    poll = SharedPoll(asked, 0.001, 0.001)
    assert await poll.until("a", is_state("in-use"), LONG_S, agree=3)
    assert len(asked.asked) == reads


async def test_poll_is_quick_at_first_and_slow_afterwards() -> None:
    reads = Reads({"a": "creating"})
    assert await SharedPoll(reads, 0.002, LONG_S).until("a", is_state("available"), 0.1) is None
    assert len(reads.asked) <= 6, "a quick poll would have been made fifty times"


async def test_wait_that_begins_during_a_long_pause_is_polled_soon() -> None:
    reads = Reads({"a": "creating", "b": "available"})
    poll = SharedPoll(reads, 0.002, LONG_S)
    first = asyncio.ensure_future(poll.until("a", is_state("available"), LONG_S))
    assert await poll.until("a", is_state("available"), 0.1) is None, "the pauses are long by now"
    assert await poll.until("b", is_state("available"), LONG_S)
    first.cancel()


async def test_poll_that_is_worth_it_is_made_at_once_but_not_right_after_another() -> None:
    reads = Reads({"a": "available"})
    poll = SharedPoll(reads, LONG_S, LONG_S)
    assert await poll.until("a", is_state("available"), LONG_S, at_once=True)
    assert await poll.until("a", is_state("available"), 0.02, at_once=True) is None
    assert len(reads.asked) == 1


async def test_poll_whose_reads_take_longer_than_its_pauses_reads_no_more_than_is_needed() -> None:
    asked = []

    async def read(volume_ids: Collection[str]) -> Mapping[str, str]:
        asked.append(sorted(volume_ids))
        await asyncio.sleep(0)
        return {"a": "available"}

    assert await SharedPoll(read, 0.0, 0.0).until("a", is_state("available"), LONG_S)
    assert asked == [["a"]]


async def test_first_result_ends_the_other_waits() -> None:
    ended = []

    async def never() -> str | None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("never")
        return None

    async def result(text: str | None) -> str | None:
        return text

    assert await first_result(never(), result(None), result("yes")) == "yes"
    assert ended == ["never"]
    assert await first_result(result(None), result(None)) is None
