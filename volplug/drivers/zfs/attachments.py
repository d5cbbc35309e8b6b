"""Which volumes this host has attached: notes in files, and what mountinfo shows. Blocks.

A dataset is usable wherever its pool is imported, so attached means that this host has taken the volume and
not yet released it. A note outlives this process and the mount namespace of a managed plugin; it ends with
the boot of the host, as the mounts do, and so it need not be synced. Should the notes be lost, what is
mounted here still counts as attached.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from volplug.errors import HostError
from volplug.host import mountinfo

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_TYPES: Final = ("zfs", "fuse.zfs")


@dataclass(frozen=True, slots=True)
class Attached:
    """What is attached at one moment.

    Attributes:
        notes: The noted guids, with the name of the volume.
        mounted: The datasets that are mounted in this mount namespace.
    """

    notes: Mapping[str, str]
    mounted: frozenset[str]

    def has(self, guid: str, dataset: str) -> bool:
        """Tell whether a dataset is attached; one of its name with another guid is not it."""
        if guid in self.notes:
            return True
        return dataset in self.mounted and dataset.rpartition("/")[2] not in self.notes.values()


class Attachments:
    """The notes of one backend.

    Args:
        directory: Where they are, in a directory for each boot.
        boot_id: The current boot; by default that of this host.
    """

    def __init__(self, directory: Path, boot_id: str = "") -> None:
        self._directory = directory
        self._boot_id = boot_id

    @property
    def _notes(self) -> Path:
        self._boot_id = self._boot_id or _BOOT_ID.read_text(encoding="ascii").strip()
        return self._directory / self._boot_id

    def now(self) -> Attached:
        """Return what is attached."""
        try:
            names = os.listdir(self._notes)
        except FileNotFoundError:
            names = []
        except OSError as exc:
            raise HostError(f"{self._notes} cannot be read: {exc.strerror}") from exc
        entries = (entry for entry in mountinfo.parse(mountinfo.read()) if entry.fs_type in _TYPES)
        noted = (name.partition(".") for name in names)
        return Attached(
            MappingProxyType({guid: name for guid, _, name in noted}),
            frozenset(entry.source for entry in entries),
        )

    def note(self, guid: str, name: str) -> None:
        """Note that a volume is attached; twice is once.

        Raises:
            HostError: If it cannot be written.
        """
        try:
            if not self._notes.exists():
                self._notes.mkdir(mode=0o700, parents=True, exist_ok=True)
                for earlier in self._directory.iterdir():
                    if earlier != self._notes:
                        shutil.rmtree(earlier, ignore_errors=True)
            (self._notes / f"{guid}.{name}").touch(mode=0o600)
        except OSError as exc:
            raise HostError(f"{self._notes} cannot be written: {exc.strerror}") from exc

    def drop(self, guid: str) -> None:
        """Drop the note of a volume that is no longer attached.

        Raises:
            HostError: If it cannot be removed.
        """
        try:
            for path in self._notes.glob(f"{guid}.*"):
                path.unlink(missing_ok=True)
        except OSError as exc:
            raise HostError(f"{self._notes} cannot be written: {exc.strerror}") from exc
