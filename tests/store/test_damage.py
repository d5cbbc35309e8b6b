"""What damage to the state file costs: the rows that it hits, or the file."""

import random
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.store.files import DAMAGES, THIS_BOOT, damaged, load_once, update_volumes
from volplug.models import EngineIdentity, Volume, VolumeSpec, VolumeState
from volplug.store.rows import with_checksum
from volplug.store.sqlite import Loaded, SqliteStore
from volplug.volume_json import volume_to_json
from volplug.volumes.ledger import Desired, Entry, Failure
from volplug.volumes.operations import Operation, Origin

ENTRY = Entry("v", "loop", {"c1": 2}, {"c2": 1}, Desired.MOUNTED, None, mounted_at_s=12.5)


BEGAN = datetime(2026, 1, 2, tzinfo=UTC)


def _long(length: int) -> Failure:
    return Failure("detach", "host-error", "", "x" * length, BEGAN)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_file_is_set_aside_and_a_new_one_begun(path: Path, damage: str) -> None:
    store = SqliteStore(path, THIS_BOOT)
    await store.load()
    for number in range(200):
        await store.save(Entry(f"v{number}", "loop", failure=_long(200)), durable=False)
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
    assert (await load_once(path)).entries == (ENTRY,)


async def test_the_log_of_a_damaged_file_is_kept_with_it(path: Path) -> None:
    await load_once(path)
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
    for operation in OPERATIONS:
        await store.save_operation(operation, [])
    killed = {file.name: file.read_bytes() for file in path.parent.glob("state.sqlite*")}
    await store.close()
    return {"closed": {path.name: path.read_bytes()}, "killed": killed}


ENGINE = EngineIdentity(7, 9)
_RECORD = Volume("w1", "id", "loop", 1, VolumeState.IN_USE, VolumeSpec("w1", 1))
WRITTEN = [
    Entry("forgotten", "loop"),
    *(Entry(f"v{number}", "loop", {"c": 1}, desired=desired) for number, desired in enumerate(Desired)),
    Entry("w1", "ebs", {"c1": 2}, {"c2": 1}, Desired.ABSENT, _RECORD, mounted_at_s=12.5, failure=_long(4)),
    Entry("w1", "ebs", {"c1": 2}, {"c2": 1}, Desired.MOUNTED, _RECORD, mounted_at_s=12.5),
    *(Entry(f"long-{number}", "loop", failure=_long(250)) for number in range(40)),
]


OPERATIONS = [
    Operation(
        f"run-{number}", "delete", f"v{number}", origin=Origin.API, failure=_long(250), started_at=BEGAN
    )
    for number in range(20)
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
        assert [each for each in first.operations if each not in OPERATIONS] == [], f"seed {seed}"
        assert again == Loaded(first.entries, first.engine, first.operations), f"seed {seed}"
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


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("state", "paused"),
        ("started_at", "yesterday"),
        ("ended_at", "1.1."),
        ("volume", "../victim"),
    ],
)
async def test_an_operation_of_another_version_is_dropped_and_leaves_the_others(
    path: Path, column: str, value: str
) -> None:
    store = SqliteStore(path, THIS_BOOT)
    await store.load()
    for operation in OPERATIONS[:2]:
        await store.save_operation(operation, [])
    await store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (*row,) = connection.execute("SELECT * FROM operations").fetchone()
        row[[each[1] for each in connection.execute("PRAGMA table_info(operations)")].index(column)] = value
        connection.execute("DELETE FROM operations WHERE operation_id = ?", (row[0],))
        places = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO operations VALUES ({places})", with_checksum(tuple(row[:-1])))  # noqa: S608  # of tests
    assert await load_once(path) == Loaded((), None, (OPERATIONS[1],), dropped=1)
    assert await load_once(path) == Loaded((), None, (OPERATIONS[1],))


@pytest.mark.parametrize(
    ("assignments", "value"),
    [
        ("record = NULL, name = ?", "../../victim"),
        ("record = NULL, name = ?", ""),
        ("name = ?", "orig"),
        (
            "record = ?",
            volume_to_json(Volume("orig", "id", "loop", 1, VolumeState.IN_USE, VolumeSpec("orig", 1))),
        ),
    ],
)
async def test_a_row_that_is_not_of_one_volume_is_dropped_although_its_checksum_is_right(
    path: Path, assignments: str, value: str
) -> None:
    record = Volume("v", "id", "loop", 1, VolumeState.IN_USE, VolumeSpec("v", 1))
    store = SqliteStore(path, THIS_BOOT)
    await store.load()
    await store.save(replace(ENTRY, record=record), durable=True)
    await store.close()
    update_volumes(path, assignments, value)
    assert await load_once(path) == Loaded((), None, dropped=1)
    assert await load_once(path) == Loaded((), None)


async def test_of_a_page_in_the_place_of_another_nothing_is_believed(path: Path) -> None:
    """Its rows are there twice, each with the right checksum, and SQLite's quick check sees nothing."""
    store = SqliteStore(path, THIS_BOOT)
    await store.load()
    entries = [Entry(f"v{number:03}", "loop", failure=_long(200)) for number in range(60)]
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
