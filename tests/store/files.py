"""State files that are changed while no volplug runs: by hand, by another version, by a failing disk."""

import os
import random
import sqlite3
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from volplug.store.sqlite import Loaded, SqliteStore

THIS_BOOT = "boot-1"

# Damage that concerns the whole file; see "The Database File Format" of SQLite.
DAMAGES: Mapping[str, Callable[[bytes], bytes]] = {
    "head": lambda content: bytes(100) + content[100:],
    # SQLite reads such a file, and takes it for read-only.
    "format version": lambda content: content[:18] + b"\x82" + content[19:],
    # Page 2, which is in use, is called free: the next write would take it.
    "free pages": lambda content: content[:32] + bytes.fromhex("00000002 00000001") + content[40:],
    "middle": lambda content: content[:4096] + os.urandom(len(content) - 4096),
    "text": lambda _: b"this is no database\n" * 300,
}


def update_volumes(file: Path, assignments: str, *values: object) -> None:
    """Change all rows of volumes, as if volplug had written them so."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(f"UPDATE volumes SET {assignments}", values)  # noqa: S608  # of tests
        for *row, _ in connection.execute("SELECT * FROM volumes").fetchall():
            checksum = zlib.crc32(ascii(tuple(row)).encode())
            connection.execute("UPDATE volumes SET checksum = ? WHERE name = ?", (checksum, row[0]))


def set_version(file: Path, version: int) -> None:
    """Make it a file of another version of volplug."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute(f"PRAGMA application_id = {0x766F6C00 + version}")


async def load_once(file: Path) -> Loaded:
    """Start and end with it."""
    store = SqliteStore(file, THIS_BOOT)
    loaded = await store.load()
    await store.close()
    return loaded


def bytes_of(directory: Path) -> dict[str, bytes]:
    """What is in a directory's files."""
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def damaged(content: bytes, dice: random.Random) -> bytes:
    """Flip bits, or overwrite words, most often where there is something."""
    spoiled = bytearray(content)
    used = [at for at, byte in enumerate(content) if byte]
    for _ in range(dice.randint(1, 4) if content else 0):
        at = dice.choice(used) if dice.random() < 0.8 else dice.randrange(len(content))
        if dice.random() < 0.5:
            spoiled[at] ^= 1 << dice.randrange(8)
        else:
            spoiled[at : at + 4] = dice.randbytes(4)
    return bytes(spoiled)
