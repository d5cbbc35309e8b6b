import asyncio
import os
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lab.leftovers import mounted_below
from tests.sound_volumes import NAMES, TEXT, volumes
from tests.store.files import THIS_BOOT, bytes_of, load_once, set_version, update_volumes
from volplug.errors import HostError, StateUnusable
from volplug.models import EngineIdentity, Volume, VolumeSpec, VolumeState
from volplug.store import rows
from volplug.store.sqlite import SqliteStore, read_unchanged
from volplug.volume_json import volume_to_json
from volplug.volumes.ledger import Desired, Entry, Failure
from volplug.volumes.operations import Operation, OperationState, Origin

NEXT_BOOT = "boot-2"
ENTRY = Entry("v", "loop", {"c1": 2}, {"c2": 1}, Desired.MOUNTED, None, mounted_at_s=12.5)

FAILURE = Failure(
    "detach", "volume-in-use", "still in use", "still in use.", datetime(2026, 1, 2, tzinfo=UTC)
)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
FAILURES = st.builds(Failure, TEXT, TEXT, TEXT, TEXT, TIMES, TEXT, st.booleans())
COUNTS = st.dictionaries(TEXT, st.integers(1, 10**6), max_size=4)
ENTRIES = NAMES.flatmap(
    lambda name: st.builds(
        Entry,
        st.just(name),
        TEXT,
        confirmed=COUNTS,
        unconfirmed=COUNTS,
        desired=st.sampled_from(Desired),
        record=st.none() | volumes(st.just(name)),
        holders_unknown=st.booleans(),
        mounted_at_s=st.floats(0, 1e9),
        failure=st.none() | FAILURES,
    )
)
OPERATIONS = st.builds(
    Operation,
    TEXT,
    TEXT,
    NAMES,
    origin=st.just(Origin.API),
    state=st.sampled_from(OperationState),
    started_at=TIMES,
    ended_at=st.none() | TIMES,
    failure=st.none() | FAILURES,
    request_id=TEXT,
    idempotency_key=TEXT,
    fingerprint=TEXT,
    request=TEXT,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(path, THIS_BOOT)
    await opened.load()
    yield opened
    await opened.close()


async def read_back(path: Path, boot_id: str = THIS_BOOT) -> tuple[tuple[Entry, ...], EngineIdentity | None]:
    """What another process finds."""
    store = SqliteStore(path, boot_id)
    loaded = await store.load()
    await store.close()
    assert loaded.set_aside is None
    return loaded.entries, loaded.engine


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(entry=ENTRIES, durable=st.booleans())
async def test_every_entry_reads_back_as_it_was_written(path: Path, entry: Entry, durable: bool) -> None:
    store = SqliteStore(path, THIS_BOOT)
    await store.load()
    await store.save(entry, durable=durable)
    await store.close()
    assert (await read_back(path))[0] == (entry,)
    store = SqliteStore(path, THIS_BOOT)
    await store.load()
    await store.forget(entry.name)
    await store.close()
    assert (await read_back(path))[0] == ()


async def test_what_another_process_finds_was_there_before_the_answer(store: SqliteStore, path: Path) -> None:
    await store.save(ENTRY, durable=False)
    assert (await read_back(path))[0] == (ENTRY,)


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])  # FULL, NORMAL
async def test_a_durable_write_is_synced(store: SqliteStore, durable: bool, level: int) -> None:
    await store.save(ENTRY, durable=durable)
    assert store._connection is not None
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (level,)


async def test_the_last_write_of_a_name_counts(store: SqliteStore, path: Path) -> None:
    await store.save(ENTRY, durable=True)
    await store.save(Entry("w", "loop"), durable=False)
    await store.save(ENTRY.without_claims(), durable=False)
    await store.forget("w")
    await store.forget("never")
    assert (await read_back(path))[0] == (ENTRY.without_claims(),)


async def test_of_another_boot_desires_and_records_stay_and_counts_go(store: SqliteStore, path: Path) -> None:
    record = Volume("v", "id", "loop", 1, VolumeState.IN_USE, VolumeSpec("v", 1))
    found = Entry("found", "loop", holders_unknown=True, failure=FAILURE)
    await store.save(replace(ENTRY, record=record), durable=True)
    await store.save(found, durable=False)
    await store.save_engine(EngineIdentity(7, 9))
    entries, engine = await read_back(path, NEXT_BOOT)
    assert entries == (
        Entry("found", "loop", failure=FAILURE),
        Entry("v", "loop", desired=Desired.MOUNTED, record=record),
    )
    assert engine is None


