import os
import random
import sqlite3
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lab.leftovers import mounted_below
from tests.sound_volumes import NAMES, TEXT, volumes
from tests.store.files import DAMAGES, THIS_BOOT, bytes_of, damaged, load_once, set_version
from volplug.errors import HostError, StateUnusable
from volplug.models import Volume, VolumeSpec, VolumeState
from volplug.store import sqlite
from volplug.store.sqlite import Loaded, SqliteStore
from volplug.volumes.ledger import Desired, EngineIdentity, Entry

NEXT_BOOT = "boot-2"
ENTRY = Entry("v", "loop", {"c1": 2}, {"c2": 1}, Desired.MOUNTED, None, mounted_at_s=12.5)

COUNTS = st.dictionaries(TEXT, st.integers(1, 10**6), max_size=4)
ENTRIES = NAMES.flatmap(
    lambda name: st.builds(
        Entry,
        st.just(name),
        TEXT,
        counts=COUNTS,
        doubts=COUNTS,
        desired=st.sampled_from(Desired),
        record=st.none() | volumes(st.just(name)),
        holders_unknown=st.booleans(),
        mounted_at_s=st.floats(0, 1e9),
        last_error=TEXT,
    )
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
    found = Entry("found", "loop", holders_unknown=True, last_error="still in use")
    await store.save(replace(ENTRY, record=record), durable=True)
    await store.save(found, durable=False)
    await store.save_engine(EngineIdentity(7, 9))
    entries, engine = await read_back(path, NEXT_BOOT)
    assert entries == (
        Entry("found", "loop", last_error="still in use"),
        Entry("v", "loop", desired=Desired.MOUNTED, record=record),
    )
    assert engine is None


async def test_the_engine_is_remembered_within_a_boot(store: SqliteStore, path: Path) -> None:
    await store.save_engine(EngineIdentity(7, 9))
    await store.save_engine(EngineIdentity(8, 10))
    assert (await read_back(path))[1] == EngineIdentity(8, 10)


async def test_a_record_of_another_volplug_that_cannot_be_read_is_not_known(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "volume_to_json", lambda _: '{"name": "v", "from": "the future"}')
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
    for suffix in suffixes:  # the files as they are at this moment, which nobody has closed
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
    set_version(path, 3)
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
        f"{newer / path.name} is of version 3, this volplug reads up to version 2. "
        "Install the newer volplug again."
    )
    untouched = {name: content for name, content in bytes_of(newer).items() if not name.endswith("-shm")}
    assert untouched == {name: content for name, content in before.items() if not name.endswith("-shm")}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_file_is_set_aside_and_a_new_one_begun(path: Path, damage: str) -> None:
    store = SqliteStore(path, THIS_BOOT)
    await store.load()
    for number in range(200):
        await store.save(Entry(f"v{number}", "loop", last_error="x" * 200), durable=False)
    await store.close()
    content = DAMAGES[damage](path.read_bytes())
    path.write_bytes(content)
    begun = SqliteStore(path, THIS_BOOT)
    before = datetime.now(UTC)
    loaded = await begun.load()
    await begun.save(ENTRY, durable=True)
    await begun.close()
    assert (loaded.entries, loaded.engine) == ((), None)
    assert loaded.set_aside is not None
    assert loaded.set_aside.read_bytes() == content
    assert loaded.set_aside.name.startswith("state.sqlite.damaged-")
    stamp = loaded.set_aside.name.rpartition("-")[2]
    written = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert before - timedelta(seconds=1) <= written <= datetime.now(UTC)
    assert (await read_back(path))[0] == (ENTRY,)


async def test_the_log_of_a_damaged_file_is_kept_with_it(store: SqliteStore, path: Path) -> None:
    await store.close()
    killed = SqliteStore(path, THIS_BOOT)
    await killed.load()
    await killed.save(ENTRY, durable=True)
    log = path.with_name(f"{path.name}-wal").read_bytes()
    await killed.close()
    path.write_bytes(bytes(100) + path.read_bytes()[100:])
    path.with_name(f"{path.name}-wal").write_bytes(log)
    kept = (await load_once(path)).set_aside
    assert kept is not None
    assert kept.with_name(f"{kept.name}-wal").read_bytes() == log


async def used_files(path: Path) -> dict[str, dict[str, bytes]]:
    """Two files made by use: as a clean end leaves them, and as a kill does, with a log."""
    store = SqliteStore(path, THIS_BOOT)
    await store.load()
    await store.save_engine(ENGINE)
    for entry in WRITTEN:
        await store.save(entry, durable=False)
    await store.forget("forgotten")
    killed = {file.name: file.read_bytes() for file in path.parent.glob("state.sqlite*")}
    await store.close()
    return {"closed": {path.name: path.read_bytes()}, "killed": killed}


