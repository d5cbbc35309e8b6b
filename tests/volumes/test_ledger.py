from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.volumes.world import MemoryStore, spec_of
from volplug.errors import VolumeInUse
from volplug.models import EngineIdentity, FilesystemPhase, FilesystemTag, Volume, VolumeState
from volplug.sizes import GIB
from volplug.volumes.ledger import Desired, Entry, Failure, Ledger

FAILURE = Failure(
    "detach", "volume-in-use", "still in use", "still in use.", datetime(2026, 1, 2, tzinfo=UTC)
)
IDS = st.sampled_from(["", "c1", "c2", "c3"])
CALLS = st.lists(st.tuples(st.booleans(), IDS), max_size=30)


def volume_of(name: str, backend: str = "memory") -> Volume:
    return Volume(name, f"id-{name}", backend, GIB, VolumeState.AVAILABLE, spec_of(name))


@given(CALLS)
def test_the_counts_are_those_of_the_calls_never_below_zero(calls: list[tuple[bool, str]]) -> None:
    entry, expected = Entry("v", "memory"), Counter[str]()
    for is_mount, mount_id in calls:
        if is_mount:
            entry = entry.with_mount(mount_id, 1.0).with_confirmed(mount_id)
        else:
            entry = entry.without_mount(mount_id)
        expected[mount_id] = max(expected[mount_id] + (1 if is_mount else -1), 0)
        assert (entry.confirmed, entry.unconfirmed) == (+expected, {})
        assert entry.mount_count == expected.total()
        assert entry.is_claimed == bool(+expected)


@given(CALLS, st.dictionaries(IDS, st.integers(1, 3)))
def test_an_unconfirmed_count_is_taken_back_last(
    calls: list[tuple[bool, str]], unconfirmed: dict[str, int]
) -> None:
    """However often an ID comes and goes meanwhile, as with `docker cp`, the count stays unconfirmed."""
    entry = Entry("v", "memory", confirmed=unconfirmed).with_none_confirmed()
    for is_mount, mount_id in calls:
        if is_mount:
            entry = entry.with_mount(mount_id, 1.0).with_confirmed(mount_id)
            entry = entry.without_mount(mount_id)
    assert (entry.confirmed, entry.unconfirmed) == ({}, unconfirmed)
    assert entry.is_unconfirmed == bool(unconfirmed)


def test_a_count_is_unconfirmed_until_its_answer_is_delivered() -> None:
    counted = Entry("v", "memory").with_mount("c1", 7.0)
    assert (counted.confirmed, counted.unconfirmed, counted.mounted_at_s) == ({}, {"c1": 1}, 7.0)
    assert (counted.with_confirmed("c1").confirmed, counted.with_confirmed("c1").unconfirmed) == (
        {"c1": 1},
        {},
    )
    assert counted.with_confirmed("c2") is counted


def test_an_unknown_id_changes_nothing_at_all() -> None:
    entry = Entry("v", "memory", confirmed={"c1": 1})
    assert entry.without_mount("c2") == entry


def test_a_volume_whose_holders_are_unknown_is_claimed_until_all_claims_are_dropped() -> None:
    entry = Entry("v", "memory", {"c1": 1}, {"c2": 1}, holders_unknown=True)
    assert entry.without_mount("c1").without_mount("c2").is_claimed
    free = entry.without_claims()
    assert (free.confirmed, free.unconfirmed, free.holders_unknown, free.is_claimed) == ({}, {}, False, False)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def ledger(store: MemoryStore) -> Ledger:
    return Ledger(store)


@pytest.mark.parametrize("after", Desired)
@pytest.mark.parametrize("before", [None, *Desired])
async def test_a_new_desired_state_is_written_durably_and_nothing_else_is(
    store: MemoryStore, before: Desired | None, after: Desired
) -> None:
    ledger = Ledger(store, [Entry("v", "memory", desired=before)] if before else [])
    await ledger.put(Entry("v", "memory", desired=after, failure=FAILURE))
    is_new = after not in {before, Desired.NONE}
    assert store.writes == [("v", after.value, is_new)]


