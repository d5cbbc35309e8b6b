"""Notes of this host's creations: which volumes it made, from before they are requested.

A token is noted before the creation that carries it is requested. So a volume with a noted token is this
host's own: a retry, or the next process, continues with it, and may delete it if it is one too many.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog

from volplug.errors import HostError
from volplug.host.files import replace_file, sync_directory
from volplug.host.threads import Pool
from volplug.steps import OnStep, WorldStep

_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CreationNote:
    """The note of a name.

    Attributes:
        token: Of all creations of this name by this host, until its volume is attached or deleted.
        volume_id: The volume, once its creation has succeeded; "" before that.
    """

    token: str
    volume_id: str = ""


_Notes = Mapping[str, CreationNote]


class CreationNotes:
    """The notes, in one small file.

    Args:
        path: The file.
        on_step: Called after each change of the file.
    """

    def __init__(self, path: Path, on_step: OnStep) -> None:
        self._path = path
        self._on_step = on_step
        self._pool = Pool("cinder-notes", 1)  # one: a change reads the file, too
        self._notes: _Notes | None = None

    async def find(self, name: str) -> CreationNote | None:
        """Return the note of a name, or None."""
        return (await self._pool.blocking(self._read)).get(name)

    async def begin(self, name: str) -> str:
        """Return the token for a creation of a name; it survives a power cut from here on."""

        def begun(notes: _Notes) -> _Notes:
            token = notes[name].token if name in notes else secrets.token_hex(16)
            return {**notes, name: CreationNote(token)}

        return (await self._pool.to_the_end(self._change, begun))[name].token

    async def succeeded(self, name: str, volume_id: str) -> None:
        """Note that a creation has succeeded, so that the volume is not this creation's any more."""

        def noted(notes: _Notes) -> _Notes:
            return {**notes, name: replace(notes[name], volume_id=volume_id)} if name in notes else notes

        await self._pool.to_the_end(self._change, noted)

    async def drop(self, name: str, volume_id: str = "") -> None:
        """Remove the note of a name.

        Args:
            name: The name.
            volume_id: If not "", only if it is this volume's.
        """

        def without(notes: _Notes) -> _Notes:
            is_its = name in notes and volume_id in ("", notes[name].volume_id)
            return {each: note for each, note in notes.items() if each != name or not is_its}

        await self._pool.to_the_end(self._change, without)

    # In the thread

    def _read(self) -> _Notes:
        if self._notes is None:
            self._notes = _notes_in(self._path)
        return self._notes

    def _change(self, change: Callable[[_Notes], _Notes]) -> _Notes:
        notes = change(self._read())
        if notes == self._notes:
            return notes
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, json.dumps({name: asdict(note) for name, note in notes.items()}))
            sync_directory(self._path.parent)
        except OSError as error:
            cause = f"the creation cannot be noted in {self._path}: {error.strerror}"
            raise HostError(cause, "Check its disk: full, or read-only?") from error
        self._notes = notes
        self._on_step(WorldStep.CREATION_NOTED)
        return notes


def _notes_in(path: Path) -> _Notes:
    """Read the file; a damaged one costs the clean-up after interrupted creations, and nothing else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(name): CreationNote(str(note["token"]), str(note["volume_id"]))
            for name, note in found.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _LOG.warning("notes of creations cannot be read", path=str(path), error=str(error))
        return {}
