"""The ledger's store: one SQLite file.

Write-ahead log; a commit survives a crash of this process always, and a power cut where it has to
(`durable`). Counts are stamped with the boot id: a reboot ends every mount, so counts of another boot are
dropped. A file of a newer version is refused untouched, a damaged one is set aside.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from volplug.errors import HostError, StateUnusable, UnexpectedState
from volplug.models import Volume
from volplug.names import is_name
from volplug.volume_json import volume_from_json, volume_to_json
from volplug.volumes.ledger import Desired, EngineIdentity, Entry

_T = TypeVar("_T")
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE volumes (
    name TEXT PRIMARY KEY,
    backend TEXT NOT NULL,
    desired TEXT NOT NULL,
    record TEXT,
    last_error TEXT NOT NULL,
    counts TEXT NOT NULL,
    doubts TEXT NOT NULL,
    holders_unknown INTEGER NOT NULL,
    mounted_at_s REAL NOT NULL,
    boot_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE engine (one INTEGER PRIMARY KEY CHECK (one = 1), pid INTEGER, started INTEGER, boot_id TEXT);
"""
_SAVE: Final = """
INSERT OR REPLACE INTO volumes (name, backend, desired, record, last_error, counts, doubts,
    holders_unknown, mounted_at_s, boot_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_LOAD: Final = """
SELECT name, backend, desired, record, last_error, counts, doubts, holders_unknown, mounted_at_s,
    boot_id = ? FROM volumes
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the store knew at start.

    Attributes:
        entries: The volumes.
        engine: The run of the engine that spoke last during this boot.
        set_aside: Where a damaged file was moved, or None.
    """

    entries: tuple[Entry, ...]
    engine: EngineIdentity | None
    set_aside: Path | None


class SqliteStore:
    """One connection, used by one thread, so that writes keep the order of the calls."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="volplug-store")
        self._connection: sqlite3.Connection | None = None
        self._is_closed = False

    async def load(self) -> Loaded:
        """Open the file, or make it, and read everything.

        Raises:
            StateUnusable: If the file is of a newer version; it is left untouched.
        """
        return await self._in_thread(self._load)

    async def save(self, entry: Entry, *, durable: bool) -> None:
        """Write an entry."""
        await self._in_thread(lambda: self._save(entry, durable))

    async def forget(self, name: str) -> None:
        """Remove an entry."""
        await self._in_thread(lambda: self._run("DELETE FROM volumes WHERE name = ?", (name,)))

    async def save_engine(self, engine: EngineIdentity) -> None:
        """Remember which run of the engine spoke to us last."""
        values = (engine.pid, engine.started, self._boot_id)
        await self._in_thread(lambda: self._run("INSERT OR REPLACE INTO engine VALUES (1, ?, ?, ?)", values))

    async def close(self) -> None:
        """Close the file; the store must not be used any more. Closing twice is fine."""
        if not self._is_closed:
            self._is_closed = True
            await self._in_thread(self._close)
            self._thread.shutdown()

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except sqlite3.Error as error:
            raise HostError(
                f"the state file {self._path} cannot be used: {error}",
                "Look at its disk: full, or read-only?",
            ) from error

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _run(self, statement: str, values: tuple[object, ...]) -> None:
        if self._connection is None:
            raise StateUnusable("the state file is not open")
        self._connection.execute(statement, values)

    def _save(self, entry: Entry, durable: bool) -> None:
        self._run(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}", ())
        self._run(
            _SAVE,
            (
                entry.name,
                entry.backend,
                entry.desired.value,
                volume_to_json(entry.record) if entry.record else None,
                entry.last_error,
                json.dumps(dict(entry.counts)),
                json.dumps(dict(entry.doubts)),
                entry.holders_unknown,
                entry.mounted_at_s,
                self._boot_id,
            ),
        )

    def _load(self) -> Loaded:
        set_aside = None
        try:
            connection = self._open()
        except sqlite3.OperationalError:
            raise  # the disk is at fault, not the file
        except sqlite3.DatabaseError:
            set_aside = self._set_aside()
            connection = self._open()
        self._connection = connection
        rows = connection.execute(_LOAD, (self._boot_id,)).fetchall()
        engine = connection.execute(
            "SELECT pid, started FROM engine WHERE boot_id = ?", (self._boot_id,)
        ).fetchone()
        return Loaded(
            tuple(_entry(row) for row in rows if is_name(row[0])),
            EngineIdentity(*engine) if engine else None,
            set_aside,
        )

    def _open(self) -> sqlite3.Connection:
        self._refuse_newer()
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            self._path.chmod(0o600)
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _refuse_newer(self) -> None:
        """Look at the version by a connection that changes nothing, not even at its end."""
        if not self._path.is_file():
            return
        has_log = self._path.with_name(f"{self._path.name}-wal").exists()
        how = "mode=ro" if has_log else "immutable=1"  # the former would begin a log
        with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?{how}", uri=True)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise StateUnusable(
                f"{self._path} is of version {version}, this volplug reads up to version {_VERSION}",
                "Install the newer volplug again",
            )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {_VERSION};COMMIT;")
        elif connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("damaged")

    def _set_aside(self) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        kept = self._path.with_name(f"{self._path.name}.damaged-{stamp}")
        self._path.rename(kept)
        for suffix in ("-wal", "-shm"):
            side = self._path.with_name(self._path.name + suffix)
            if side.exists():
                side.rename(kept.with_name(kept.name + suffix))
        return kept


def _entry(row: tuple[str, str, str, str | None, str, str, str, int, float, int]) -> Entry:
    name, backend, desired, record, last_error, counts, doubts, unknown, mounted_at_s, is_this_boot = row
    known = _record(record, name)
    entry = Entry(name, backend, desired=Desired(desired), record=known, last_error=last_error)
    if not is_this_boot:
        return entry
    return replace(
        entry,
        counts=json.loads(counts),
        doubts=json.loads(doubts),
        holders_unknown=bool(unknown),
        mounted_at_s=mounted_at_s,
    )


def _record(text: str | None, name: str) -> Volume | None:
    """Read a last-known record; one that is unreadable or another volume's is not known."""
    try:
        volume = volume_from_json(text) if text else None
    except UnexpectedState:
        return None
    return volume if volume is not None and volume.name == name else None