async def test_counting_alone_is_not_durable(store: MemoryStore, ledger: Ledger) -> None:
    entry = Entry("v", "memory", desired=Desired.MOUNTED)
    await ledger.put(entry)
    await ledger.put(entry.with_mount("c1", 1.0))
    assert store.writes == [("v", "mounted", True), ("v", "mounted", False)]


async def test_writes_keep_the_order_of_the_calls(store: MemoryStore, ledger: Ledger) -> None:
    for desired in (Desired.PRESENT, Desired.NONE, Desired.MOUNTED, Desired.DETACHED):
        await ledger.put(Entry("v", "memory", desired=desired))
    assert [write[1] for write in store.writes] == ["present", "none", "mounted", "detached"]


async def test_an_unchanged_entry_is_not_written_again(store: MemoryStore, ledger: Ledger) -> None:
    for _ in range(3):
        await ledger.put(Entry("v", "memory", confirmed={"c1": 1}))
    assert len(store.writes) == 1


@pytest.mark.parametrize("failure", [None, FAILURE])
async def test_a_failed_write_is_repeated_durably_by_the_next_try(
    store: MemoryStore, ledger: Ledger, failure: Failure | None
) -> None:
    entry = Entry("v", "memory", desired=Desired.MOUNTED)
    store.broken = True
    await ledger.put(entry)
    assert ledger.get("v") == entry
    store.broken = False
    await ledger.put(replace(entry, failure=failure))
    assert store.writes == [("v", "mounted", True)]


async def test_a_failed_write_is_repeated_with_the_next_entry(store: MemoryStore, ledger: Ledger) -> None:
    store.broken = True
    await ledger.put(Entry("v", "memory", desired=Desired.DETACHED))
    store.broken = False
    await ledger.put(Entry("w", "memory"))
    assert store.writes == [("w", "none", False), ("v", "detached", True)]


async def test_an_entry_that_cannot_be_removed_on_disk_is_removed_in_memory(
    store: MemoryStore, ledger: Ledger
) -> None:
    await ledger.put(Entry("v", "memory"))
    store.broken = True
    await ledger.forget("v")
    store.broken = False
    await ledger.put(Entry("w", "memory"))
    assert ledger.get("v") is None
    assert [write[0] for write in store.writes] == ["v", "w"]


async def test_a_recorded_volume_keeps_the_other_fields_of_its_entry(ledger: Ledger) -> None:
    await ledger.put(Entry("v", "memory", confirmed={"c1": 1}, desired=Desired.MOUNTED))
    await ledger.remember(volume_of("v"))
    assert ledger.get("v") == Entry("v", "memory", {"c1": 1}, desired=Desired.MOUNTED, record=volume_of("v"))


async def test_an_unknown_volume_is_recorded_with_its_backend(ledger: Ledger) -> None:
    await ledger.remember(volume_of("v", "ebs"))
    assert ledger.entries() == [Entry("v", "ebs", record=volume_of("v", "ebs"))]


async def test_a_removed_entry_is_gone_from_memory_and_store(store: MemoryStore, ledger: Ledger) -> None:
    await ledger.put(Entry("v", "memory"))
    await ledger.forget("v")
    await ledger.forget("never")
    assert (ledger.get("v"), ledger.entries(), store.entries) == (None, [], {})


async def test_the_last_connected_engine_is_recorded(store: MemoryStore, ledger: Ledger) -> None:
    await ledger.note_engine(EngineIdentity(1, 5))
    assert ledger.engine == store.engine == EngineIdentity(1, 5)
    assert Ledger(store, (), store.engine).engine == EngineIdentity(1, 5)


PHASES = [
    FilesystemTag(),
    FilesystemTag(FilesystemPhase.FORMATTING, "ext4", "u"),
    FilesystemTag(FilesystemPhase.FORMATTED, "ext4", "u"),
]