async def test_rows_of_a_version_without_failures_and_details_are_read(
    store: SqliteStore, path: Path
) -> None:
    record = Volume("v", "id", "loop", 1, VolumeState.AVAILABLE, VolumeSpec("v", 1), details=(("zone", "z"),))
    await store.save(replace(ENTRY, record=record), durable=True)
    await store.close()
    old = volume_to_json(replace(record, details=())).replace(',"details":[]', "")
    update_volumes(path, "last_error = 'still in use', record = ?", old)
    assert "details" not in old
    assert (await read_back(path))[0] == (replace(ENTRY, record=replace(record, details=())),)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(operation=OPERATIONS)
async def test_every_operation_reads_back_as_it_was_written(path: Path, operation: Operation) -> None:
    store = SqliteStore(path, THIS_BOOT)
    known = [each.operation_id for each in (await store.load()).operations]
    await store.save_operation(operation, [each for each in known if each != operation.operation_id])
    await store.close()
    assert (await load_once(path)).operations == (operation,)


async def test_operations_are_read_in_the_order_of_their_begin(store: SqliteStore, path: Path) -> None:
    begun = [
        Operation(name, "delete", "v", origin=Origin.API, started_at=datetime(2026, 1, day, tzinfo=UTC))
        for day, name in ((1, "r-9"), (2, "r-10"), (3, "r-11"))
    ]
    for each in reversed(begun):
        await store.save_operation(each, [])
    await store.close()
    assert list((await load_once(path)).operations) == begun


async def test_a_file_of_the_version_before_operations_is_used_on(store: SqliteStore, path: Path) -> None:
    await store.save(ENTRY, durable=True)
    await store.save_engine(EngineIdentity(7, 9))
    await store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE operations")
    set_version(path, 2)
    for _ in range(2):
        assert await read_back(path) == ((ENTRY,), EngineIdentity(7, 9))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)


async def test_a_file_is_read_without_a_change_while_another_process_writes(
    store: SqliteStore, path: Path
) -> None:
    await store.save(ENTRY, durable=True)
    assert await read_aside(path) == (ENTRY,)
    await store.save(replace(ENTRY, name="w"), durable=False)
    before = bytes_of(path.parent)
    assert [entry.name for entry in await read_aside(path)] == ["v", "w"]
    assert bytes_of(path.parent).keys() == before.keys()
    await store.close()
    set_version(path, 2)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE operations")
    before = bytes_of(path.parent)
    assert len(await read_aside(path)) == 2
    assert bytes_of(path.parent) == before


async def read_aside(path: Path) -> tuple[Entry, ...]:
    return (await asyncio.to_thread(read_unchanged, path, THIS_BOOT)).entries


async def test_the_engine_is_remembered_within_a_boot(store: SqliteStore, path: Path) -> None:
    await store.save_engine(EngineIdentity(7, 9))
    await store.save_engine(EngineIdentity(8, 10))
    assert (await read_back(path))[1] == EngineIdentity(8, 10)


async def test_a_record_of_another_volplug_that_cannot_be_read_is_not_known(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "volume_to_json", lambda _: '{"name": "v", "from": "the future"}')
    record = Volume("v", "id", "loop", 1, VolumeState.IN_USE, VolumeSpec("v", 1))
    await store.save(replace(ENTRY, record=record), durable=True)
    assert (await read_back(path))[0] == (ENTRY,)


async def test_a_state_file_may_be_named_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        store = SqliteStore(Path("state.sqlite"), THIS_BOOT)
        await store.load()
        await store.save(ENTRY, durable=True)
        await store.close()
    assert (await read_back(tmp_path / "state.sqlite"))[0] == (ENTRY,)


