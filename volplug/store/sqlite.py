"""The ledger's store: one SQLite file.

It has a write-ahead log; a commit always survives a crash of this process, and a power cut if it is
`durable`. Counts are stored with the boot id: a reboot ends every mount, so counts of another boot are
dropped. A file of a newer version is refused and not changed.

SQLite detects only damage to its structure, so each row has a checksum. A row that fails it is dropped; a
file that fails SQLite's own check is set aside. Neither loses a volume: one that is mounted or attached
without a row is found again at the start (`volplug.volumes.recovery`).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from volplug.errors import HostError, StateUnusable
from volplug.models import EngineIdentity
from volplug.store.rows import (
    entry_of,
    is_of_one_operation,
    is_of_one_volume,
    is_sound,
    operation_of,
    row_of,
    row_of_operation,
    with_checksum,
)
from volplug.volumes.ledger import Entry
from volplug.volumes.operations import Operation

_T = TypeVar("_T")
_VERSION: Final = 3
# The header's application id repeats the version, so that a damaged version is not taken for a newer one.
_APPLICATION_ID: Final = 0x766F6C00
_SCHEMA: Final = (
    """CREATE TABLE volumes (
    name TEXT PRIMARY KEY,
    backend TEXT NOT NULL,
    desired TEXT NOT NULL,
    record TEXT,
    last_error TEXT NOT NULL,
    counts TEXT NOT NULL,
    doubts TEXT NOT NULL,
    holders_unknown INTEGER NOT NULL,
    mounted_at_s REAL NOT NULL,
    boot_id TEXT NOT NULL,
    checksum INTEGER NOT NULL
) WITHOUT ROWID""",
    """CREATE TABLE engine (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    pid INTEGER NOT NULL,
    started INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    checksum INTEGER NOT NULL
)""",
)
# Version 2 lacks it.
_OPERATIONS: Final = """CREATE TABLE operations (
    operation_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    volume TEXT NOT NULL,
    state TEXT NOT NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    failure TEXT NOT NULL,
    request_id TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    request TEXT NOT NULL,
    checksum INTEGER NOT NULL
) WITHOUT ROWID"""
_SAVE: Final = "INSERT OR REPLACE INTO volumes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SAVE_OPERATION: Final = "INSERT OR REPLACE INTO operations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DISK_FAULTS: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
    }
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The contents of the store at start.

    Attributes:
        entries: The volumes.
        engine: The engine process that connected last during this boot.
        operations: Those of the control API, the oldest first.
        set_aside: Path to which a damaged file was moved, or None.
        dropped: How many rows of a sound file were damaged, or not of one volume.
    """

    entries: tuple[Entry, ...]
    engine: EngineIdentity | None
    operations: tuple[Operation, ...] = ()
    set_aside: Path | None = None
    dropped: int = 0


def read_unchanged(path: Path, boot_id: str) -> Loaded:
    """Read a state file without any change, also while another process writes to it. Blocks.

    Raises:
        StateUnusable: If it is of a newer version, or cannot be read.
    """
    try:
        with closing(_unchanging(path)) as connection:
            connection.text_factory = _text
            version = _refuse_newer(path, connection)
            if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("it is damaged")
            return _read(connection, boot_id, may_write=False, has_operations=version == _VERSION)
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter: SQLite's message quotes the damage
        raise StateUnusable(f"the state file {path} cannot be read: {error}") from error


class SqliteStore:
    """One connection, used by one thread, so that writes are in the order of the calls."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="volplug-store")
        self._connection: sqlite3.Connection | None = None
        self._is_closed = False

    async def load(self) -> Loaded:
        """Open the file, or make it, and read everything.

        Raises:
            StateUnusable: If the file is of a newer version; it is not changed.
        """
        return await self._in_thread(self._load)

    async def save(self, entry: Entry, *, durable: bool) -> None:
        """Write an entry."""
        await self._in_thread(lambda: self._save(entry, durable))

    async def forget(self, name: str) -> None:
        """Remove an entry."""
        await self._in_thread(lambda: self._run("DELETE FROM volumes WHERE name = ?", (name,)))

    async def save_engine(self, engine: EngineIdentity) -> None:
        """Write the engine process that connected last."""
        row = with_checksum((1, engine.pid, engine.started, self._boot_id))
        await self._in_thread(lambda: self._run("INSERT OR REPLACE INTO engine VALUES (?, ?, ?, ?, ?)", row))

    async def check_writable(self) -> None:
        """Write something that changes nothing; raises HostError if that cannot be done."""
        await self._in_thread(self._rewrite_version)

    async def save_operation(self, operation: Operation, outdated: Sequence[str]) -> None:
        """Write an operation so that it survives a power cut, and remove others, by their ids."""
        row = row_of_operation(operation)
        await self._in_thread(lambda: self._save_operation(row, outdated))

    async def close(self) -> None:
        """Close the file; the store must not be used any more. Closing twice is no error."""
        if not self._is_closed:
            self._is_closed = True
            await self._in_thread(self._close)
            self._thread.shutdown()

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except (sqlite3.Error, OSError) as error:
            raise HostError(
                f"the state file {self._path} cannot be used: {error}",
                "Check its disk: full, or read-only?",
            ) from error

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StateUnusable("the state file is not open")
        return self._connection

    def _run(self, statement: str, values: tuple[object, ...]) -> None:
        self._opened().execute(statement, values)

    def _rewrite_version(self) -> None:
        """Write a page to the log of the file; not flushed, which a slow disk makes slow for all writes."""
        self._run("PRAGMA synchronous = NORMAL", ())
        self._run(f"PRAGMA user_version = {_VERSION}", ())

    def _save(self, entry: Entry, durable: bool) -> None:
        self._run(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}", ())
        self._run(_SAVE, row_of(entry, self._boot_id))

    def _save_operation(self, row: tuple[object, ...], outdated: Sequence[str]) -> None:
        connection = self._opened()
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            connection.execute("BEGIN")
            old = [(operation_id,) for operation_id in outdated]
            connection.executemany("DELETE FROM operations WHERE operation_id = ?", old)
            connection.execute(_SAVE_OPERATION, row)

    def _load(self) -> Loaded:
        try:
            return self._open()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter: SQLite's message quotes the damage
            if self._is_fault_of_the_disk(error):
                raise
        set_aside = self._set_aside()
        return replace(self._open(), set_aside=set_aside)

    def _is_fault_of_the_disk(self, error: Exception) -> bool:
        """Tell whether the disk has failed, not the file: the file may be sound at the next start."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code == sqlite3.SQLITE_READONLY:  # a damaged header looks read-only, too
            return not os.access(self._path, os.W_OK)
        return code in _DISK_FAULTS

    def _open(self) -> Loaded:
        """Open the file, or make it, and read it; raises sqlite3.Error if it is damaged or the disk fails."""
        if self._path.is_file():
            with closing(_unchanging(self._path)) as looking:
                _refuse_newer(self._path, looking)
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            self._path.chmod(0o600)
            _prepare(connection)
            loaded = _read(connection, self._boot_id, may_write=True)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return loaded

    def _set_aside(self) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        kept = self._path.with_name(f"{self._path.name}.damaged-{stamp}")
        self._path.rename(kept)
        for suffix in ("-wal", "-shm"):
            side = self._path.with_name(self._path.name + suffix)
            if side.exists():
                side.rename(kept.with_name(kept.name + suffix))
        return kept


