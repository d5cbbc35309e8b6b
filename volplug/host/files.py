"""Small files that are replaced as a whole. Every function blocks; OSError comes through."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, text: str, *, is_durable: bool = True) -> None:
    """Replace a file, readable for us alone, or write the first one: a reader finds the old or the new text.

    What lies where the new text is written first, a link included, is removed and never followed.

    Args:
        path: The file; the new text is written to `.NAME.new` beside it.
        text: All of it.
        is_durable: Whether it is on the disk before it takes the place; its name is for `sync_directory`.
    """
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if is_durable:
                os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