@pytest.mark.parametrize("name", ["state.sqlite", "with space?#%41.sqlite"])
@pytest.mark.parametrize("suffixes", [("", "-wal", "-shm"), ("", "-wal")])
async def test_what_a_killed_process_wrote_is_there(
    tmp_path: Path, name: str, suffixes: tuple[str, ...]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    store = SqliteStore(tmp_path / name, THIS_BOOT)
    await store.load()
    await store.save(ENTRY, durable=False)
    for suffix in suffixes:  # the files as they are now, before the store is closed
        (copy / f"{name}{suffix}").write_bytes((tmp_path / f"{name}{suffix}").read_bytes())
    await store.close()
    assert (await read_back(copy / name))[0] == (ENTRY,)


# Files that are not ours to use


@pytest.mark.parametrize("is_crashed", [False, True])
async def test_a_file_of_a_newer_version_is_refused_untouched(
    path: Path, tmp_path: Path, is_crashed: bool
) -> None:
    newer = tmp_path / "newer"
    newer.mkdir()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE unheard_of (x)")
    set_version(path, 4)
    if not is_crashed:
        connection.close()
    for file in tmp_path.glob("state.sqlite*"):  # as a crash leaves them: what was written is in the log
        (newer / file.name).write_bytes(file.read_bytes())
    connection.close()
    before = bytes_of(newer)
    store = SqliteStore(newer / path.name, THIS_BOOT)
    with pytest.raises(StateUnusable) as refused:
        await store.load()
    await store.close()
    assert str(refused.value) == (
        f"{newer / path.name} is of version 4, this volplug reads up to version 3. "
        "Install the newer volplug again."
    )
    untouched = {name: content for name, content in bytes_of(newer).items() if not name.endswith("-shm")}
    assert untouched == {name: content for name, content in before.items() if not name.endswith("-shm")}


# Disks that refuse


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
        assert mounted_below(tmp_path) == []


def fill(disk: Path) -> None:
    space = os.statvfs(disk)
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize)


async def write_much(store: SqliteStore) -> None:
    """More than the log has room for without growing."""
    for number in range(1000):
        await store.save(Entry(f"v{number}", "loop", failure=replace(FAILURE, text="x" * 4096)), durable=True)


async def test_on_a_full_disk_a_write_fails_in_words_and_works_again_afterwards(disk: Path) -> None:
    store = SqliteStore(disk / "state.sqlite", THIS_BOOT)
    await store.load()
    await store.save(ENTRY, durable=True)
    fill(disk)
    with pytest.raises(HostError) as refused:
        await write_much(store)
    assert str(refused.value) == (
        f"the state file {disk / 'state.sqlite'} cannot be used: database or disk is full. "
        "Check its disk: full, or read-only?"
    )
    with pytest.raises(HostError):
        await store.check_writable()
    (disk / "filler").unlink()
    await store.check_writable()
    await store.save(Entry("after", "loop"), durable=True)
    await store.close()
    names = [entry.name for entry in (await read_back(disk / "state.sqlite"))[0]]
    assert {"v", "after"} <= set(names)


async def test_a_sound_file_on_a_full_disk_is_not_taken_for_a_damaged_one(disk: Path) -> None:
    path = disk / "state.sqlite"
    store = SqliteStore(path, THIS_BOOT)
    await store.load()
    await store.save(ENTRY, durable=True)
    await store.close()
    fill(disk)
    store = SqliteStore(path, THIS_BOOT)
    with pytest.raises(HostError) as refused:
        await store.load()
    await store.close()
    assert str(refused.value).startswith(f"the state file {path} cannot be used: ")
    assert [file.name for file in disk.iterdir() if "damaged" in file.name] == []
    (disk / "filler").unlink()
    assert (await read_back(path))[0] == (ENTRY,)


async def test_a_state_file_that_cannot_be_opened_is_reported(path: Path) -> None:
    path.mkdir()
    store = SqliteStore(path, THIS_BOOT)
    with pytest.raises(HostError) as refused:
        await store.load()
    await store.close()
    assert refused.value.cause == f"the state file {path} cannot be used: unable to open database file"
    assert path.is_dir()


async def test_a_store_that_was_not_opened_writes_nothing(path: Path) -> None:
    store = SqliteStore(path, THIS_BOOT)
    with pytest.raises(StateUnusable, match="the state file is not open"):
        await store.save(ENTRY, durable=True)
    await store.close()
    assert not path.exists()