ENGINE = EngineIdentity(7, 9)
_RECORD = Volume("w1", "id", "loop", 1, VolumeState.IN_USE, VolumeSpec("w1", 1))
WRITTEN = [
    Entry("forgotten", "loop"),
    *(Entry(f"v{number}", "loop", {"c": 1}, desired=desired) for number, desired in enumerate(Desired)),
    Entry("w1", "ebs", {"c1": 2}, {"c2": 1}, Desired.ABSENT, _RECORD, mounted_at_s=12.5, last_error="busy"),
    Entry("w1", "ebs", {"c1": 2}, {"c2": 1}, Desired.MOUNTED, _RECORD, mounted_at_s=12.5),
    *(Entry(f"long-{number}", "loop", last_error="x" * 250) for number in range(40)),
]


async def test_damage_costs_the_rows_that_it_hits_or_the_file_and_nothing_once_more(tmp_path: Path) -> None:
    used = await used_files(tmp_path / "state.sqlite")
    outcomes: Counter[str] = Counter()
    for seed in range(250):
        dice = random.Random(seed)  # noqa: S311  # repeatable
        directory = tmp_path / str(seed)
        directory.mkdir()
        files = used[dice.choice(["closed", "killed"])]
        target = dice.choice(sorted(files))
        for name, content in files.items():
            (directory / name).write_bytes(damaged(content, dice) if name == target else content)
        first, again = [await load_once(directory / "state.sqlite") for _ in range(2)]
        assert [entry for entry in first.entries if entry not in WRITTEN] == [], f"seed {seed}"
        assert first.engine in (ENGINE, None), f"seed {seed}"
        assert again == Loaded(first.entries, first.engine), f"seed {seed}"
        outcomes["file" if first.set_aside else "rows" if first.dropped else "nothing"] += 1
    assert set(outcomes) == {"file", "rows", "nothing"}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE volumes SET desired = 'wanted'",
        "UPDATE volumes SET counts = 'c1: 2'",
        "UPDATE volumes SET counts = '[1]'",
        "UPDATE volumes SET name = '../../etc'",
        "UPDATE volumes SET last_error = CAST(x'ff00' AS TEXT)",
        "UPDATE volumes SET mounted_at_s = x'00'",
        "UPDATE volumes SET checksum = -checksum",
    ],
)
async def test_a_damaged_row_is_dropped_and_leaves_the_others(path: Path, change: str) -> None:
    for entry in (ENTRY, replace(ENTRY, name="w")):
        store = SqliteStore(path, THIS_BOOT)
        await store.load()
        await store.save(entry, durable=True)
        await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"{change} WHERE name = 'v'")
    connection.close()
    assert await load_once(path) == Loaded((replace(ENTRY, name="w"),), None, dropped=1)
    assert await load_once(path) == Loaded((replace(ENTRY, name="w"),), None)


async def test_of_a_page_in_the_place_of_another_nothing_is_believed(path: Path) -> None:
    """Its rows are there twice, each with the right checksum, and SQLite's quick check sees nothing."""
    store = SqliteStore(path, THIS_BOOT)
    await store.load()
    entries = [Entry(f"v{number:03}", "loop", last_error="x" * 200) for number in range(60)]
    for entry in entries:
        await store.save(entry, durable=False)
    await store.close()
    content = path.read_bytes()
    pages = [content[at : at + 4096] for at in range(0, len(content), 4096)]
    first, second = [number for number, page in enumerate(pages) if number and page.count(b"x" * 200) > 1][:2]
    pages[second] = pages[first]
    path.write_bytes(b"".join(pages))
    damaged_file = await load_once(path)
    twice = pages[first].count(b"x" * 200)
    assert damaged_file.set_aside is not None or damaged_file.dropped == 2 * twice
    assert [entry for entry in damaged_file.entries if entry not in entries] == []
    store = SqliteStore(path, THIS_BOOT)
    await store.load()
    for entry in entries:
        await store.save(entry, durable=False)
        await store.forget(entry.name)
    await store.close()
    assert await load_once(path) == Loaded((), None)


@pytest.mark.parametrize(
    "change",
    [
        "PRAGMA user_version = 0",
        "PRAGMA user_version = 65537",
        "PRAGMA application_id = 0",
        "ALTER TABLE volumes RENAME TO volumfs",
        "ALTER TABLE volumes RENAME COLUMN desired TO desirfd",
        "DROP TABLE engine",
    ],
)
async def test_a_file_whose_head_or_tables_are_damaged_is_set_aside(path: Path, change: str) -> None:
    await load_once(path)
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    connection.close()
    assert (await load_once(path)).set_aside is not None
    assert await load_once(path) == Loaded((), None)


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
        await store.save(Entry(f"v{number}", "loop", last_error="x" * 4096), durable=True)


async def test_on_a_full_disk_a_write_fails_in_words_and_works_again_afterwards(disk: Path) -> None:
    store = SqliteStore(disk / "state.sqlite", THIS_BOOT)
    await store.load()
    await store.save(ENTRY, durable=True)
    fill(disk)
    with pytest.raises(HostError) as refused:
        await write_much(store)
    assert str(refused.value) == (
        f"the state file {disk / 'state.sqlite'} cannot be used: database or disk is full. "
        "Look at its disk: full, or read-only?"
    )
    (disk / "filler").unlink()
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
