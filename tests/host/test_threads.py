import asyncio
import threading

import pytest

from tests.host.pool import POOL
from tests.lab.waiting import wait_until
from tests.volumes.world import Clock
from volplug.errors import BackendUnavailable, HostError
from volplug.host.threads import BoundedQueries, DevicePool, Pool, PoolLoad, pool_loads, run_to_completion


async def test_a_call_runs_in_a_thread_of_the_pool_with_its_arguments() -> None:
    def call(first: int, *, second: int) -> tuple[int, str]:
        return first + second, threading.current_thread().name

    result, thread = await POOL.blocking(call, 1, second=2)
    assert result == 3
    assert thread.startswith("volplug-test")


async def test_what_the_call_raises_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        await POOL.blocking(lambda: 1 / 0)


async def test_the_load_of_pools_is_what_they_have_to_do_and_those_of_one_name_count_together() -> None:
    pools = [Pool("one-name", 1), DevicePool("one-name", 2, "loop")]
    go = threading.Event()
    calls = [asyncio.create_task(pool.blocking(go.wait, 20)) for pool in pools]
    calls.append(asyncio.create_task(pools[0].blocking(go.wait, 20)))  # there is no thread for it
    await asyncio.sleep(0)
    assert PoolLoad("one-name", 3, 3) in pool_loads()
    go.set()
    await asyncio.gather(*calls)
    await asyncio.to_thread(wait_until, lambda: PoolLoad("one-name", 3, 0) in pool_loads(), 10, "all ended")


