"""The event log: one line and one event each, a bounded ring, and readers with cursors."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.volumes.world import World
from volplug.errors import BackendUnavailable, VolumeInUse
from volplug.masking import MASK, keep_secret
from volplug.testing.memory import MemoryDriver
from volplug.volumes.converge import CHANGES
from volplug.volumes.events import Event, EventFilter, EventKind, EventLog, run_id

KEPT = 5


def log_of(count: int, kept: int = KEPT) -> EventLog:
    log = EventLog("run", kept)
    for number in range(1, count + 1):
        log.record("debug", EventKind.CHANGE, f"event {number}", volume="v" if number % 2 else "w")
    return log


def texts(events: Sequence[Event]) -> list[str]:
    return [event.text for event in events]


def told(world: World, *kinds: EventKind) -> list[str]:
    return texts(world.service.events.read(wanted=EventFilter(kinds=frozenset(kinds))).events)


def test_an_event_is_a_line_of_the_log_and_an_entry_with_the_same_fields() -> None:
    log = EventLog("run")
    before = datetime.now(UTC)
    with capture_logs() as lines:
        log.record(
            "warning", EventKind.RETRY, "it failed", volume="v", backend="loop", tries=3, exc_info=False
        )
    assert lines == [
        {"event": "it failed", "log_level": "warning", "volume": "v", "backend": "loop", "tries": 3}
        | {"exc_info": False}
    ]
    (event,) = log.read().events
    assert before <= event.at <= datetime.now(UTC)
    assert event == Event("run-1", event.at, EventKind.RETRY, "it failed", "v", "loop", "", (("tries", "3"),))


def test_secrets_are_masked_and_long_texts_cut() -> None:
    keep_secret("hunter2-events")
    log = EventLog()
    log.record("debug", EventKind.ERROR, "refused", error="with hunter2-events", longest="x" * 10_000)
    ((_, error), (_, longest)) = log.read().events[0].fields
    assert (error, len(longest)) == (f"with {MASK}", 1_000)


@given(st.integers(0, 12), st.integers(0, 14), st.integers(1, 8), st.sampled_from(["", "v"]))
def test_a_reader_gets_each_event_once_in_its_order_or_is_told_that_some_are_lost(
    count: int, seen: int, limit: int, volume: str
) -> None:
    log = log_of(count)
    cursor, found, is_lost = f"run-{seen}", list[str](), False
    for _ in range(KEPT + 1):
        batch = log.read(cursor, EventFilter(volume), limit)
        assert len(batch.events) <= limit
        found += texts(batch.events)
        cursor, is_lost = batch.cursor, is_lost or batch.is_lost
    first_kept = max(count - KEPT, 0)
    assert is_lost == (seen < first_kept or seen > count)
    begin = first_kept if is_lost else seen
    assert found == [f"event {n}" for n in range(begin + 1, count + 1) if not volume or n % 2]
    assert cursor == log.latest == f"run-{count}"


@pytest.mark.parametrize("cursor", ["other-2", "run-x", "run-", "2", "run-99", f"run-{'9' * 5000}", "run--1"])
def test_a_cursor_of_another_run_or_of_no_event_is_lost(cursor: str) -> None:
    batch = log_of(3).read(cursor)
    assert (batch.is_lost, texts(batch.events)) == (True, ["event 1", "event 2", "event 3"])


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (EventFilter(), ["a", "b", "c"]),
        (EventFilter(volume="v"), ["a", "b"]),
        (EventFilter(backend="loop"), ["b"]),
        (EventFilter(kinds=frozenset({EventKind.RETRY, EventKind.ERROR})), ["b", "c"]),
        (EventFilter(volume="v", kinds=frozenset({EventKind.ERROR})), []),
    ],
)
def test_a_filter_lets_pass_what_has_all_that_it_names(wanted: EventFilter, found: list[str]) -> None:
    log = EventLog()
    log.record("debug", EventKind.CHANGE, "a", volume="v")
    log.record("debug", EventKind.RETRY, "b", volume="v", backend="loop")
    log.record("debug", EventKind.ERROR, "c", volume="w")
    assert texts(log.read(wanted=wanted).events) == found


async def test_readers_wait_for_the_next_event_that_they_want() -> None:
    log = log_of(3)
    readers = [asyncio.create_task(log.wait(log.latest, EventFilter("v"))) for _ in range(1_000)]
    await asyncio.sleep(0)
    log.record("debug", EventKind.CHANGE, "not for them", volume="w")
    await asyncio.sleep(0)
    assert not any(reader.done() for reader in readers)
    log.record("debug", EventKind.CHANGE, "for them", volume="v")
    for batch in await asyncio.gather(*readers):
        assert (texts(batch.events), batch.cursor) == (["for them"], log.latest)


async def test_a_reader_that_is_behind_does_not_wait() -> None:
    assert texts((await log_of(3).wait("run-1")).events) == ["event 2", "event 3"]
    assert (await log_of(9).wait("run-1")).is_lost


def test_ids_of_runs_are_in_the_order_of_their_starts() -> None:
    starts = [1_700_000_000_000, 1_700_000_000_001, 1_764_000_000_000, 2_800_000_000_000]
    ids = [run_id(start) for start in starts]
    assert ids == sorted(set(ids))
    assert {len(each) for each in ids} == {8}


# What is told


async def test_every_change_of_the_world_is_an_event_of_its_operation(world: World) -> None:
    await world.mounted()
    await world.service.unmount("v", "c1")
    await world.run_timers()
    await world.service.remove("v")
    changes = [each for each in world.service.events.read().events if each.kind is EventKind.CHANGE]
    assert set(texts(changes)) == set(CHANGES.values()) - {
        "node stopped",
        "volume taken over",
        "filesystem checked",
    }
    by_id = {each.operation_id: each.kind for each in world.service.operations.list()}
    assert [by_id[each.operation_id] for each in changes if each.text == "volume detached"] == ["detach"]
    assert all((each.volume, each.backend) == ("v", "memory") for each in changes)


async def test_a_takeover_is_an_event_that_names_the_node(world: World) -> None:
    await world.create("v")
    await MemoryDriver(world.cloud, "node-b").attach(world.volume())
    world.cloud.dead_nodes.add("node-b")
    await world.mount("v")
    taken = next(e for e in world.service.events.read().events if e.text == "volume taken over")
    assert dict(taken.fields)["from_node"] == "node-b"


async def test_a_desired_state_that_is_not_reached_is_told_with_its_reason(world: World) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    with pytest.raises(VolumeInUse):
        await world.service.unmount("v", "c1")
    await world.run_timers()
    assert told(world, EventKind.RETRY) == ["detach failed, will be retried"]
    retry = next(each for each in world.service.events.read().events if each.kind is EventKind.RETRY)
    assert "container web" in dict(retry.fields)["error"]


async def test_a_failed_operation_is_an_error_with_its_code(world: World) -> None:
    await world.create("v")
    world.cloud.outage = BackendUnavailable("no route to the cloud")
    with pytest.raises(BackendUnavailable):
        await world.mount("v")
    (error,) = (each for each in world.service.events.read().events if each.kind is EventKind.ERROR)
    fields = dict(error.fields)
    assert (error.text, fields["code"], fields["origin"]) == (
        "operation failed",
        "backend-unavailable",
        "docker",
    )
    assert "no route to the cloud" in fields["error"]


async def test_begin_and_end_of_dockerds_operations_are_no_lines_of_the_log(world: World) -> None:
    with capture_logs() as lines:
        await world.mounted()
    assert told(world, EventKind.OPERATION) == ["operation started", "operation succeeded"] * 2
    assert [line["log_level"] for line in lines if line["event"].startswith("operation")] == ["debug"] * 4
