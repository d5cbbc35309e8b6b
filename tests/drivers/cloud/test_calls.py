import asyncio
import threading
from collections.abc import Callable

import pytest

from volplug.drivers.cloud.calls import RetryingCaller
from volplug.errors import BackendDenied, BackendUnavailable
from volplug.metrics import Metrics, OnTry, uncounted

UNAVAILABLE = BackendUnavailable("EC2 did not answer AttachVolume: 503", "Wait")
both_kinds = pytest.mark.parametrize("changes", [True, False], ids=["change", "read"])


class Tries:
    """Tries that raise or return the next of what is given, the last one again and again."""

    def __init__(self, *results: Exception | str, before: Callable[[], object] = lambda: None) -> None:
        self._results = list(results)
        self._before = before
        self.made: list[int] = []

    def __call__(self, attempt: int) -> str:
        self._before()
        self.made.append(attempt)
        result = self._results.pop(0) if len(self._results) > 1 else self._results[0]
        if isinstance(result, Exception):
            raise result
        return result


class Held:
    """A try that is under way until it is let go."""

    def __init__(self, result: Exception | str = "done") -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.tries = Tries(result, before=self._wait)

    def _wait(self) -> None:
        self.begun.set()
        assert self.go.wait(20)


class Time:
    """A clock that only sleeping moves; jitter is as long as it may be."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds

    def caller(
        self, max_retries: int = 8, budget_s: float = 25.0, on_try: OnTry = uncounted
    ) -> RetryingCaller:
        return RetryingCaller(
            "EC2",
            max_retries,
            budget_s=budget_s,
            clock=lambda: self.now_s,
            sleep=self.sleep,
            jitter=lambda _, longest: longest,
            on_try=on_try,
        )


@pytest.fixture
def time() -> Time:
    return Time()


@both_kinds
async def test_what_is_unavailable_is_retried_after_pauses_that_double(time: Time, changes: bool) -> None:
    tries = Tries(*[UNAVAILABLE] * 4, "attached")
    assert await time.caller().call("AttachVolume", tries, changes=changes) == "attached"
    assert (tries.made, time.pauses) == ([0, 1, 2, 3, 4], [1, 2, 4, 5])


@both_kinds
async def test_each_try_is_reported_with_its_end(time: Time, changes: bool) -> None:
    throttled = BackendUnavailable("too many calls")
    throttled.is_throttled = True
    metrics = Metrics()
    caller = time.caller(on_try=metrics.tries_of("ebs"))
    await caller.call("AttachVolume", Tries(throttled, UNAVAILABLE, "attached"), changes=changes)
    with pytest.raises(BackendDenied):
        await caller.call("AttachVolume", Tries(BackendDenied("no")), changes=changes)
    ended = {"throttled": 1, "unavailable": 1, "ok": 1, "refused": 1}
    assert metrics.tries == {("ebs", "AttachVolume", result): count for result, count in ended.items()}
    assert metrics.retries == {("ebs", "AttachVolume"): 2}


async def test_a_change_that_must_not_be_repeated_is_tried_once(time: Time) -> None:
    tries = Tries(UNAVAILABLE, "created twice")
    with pytest.raises(BackendUnavailable, match="503"):
        await time.caller().call("CreateVolume", tries, changes=True, is_repeatable=False)
    assert (tries.made, time.pauses) == ([0], [])


async def test_pauses_begin_anywhere_below_their_bound() -> None:
    bounds: list[tuple[float, float]] = []
    time = Time()

    def jitter(shortest: float, longest: float) -> float:
        bounds.append((shortest, longest))
        return 0.25

    caller = RetryingCaller("EC2", 2, clock=lambda: time.now_s, sleep=time.sleep, jitter=jitter)
    await caller.call("AttachVolume", Tries(UNAVAILABLE, UNAVAILABLE, "attached"), changes=True)
    assert (bounds, time.pauses) == ([(0, 1), (0, 2)], [0.25, 0.25])


@both_kinds
@pytest.mark.parametrize("max_retries", [0, 2])
async def test_error_of_the_last_try_is_raised_as_it_is(time: Time, changes: bool, max_retries: int) -> None:
    tries = Tries(UNAVAILABLE)
    with pytest.raises(BackendUnavailable) as raised:
        await time.caller(max_retries).call("AttachVolume", tries, changes=changes)
    assert raised.value is UNAVAILABLE
    assert len(tries.made) == max_retries + 1


@both_kinds
@pytest.mark.parametrize("error", [BackendDenied("no"), TimeoutError(), ZeroDivisionError()], ids=repr)
async def test_every_other_error_is_raised_at_once(time: Time, changes: bool, error: Exception) -> None:
    tries = Tries(UNAVAILABLE, error)
    with pytest.raises(type(error)):
        await time.caller().call("AttachVolume", tries, changes=changes)
    assert tries.made == [0, 1]


@both_kinds
async def test_no_try_begins_after_the_budget(time: Time, changes: bool) -> None:
    tries = Tries(UNAVAILABLE)
    with pytest.raises(BackendUnavailable) as raised:
        await time.caller(max_retries=50).call("AttachVolume", tries, changes=changes)
    assert (len(tries.made), time.pauses) == (7, [1, 2, 4, 5, 5, 5])
    assert raised.value.cause == "EC2 did not answer AttachVolume: 503 for 22 s"
    assert raised.value.remedy == "Wait"


@both_kinds
async def test_call_whose_budget_is_used_up_before_it_has_a_thread_is_never_made(
    time: Time, changes: bool
) -> None:
    tries = Tries("attached")
    with pytest.raises(BackendUnavailable, match="EC2 did not answer AttachVolume: no answer for 0 s"):
        await time.caller(budget_s=0).call("AttachVolume", tries, changes=changes)
    assert tries.made == []


async def test_the_budget_of_a_change_begins_when_it_has_its_turn(time: Time) -> None:
    """A hundred at once wait for each other: that is no failure of the service."""
    held, caller = [Held() for _ in range(64)], time.caller()
    first = [asyncio.create_task(caller.call("AttachVolume", each.tries, changes=True)) for each in held]
    for each in held:
        await asyncio.to_thread(each.begun.wait, 20)
    last = asyncio.create_task(caller.call("AttachVolume", Tries("attached"), changes=True))
    await asyncio.sleep(0)
    time.now_s = 60
    for each in held:
        each.go.set()
    assert await asyncio.gather(*first, last) == ["done"] * 64 + ["attached"]


async def test_a_change_that_rests_on_what_was_read_just_before_is_not_made_later(time: Time) -> None:
    tries = Tries(UNAVAILABLE)
    with pytest.raises(BackendUnavailable, match="503 for 3 s"):
        await time.caller().call("DetachVolume", tries, changes=True, within_s=5)
    assert (len(tries.made), time.pauses) == (3, [1, 2])
    held, caller, tries = [Held() for _ in range(64)], time.caller(), Tries("detached")
    first = [asyncio.create_task(caller.call("AttachVolume", each.tries, changes=True)) for each in held]
    for each in held:
        await asyncio.to_thread(each.begun.wait, 20)
    last = asyncio.create_task(caller.call("DetachVolume", tries, changes=True, within_s=5))
    await asyncio.sleep(0)
    time.now_s = 60
    for each in held:
        each.go.set()
    await asyncio.gather(*first)
    with pytest.raises(BackendUnavailable, match="no answer"):
        await last
    assert tries.made == []


async def test_a_change_that_is_cancelled_while_it_waits_for_its_turn_is_not_made(time: Time) -> None:
    held, caller, tries = [Held() for _ in range(64)], time.caller(), Tries("attached")
    first = [asyncio.create_task(caller.call("AttachVolume", each.tries, changes=True)) for each in held]
    for each in held:
        await asyncio.to_thread(each.begun.wait, 20)
    last = asyncio.create_task(caller.call("AttachVolume", tries, changes=True))
    await asyncio.sleep(0)
    last.cancel()
    for each in held:
        each.go.set()
    await asyncio.gather(*first)
    with pytest.raises(asyncio.CancelledError):
        await last
    assert tries.made == []


async def test_change_under_way_is_waited_for_when_the_budget_is_used_up(time: Time) -> None:
    held = Held()
    change = asyncio.create_task(time.caller().call("AttachVolume", held.tries, changes=True))
    await asyncio.to_thread(held.begun.wait, 20)
    time.now_s = 60
    held.go.set()
    assert await change == "done"


async def test_read_under_way_is_abandoned_when_the_budget_is_used_up(time: Time) -> None:
    held = Held()
    try:
        with pytest.raises(BackendUnavailable, match="EC2 did not answer DescribeVolumes: no answer"):
            await time.caller(budget_s=0.01).call("DescribeVolumes", held.tries, changes=False)
    finally:
        held.go.set()


async def test_cancelled_change_ends_with_its_try_and_is_not_retried(time: Time) -> None:
    held = Held(UNAVAILABLE)
    change = asyncio.create_task(time.caller().call("AttachVolume", held.tries, changes=True))
    await asyncio.to_thread(held.begun.wait, 20)
    for _ in range(3):
        change.cancel()
        await asyncio.sleep(0)
    assert not change.done()
    held.go.set()
    with pytest.raises(asyncio.CancelledError):
        await change
    assert held.tries.made == [0]


async def test_cancelled_read_ends_at_once(time: Time) -> None:
    held = Held()
    read = asyncio.create_task(time.caller().call("DescribeVolumes", held.tries, changes=False))
    try:
        await asyncio.to_thread(held.begun.wait, 20)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        assert held.tries.made == []
    finally:
        held.go.set()


@both_kinds
async def test_call_that_is_cancelled_between_two_tries_ends_at_once(changes: bool) -> None:
    tries, pausing = Tries(UNAVAILABLE), asyncio.Event()

    async def sleep(_: float) -> None:
        pausing.set()
        await asyncio.Event().wait()

    caller = RetryingCaller("EC2", 8, sleep=sleep)
    call = asyncio.create_task(caller.call("AttachVolume", tries, changes=changes))
    await pausing.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert tries.made == [0]


async def test_reads_that_hang_hold_up_no_change(time: Time) -> None:
    held, caller = Held(), time.caller()
    reads = [asyncio.create_task(caller.call("Describe", held.tries, changes=False)) for _ in range(70)]
    try:
        await asyncio.to_thread(held.begun.wait, 20)
        assert await caller.call("AttachVolume", Tries("attached"), changes=True) == "attached"
    finally:
        held.go.set()
    assert await asyncio.gather(*reads) == ["done"] * 70