async def test_a_cancelled_await_does_not_stop_the_thread() -> None:
    started, go, done = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        started.set()
        go.wait(20)
        done.set()

    task = asyncio.create_task(POOL.blocking(call))
    await POOL.blocking(started.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    assert await POOL.blocking(done.wait, 20)


async def test_a_cancelled_change_ends_no_sooner_than_its_thread() -> None:
    started, go, done = threading.Event(), threading.Event(), threading.Event()

    def change() -> None:
        started.set()
        go.wait(20)
        done.set()
        raise ZeroDivisionError

    task = asyncio.create_task(Pool("test", 1).to_the_end(change))
    await POOL.blocking(started.wait, 20)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()


async def test_cancelled_work_is_done_before_its_cancellation_shows() -> None:
    go, done = asyncio.Event(), []

    async def work() -> None:
        await go.wait()
        done.append("work")

    running = asyncio.ensure_future(run_to_completion(work()))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.sleep(0)
    assert not running.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert done == ["work"]


# A backend whose devices hang


class Hanging:
    """Calls that hang until they are let go, each by itself."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._ends: list[threading.Event] = []
        self.calls: list[asyncio.Task[str]] = []

    async def begin(self, number: int = 1) -> None:
        """Begin calls, and wait until all are in their threads."""
        for _ in range(number):
            begun, end = threading.Event(), threading.Event()
            self._ends.append(end)
            self.calls.append(asyncio.create_task(self._pool.blocking(self._hang, begun, end)))
            assert await POOL.blocking(begun.wait, 20)

    def _hang(self, begun: threading.Event, end: threading.Event) -> str:
        begun.set()
        assert end.wait(60)
        return "back"

    async def end(self, number: int) -> None:
        """Let some go, the oldest first."""
        for _ in range(number):
            self._ends.pop(0).set()
            assert await self.calls.pop(0) == "back"

    async def end_all(self) -> None:
        await self.end(len(self.calls))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(clock: Clock) -> DevicePool:
    """Two threads, which hang after ten seconds of the clock."""
    return DevicePool("test", 2, "slow", hung_after_s=10, clock=clock)


REFUSAL = (
    "backend slow does not answer: none of 2 calls on its devices has ended for {} s. "
    "Check its disk, and the kernel's log for hung tasks; volplug continues once they end."
)


async def until_it_waits() -> None:
    """Let a task that was just created get as far as to wait for a thread."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_calls_are_refused_at_once_while_every_thread_hangs(pool: DevicePool, clock: Clock) -> None:
    hanging = Hanging(pool)
    await hanging.begin(2)
    clock.now_s += 10
    for call in (pool.blocking, pool.submit, pool.to_the_end):
        with pytest.raises(BackendUnavailable) as refused:
            await call(lambda: "never")
        assert str(refused.value) == REFUSAL.format(10)
    await hanging.end(1)
    assert await pool.blocking(lambda: "answered") == "answered"
    await hanging.end_all()


async def test_one_free_thread_is_enough_however_long_the_others_hang(pool: DevicePool, clock: Clock) -> None:
    hanging = Hanging(pool)
    await hanging.begin()
    for _ in range(3):
        clock.now_s += 1000
        assert await pool.blocking(lambda: "answered") == "answered"
    await hanging.end_all()


async def test_calls_take_turns_as_long_as_threads_become_free(pool: DevicePool, clock: Clock) -> None:
    """Both threads stay taken for longer than it takes to call them hung, but not by the same calls."""
    hanging = Hanging(pool)
    clock.now_s += 1000
    await hanging.begin(2)
    third = asyncio.create_task(hanging.begin())
    await until_it_waits()
    clock.now_s += 9
    await hanging.end(1)
    await third
    clock.now_s += 9
    waiting = [asyncio.create_task(pool.blocking(lambda: "answered")) for _ in range(500)]
    await until_it_waits()
    await hanging.end_all()
    assert set(await asyncio.gather(*waiting)) == {"answered"}


async def test_calls_that_wait_are_refused_once_every_thread_hangs_and_are_never_made() -> None:
    pool, made = DevicePool("test", 2, "slow", hung_after_s=0.01), []
    hanging = Hanging(pool)
    await hanging.begin(2)
    waiting = [asyncio.create_task(call(lambda: made.append(1))) for call in (pool.blocking, pool.to_the_end)]
    for refused in await asyncio.gather(*waiting, return_exceptions=True):
        assert str(refused) == REFUSAL.format(0.01)
    await hanging.end_all()
    await pool.blocking(lambda: None)
    assert made == []


async def test_a_cancelled_call_that_waits_is_never_made_and_frees_no_thread(
    pool: DevicePool, clock: Clock
) -> None:
    hanging, made = Hanging(pool), []
    await hanging.begin(2)
    waiting = asyncio.create_task(pool.blocking(lambda: made.append(1)))
    await until_it_waits()
    clock.now_s += 9
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    clock.now_s += 1
    with pytest.raises(BackendUnavailable):
        await pool.blocking(lambda: None)
    await hanging.end_all()
    await pool.blocking(lambda: None)
    assert made == []


async def test_hung_devices_of_one_backend_leave_others_and_programs_their_threads(
    pool: DevicePool, clock: Clock
) -> None:
    hanging = Hanging(pool)
    await hanging.begin(2)
    clock.now_s += 10
    for other in (DevicePool("test", 2, "other"), pool.programs):
        assert await other.blocking(lambda: "answered") == "answered"
    await hanging.end_all()


# BoundedQueries


def test_a_query_that_hangs_delays_no_other_and_is_not_repeated() -> None:
    asked: list[str] = []
    hung = threading.Event()

    def query(name: str) -> str:
        asked.append(name)
        if name == "dead":
            hung.wait()
        if name == "broken":
            raise HostError("it says nothing")
        return name.upper()

    queries = BoundedQueries(timeout_s=0.05)
    try:
        for _ in range(3):
            results, unanswered = queries.run(["one", "dead", "broken", "two"], query)
            assert (results, unanswered) == (["ONE", "TWO"], ["dead", "broken"])
        assert asked.count("dead") == 1
        assert asked.count("broken") == 3
    finally:
        hung.set()
    wait_until(lambda: "DEAD" in queries.run(["dead"], query)[0], 5, "it is queried again")
