import asyncio
import threading

import pytest

from tests.lab.waiting import wait_until
from volplug.errors import HostError
from volplug.host import threads
from volplug.host.threads import Asking


async def test_a_call_runs_in_a_thread_of_the_pool_with_its_arguments() -> None:
    def call(first: int, *, second: int) -> tuple[int, str]:
        return first + second, threading.current_thread().name

    result, thread = await threads.blocking(call, 1, second=2)
    assert result == 3
    assert thread.startswith("volplug-host")


async def test_what_the_call_raises_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        await threads.blocking(lambda: 1 / 0)


async def test_a_cancelled_await_does_not_stop_the_thread() -> None:
    started, go, done = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        started.set()
        go.wait(20)
        done.set()

    task = asyncio.create_task(threads.blocking(call))
    await threads.blocking(started.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    assert await threads.blocking(done.wait, 20)


async def test_a_cancelled_change_ends_no_sooner_than_its_thread() -> None:
    started, go, done = threading.Event(), threading.Event(), threading.Event()

    def change() -> None:
        started.set()
        go.wait(20)
        done.set()
        raise ZeroDivisionError

    task = asyncio.create_task(threads.Pool("test", 1).to_the_end(change))
    await threads.blocking(started.wait, 20)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()


async def test_many_hanging_calls_leave_room_for_others() -> None:
    go = threading.Event()
    hanging = [asyncio.create_task(threads.blocking(go.wait, 60)) for _ in range(40)]
    try:
        assert await asyncio.wait_for(threads.blocking(lambda: "answered"), 20) == "answered"
    finally:
        go.set()
        await asyncio.gather(*hanging)


# Asking


def test_what_does_not_answer_keeps_no_answer_of_the_others_and_is_not_asked_twice() -> None:
    asked: list[str] = []
    hung = threading.Event()

    def question(name: str) -> str:
        asked.append(name)
        if name == "dead":
            hung.wait()
        if name == "broken":
            raise HostError("it says nothing")
        return name.upper()

    asking = Asking(patience_s=0.05)
    try:
        for _ in range(3):
            answers, silent = asking.ask(["one", "dead", "broken", "two"], question)
            assert (answers, silent) == (["ONE", "TWO"], ["dead", "broken"])
        assert asked.count("dead") == 1
        assert asked.count("broken") == 3
    finally:
        hung.set()
    wait_until(lambda: "DEAD" in asking.ask(["dead"], question)[0], 5, "it answers again")
