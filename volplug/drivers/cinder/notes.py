"""Notes of this host's creations: which volumes it made, from before they are requested.

A token is noted before the creation that carries it is requested. So a volume with a noted token is this
host's own: a retry, or the next process, continues with it, and may delete it if it is one too many. A lost
file costs the clean-up after interrupted creations, and nothing else.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from volplug.drivers.cloud.notes import NoteFile
from volplug.host.threads import Pool
from volplug.steps import OnStep, WorldStep


@dataclass(frozen=True, slots=True)
class CreationNote:
    """The note of a name.

    Attributes:
        token: Of all creations of this name by this host, until its volume is attached or deleted.
        volume_id: The volume, once its creation has succeeded; "" before that.
    """

    token: str
    volume_id: str = ""


class CreationNotes:
    """The notes; those of one name are changed by one call at a time.

    Args:
        path: Their file.
        on_step: Called after each change of the file.
    """

    def __init__(self, path: Path, on_step: OnStep) -> None:
        self._file = NoteFile(path, CreationNote, is_durable=True)
        self._on_step = on_step
        self._pool = Pool("cinder-notes", 1)

    async def find(self, name: str) -> CreationNote | None:
        """Return the note of a name, or None."""
        return (await self._pool.blocking(self._file.all)).get(name)

    async def begin(self, name: str) -> str:
        """Return the token for a creation of a name; it survives a power cut from here on."""
        note = await self.find(name)
        token = note.token if note else secrets.token_hex(16)
        await self._pool.to_the_end(self._set, name, CreationNote(token))
        return token

    async def succeeded(self, name: str, volume_id: str) -> None:
        """Note that a creation has succeeded, so that the volume is not this creation's any more."""
        note = await self.find(name)
        if note is not None:
            await self._pool.to_the_end(self._set, name, replace(note, volume_id=volume_id))

    async def drop(self, name: str, volume_id: str = "") -> None:
        """Remove the note of a name; with an id, only if it is that volume's."""
        note = await self.find(name)
        if note is not None and volume_id in ("", note.volume_id):
            await self._pool.to_the_end(self._set, name, None)

    def _set(self, name: str, note: CreationNote | None) -> None:
        mine = {} if note is None else {name: note}
        if self._file.change(lambda notes: {each: notes[each] for each in notes if each != name} | mine):
            self._on_step(WorldStep.CREATION_NOTED)
