"""Replaces small files as a whole. Every function blocks, and may raise OSError."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, text: str, *, is_durable: bool = True) -> None:
    """Write a file atomically, readable by this user only: a reader finds the old or the new text.

    Anything at the temporary path, a link included, is removed and never followed.

    Args:
        path: The file; the new text is first written to `.NAME.new` in the same directory.
        text: The whole new text.
        is_durable: Whether the text is synced before the rename; the rename is synced by `sync_directory`.
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
    """Sync a directory, so that renames in it survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
