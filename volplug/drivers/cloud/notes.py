"""Notes that this host keeps about volumes, in one small file of JSON."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog

from volplug.errors import HostError
from volplug.host.files import replace_file, sync_directory

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_LOG = structlog.get_logger(__name__)

_NoteT = TypeVar("_NoteT", bound="DataclassInstance")


class NoteFile(Generic[_NoteT]):
    """Notes by name or id. Everything blocks.

    Args:
        path: The file; one that is lost or damaged is as an empty one.
        kind: What a note is made of.
        is_durable: Whether a note survives a power cut once it is made.
    """

    def __init__(self, path: Path, kind: Callable[..., _NoteT], *, is_durable: bool) -> None:
        self._path = path
        self._kind = kind
        self._is_durable = is_durable
        self._changing = threading.RLock()
        self._notes: Mapping[str, _NoteT] | None = None

    def all(self) -> Mapping[str, _NoteT]:
        """Return all notes."""
        with self._changing:
            if self._notes is None:
                self._notes = self._read()
            return self._notes

    def change(self, change: Callable[[Mapping[str, _NoteT]], Mapping[str, _NoteT]]) -> bool:
        """Replace the notes, and return whether that changes any.

        Raises:
            HostError: If they cannot be written; they stay as they were.
        """
        with self._changing:
            before = self.all()
            notes = change(before)
            if notes == before:
                return False
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                text = json.dumps({each: asdict(note) for each, note in notes.items()})
                replace_file(self._path, text, is_durable=self._is_durable)
                if self._is_durable:
                    sync_directory(self._path.parent)
            except OSError as error:
                cause = f"{self._path} cannot be written: {error.strerror}"
                raise HostError(cause, "Check its disk: full, or read-only?") from error
            self._notes = notes
            return True

    def _read(self) -> Mapping[str, _NoteT]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return {each: self._kind(**note) for each, note in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            _LOG.warning("notes cannot be read", path=str(self._path), error=str(error))
            return {}