def _unchanging(path: Path) -> sqlite3.Connection:
    """Open a file so that nothing is changed, not even when it is closed."""
    has_log = path.with_name(f"{path.name}-wal").exists()
    how = "mode=ro" if has_log else "immutable=1"  # mode=ro would create a log
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)


def _refuse_newer(path: Path, connection: sqlite3.Connection) -> int:
    """Return the version of a file.

    Raises:
        StateUnusable: If it is newer than this volplug.
    """
    version, application_id = _versions(connection)
    if version > _VERSION and application_id == _APPLICATION_ID + version:
        raise StateUnusable(
            f"{path} is of version {version}, this volplug reads up to version {_VERSION}",
            "Install the newer volplug again",
        )
    return version


def _versions(connection: sqlite3.Connection) -> tuple[int, int]:
    version, application_id = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")
    )
    return version, application_id


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the tables of a new file, or check those of an existing one."""
    connection.text_factory = _text
    connection.execute("PRAGMA journal_mode = WAL")
    schema = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema")}
    versions = _versions(connection)
    is_new = not schema and versions == (0, 0)
    if is_new or (schema == set(_SCHEMA) and versions == (2, _APPLICATION_ID + 2)):
        missing = (*_SCHEMA, _OPERATIONS) if is_new else (_OPERATIONS,)
        connection.executescript(
            f"BEGIN; {';'.join(missing)}; PRAGMA user_version = {_VERSION};"
            f" PRAGMA application_id = {_APPLICATION_ID + _VERSION}; COMMIT;"
        )
        schema |= set(missing)
    is_current = _versions(connection) == (_VERSION, _APPLICATION_ID + _VERSION)
    is_ours = is_current and schema == {*_SCHEMA, _OPERATIONS}
    if not is_ours or connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("damaged")
    # With a damaged format version in the header SQLite reads, but refuses each write.
    connection.executescript(f"BEGIN; PRAGMA user_version = {_VERSION}; ROLLBACK")


def _read(
    connection: sqlite3.Connection, boot_id: str, *, may_write: bool, has_operations: bool = True
) -> Loaded:
    """Read everything; damaged rows are removed if that is permitted."""
    rows_of = partial(_sound_rows, connection, may_write=may_write)
    sound, damaged = rows_of("volumes", _SAVE, lambda row: is_of_one_volume(entry_of(row, boot_id)))
    operations, damaged_too = (
        rows_of("operations", _SAVE_OPERATION, is_of_one_operation) if has_operations else ((), 0)
    )
    engines = [
        EngineIdentity(row[1], row[2])
        for row in connection.execute("SELECT * FROM engine")
        if is_sound(row) and row[3] == boot_id
    ]
    return Loaded(
        tuple(entry_of(row, boot_id) for row in sound),
        engines[0] if engines else None,
        tuple(sorted(map(operation_of, operations), key=lambda each: each.started_at)),
        dropped=damaged + damaged_too,
    )


def _sound_rows(
    connection: sqlite3.Connection,
    table: str,
    save: str,
    is_right: Callable[[tuple[Any, ...]], bool],
    *,
    may_write: bool,
) -> tuple[Sequence[tuple[Any, ...]], int]:
    """Return the rows of a table that are not damaged, and how many are; those are removed if permitted."""
    rows = connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608  # of this module
    seen = Counter(row[0] for row in rows if is_sound(row))
    # Two rows of one key are both dropped: a page was written in the place of another.
    sound = [row for row in rows if is_sound(row) and seen[row[0]] == 1 and is_right(row)]
    keys = [row[0] for row in sound]
    if may_write and (len(sound) < len(rows) or keys != sorted(keys)):
        # SQLite does not find rows whose keys are out of order: all are written again.
        with connection:
            connection.execute("BEGIN")
            connection.execute(f"DELETE FROM {table}")  # noqa: S608  # of this module
            connection.executemany(save, sound)
    return sound, len(rows) - len(sound)


def _text(raw: bytes) -> str:
    """Decode a text without an error for damage, which the checksum detects."""
    return raw.decode(errors="surrogateescape")