@pytest.mark.parametrize("known", PHASES, ids=lambda tag: tag.phase)
@pytest.mark.parametrize("said", PHASES, ids=lambda tag: tag.phase)
async def test_a_finished_format_stays_recorded_whatever_a_backend_returns(
    known: FilesystemTag, said: FilesystemTag
) -> None:
    """A read may be stale, and an unfinished format permits mkfs."""
    ledger = Ledger(MemoryStore())
    volume = volume_of("v")
    await ledger.remember(replace(volume, filesystem=known))
    await ledger.remember(replace(volume, filesystem=said, size_bytes=2 * GIB))
    entry = ledger.get("v")
    assert entry is not None
    assert entry.record == replace(volume, filesystem=max(known, said, key=PHASES.index), size_bytes=2 * GIB)


async def test_the_record_of_one_volume_does_not_apply_to_another_of_its_name() -> None:
    ledger = Ledger(MemoryStore())
    await ledger.remember(replace(volume_of("v"), filesystem=PHASES[-1]))
    anew = replace(volume_of("v"), volume_id="id-of-another")
    await ledger.remember(anew)
    entry = ledger.get("v")
    assert entry is not None
    assert entry.record == anew


@pytest.mark.parametrize("order", list(permutations(range(4))))
async def test_writes_in_any_order_leave_the_store_equal_to_memory(
    store: MemoryStore, ledger: Ledger, order: tuple[int, ...]
) -> None:
    """Memory changes at the call; the tasks that write run in any order."""
    writes = [
        ledger.put(Entry("v", "memory", desired=Desired.MOUNTED)),
        ledger.forget("v"),
        ledger.put(Entry("v", "memory", desired=Desired.DETACHED)),
        ledger.update("v", lambda entry: replace(entry, failure=FAILURE)),
    ]
    for number in order:
        await writes[number]
    assert store.entries == {entry.name: entry for entry in ledger.entries()}


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_an_entry_removed_last_is_gone_in_any_order_of_writes(
    store: MemoryStore, ledger: Ledger, order: tuple[int, ...]
) -> None:
    writes = [
        ledger.put(Entry("v", "memory")),
        ledger.update("v", lambda entry: replace(entry, failure=FAILURE)),
        ledger.forget("v"),
    ]
    for number in order:
        await writes[number]
    assert (store.entries, ledger.entries()) == ({}, [])


async def test_a_missing_entry_is_not_updated(store: MemoryStore, ledger: Ledger) -> None:
    await ledger.update("v", lambda entry: replace(entry, failure=FAILURE))
    assert (store.entries, ledger.entries()) == ({}, [])


async def test_a_failure_that_is_repeated_is_not_written_again(store: MemoryStore, ledger: Ledger) -> None:
    later = replace(FAILURE, at=FAILURE.at + timedelta(minutes=5))
    for failure in (FAILURE, later):
        await ledger.put(Entry("v", "memory", failure=failure))
    assert ledger.get("v") == Entry("v", "memory", failure=later)
    assert len(store.writes) == 1
    await ledger.put(Entry("v", "memory", failure=replace(later, text="another")))
    assert len(store.writes) == 2


async def test_a_failure_is_of_one_volume(ledger: Ledger) -> None:
    volume = volume_of("v")
    await ledger.put(Entry("v", "memory", record=volume, failure=FAILURE))
    await ledger.remember(replace(volume, state=VolumeState.IN_USE))
    assert ledger.get("v") == Entry(
        "v", "memory", record=replace(volume, state=VolumeState.IN_USE), failure=FAILURE
    )
    created_anew = replace(volume, volume_id="another")
    await ledger.remember(created_anew)
    assert ledger.get("v") == Entry("v", "memory", record=created_anew)


def test_a_success_drops_the_failure_of_its_kind_only() -> None:
    entry = Entry("v", "memory", failure=FAILURE)
    assert entry.without_failure("mount", "unmount") is entry
    assert entry.without_failure("mount", "detach") == Entry("v", "memory")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (VolumeInUse("still in use", "Stop it"), "volume-in-use", "still in use. Stop it."),
        (
            RuntimeError("a bug"),
            "internal-error",
            "internal error: RuntimeError('a bug'). See the log of volplug.",
        ),
    ],
)
def test_a_failure_has_the_text_that_the_client_read(error: Exception, code: str, text: str) -> None:
    failure = Failure.of("mount", error, FAILURE.at)
    assert (failure.operation, failure.code, failure.text, failure.at) == ("mount", code, text, FAILURE.at)
