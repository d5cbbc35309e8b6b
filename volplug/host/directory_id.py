"""Detects a wrong directory by an id that is stored in the directory, and as a copy in another place.

An empty directory in place of the expected one (its disk not mounted, a setting changed) would otherwise be
taken for one from which every volume has been deleted.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from volplug.errors import StateUnusable
from volplug.host.files import replace_file


def check_directory_id(id_file: Path, copy: Path | None, what: str = "directory") -> None:
    """Check that the id in the directory and its copy are the same; before the first use both are missing.

    Raises:
        StateUnusable: If the copy names another directory, or one of them cannot be read.
    """
    own, copied = _read(id_file), _read(copy) if copy is not None else ""
    if copied and copied != own:
        found = f"has id {own[:8]}" if own else "has no id"
        raise StateUnusable(
            f"{what} {id_file.parent} is not the one used before: it {found}, that one had {copied[:8]}",
            f"Is its disk not mounted, or a setting reverted? To use it all the same, remove {copy}",
        )


def mark_directory(id_file: Path, copy: Path | None, what: str = "directory") -> None:
    """Check the id and write what is missing of it, before the directory is first used.

    The directory's own id is written before the copy, so that a crash between the two leaves what this check
    accepts.

    Raises:
        StateUnusable: As `check_directory_id`, or if an id cannot be written.
    """
    check_directory_id(id_file, copy, what)
    if not (own := _read(id_file)):
        own = uuid.uuid4().hex
        _write(id_file, own)
    if copy is not None and not _read(copy):
        _write(copy, own)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise StateUnusable(f"{path} cannot be read: {error}") from error


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, f"{text}\n")
    except OSError as error:
        raise StateUnusable(f"{path} cannot be written: {error.strerror}") from error
