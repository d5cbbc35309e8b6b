"""The record file of each image, which holds what tags hold on a cloud. Every function blocks.

`NAME.json` is replaced as a whole (write, fsync, rename, fsync of the directory), so a reader finds the old
or the new record, never a part of one. Temporary files begin with a dot, which no volume name does.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from volplug.descriptions import checked, unusable
from volplug.errors import BackendUnavailable, HostError, UnexpectedState
from volplug.host.files import replace_file, sync_directory
from volplug.models import Volume, VolumeSpec, VolumeState
from volplug.names import is_name
from volplug.volume_json import unchecked_volume, volume_to_json

_FORMAT: Final = 1
_SUFFIX: Final = ".json"
_UNKNOWN_ID: Final = "unknown"
_CLOCK_STEP_NS: Final = 1_000_000_000
# What a record may say of its volume's state: what this driver has begun. All else is read from the kernel.
_BEGUN: Final = {
    VolumeState.INCOMPLETE: VolumeState.INCOMPLETE,
    VolumeState.CREATING: VolumeState.INCOMPLETE,  # written by an earlier version
    VolumeState.DELETING: VolumeState.DELETING,
}


_Signature = tuple[int, int, int]


class _VolumeIds:
    """The volume_id of every record that was read, for use by several threads."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()

    def names(self, volume_id: str) -> frozenset[str]:
        """Return the names of the records that had this id when they were last read."""
        return self._names.get(volume_id, frozenset())

    def note(self, name: str, volume_id: str | None) -> None:
        """Note the id of a record, or that it has gone."""
        with self._lock:
            before = self._ids.pop(name, None)
            if before is not None:
                self._names[before] -= {name}
                if not self._names[before]:
                    del self._names[before]
            if volume_id is not None:
                self._ids[name] = volume_id
                self._names[volume_id] = self.names(volume_id) | {name}


class RecordFiles:
    """The records in one directory, cached until their files change.

    A record that is malformed, fails a check or has the volume_id of another one is a volume in state ERROR.

    Args:
        directory: Where they lie.
        check_options: The driver's check of its own options.
        take_changes: Returns the names of records that were changed since the last call, None for any.
    """

    def __init__(
        self,
        directory: Path,
        check_options: Callable[[VolumeSpec], None] = lambda _: None,
        take_changes: Callable[[], Collection[str] | None] = lambda: None,
    ) -> None:
        self._directory = directory
        self._check_options = check_options
        self._take_changes = take_changes
        self._cached: dict[str, tuple[_Signature, Volume]] = {}
        self._ids = _VolumeIds()
        self._reading = threading.Lock()
        self._unread: set[str] | None = None  # records that were changed and not read since; None for any
        self._seen: frozenset[str] = frozenset()  # files, when the directory was read last
        self._scanned: _Signature | None = None

    def read(self, name: str) -> Volume | None:
        """Return the record of a volume, or None if there is none.

        Raises:
            BackendUnavailable: If the disk does not answer.
        """
        record = self._read(name)
        if record is None or record.volume_id == _UNKNOWN_ID:
            return record
        self._read_new()
        others = self._ids.names(record.volume_id) - {name}
        return self._checked_id(record, [each for each in others if self._has_id(each, record.volume_id)])

    def read_all(self) -> Sequence[Volume]:
        """Return all records.

        Raises:
            BackendUnavailable: If the disk does not answer.
        """
        records = [record for name in _names_of(self._files()) if (record := self._read(name)) is not None]
        existing = {record.name for record in records}
        return [
            self._checked_id(each, self._ids.names(each.volume_id) & existing - {each.name})
            for each in records
        ]

    def exists(self, name: str) -> bool:
        """Tell whether a volume has a record."""
        return os.path.exists(self._path(name))

    def _checked_id(self, record: Volume, others: Collection[str]) -> Volume:
        """Return a record, in state ERROR if others have its id, which is the label of its device."""
        if not others or record.volume_id == _UNKNOWN_ID:
            return record
        records = " and ".join(str(self._path(name)) for name in sorted(others))
        detail = (
            f"the record {self._path(record.name)} has the same volume_id as {records}; write another one"
            " into that of the copy"
        )
        return replace(record, state=VolumeState.ERROR, detail=detail)

    def _has_id(self, name: str, volume_id: str) -> bool:
        record = self._read(name)
        return record is not None and record.volume_id == volume_id

    def _read_new(self) -> None:
        """Read the records that were changed since the last call; all of them at first.

        One thread does, and others wait for it. What could not be read is read by the next call.
        """
        with self._reading:
            changed = self._take_changes()
            if changed is None or self._unread is None:
                self._unread = None
                self._scan()
                self._unread = set()
            else:
                self._unread.update(filter(is_name, changed))
                for name in list(self._unread):
                    self._read(name)
                    self._unread.discard(name)

    def _scan(self) -> None:
        try:
            status = os.stat(self._directory)
        except OSError as error:
            raise BackendUnavailable(f"{self._directory} cannot be read: {error.strerror}") from error
        if _signature(status) == self._scanned:
            return
        files = frozenset(self._files())
        for name in _names_of(files - self._seen):
            self._read(name)
        self._seen = files
        if is_change_detectable(status):
            self._scanned = _signature(status)

    def _read(self, name: str) -> Volume | None:
        path = f"{self._directory}/{name}{_SUFFIX}"
        cached = self._cached.get(name)
        try:
            status = os.stat(path)
            if cached is not None and cached[0] == _signature(status):
                return cached[1]
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                text = file.read()
        except FileNotFoundError:
            self._forget(name)
            return None
        except OSError as error:
            raise BackendUnavailable(f"{path} cannot be read: {error.strerror}") from error
        volume = self._parsed(text, path, name)
        self._ids.note(name, volume.volume_id)
        if is_change_detectable(status):
            self._cached[name] = _signature(status), volume
        return volume

    def _files(self) -> Sequence[str]:
        try:
            return os.listdir(self._directory)
        except OSError as error:
            raise BackendUnavailable(f"{self._directory} cannot be read: {error.strerror}") from error

    def write(self, volume: Volume) -> None:
        """Replace a record, or write the first one, durably.

        Raises:
            HostError: If the disk refuses; the old record remains.
        """
        path = self._path(volume.name)
        self._cached.pop(volume.name, None)
        described = json.loads(volume_to_json(replace(volume, details=())))
        text = json.dumps({"format": _FORMAT, "volume": described}, indent=1)
        try:
            replace_file(path, text + "\n")
            sync_directory(self._directory)
        except OSError as error:
            raise HostError(
                f"the record {path} cannot be written: {error.strerror}",
                "Check its disk: full, or read-only?",
            ) from error

    def remove(self, name: str) -> None:
        """Remove a record durably; a missing one is no error."""
        self._forget(name)
        self._path(name).unlink(missing_ok=True)
        sync_directory(self._directory)

    def _forget(self, name: str) -> None:
        self._cached.pop(name, None)
        self._ids.note(name, None)

    def _parsed(self, text: bytes, path: str, name: str) -> Volume:
        unknown = Volume(name, _UNKNOWN_ID, "", 0, VolumeState.ERROR, VolumeSpec(name, 0))
        try:
            content = json.loads(text)
            if content["format"] != _FORMAT:
                return unusable(unknown, f"the record {path} has format {content['format']!r}, not {_FORMAT}")
            described = unchecked_volume(json.dumps(content["volume"]), f"the record {path}")
        except UnexpectedState as error:
            return unusable(unknown, error.cause)
        except (ValueError, KeyError, TypeError, RecursionError):
            return unusable(unknown, f"the record is damaged: {path}; restore it from a backup")
        state = _BEGUN.get(described.state, VolumeState.AVAILABLE)
        described = replace(described, state=state, holder=None, detail="", details=())
        volume = checked(described, lambda _: f"the record {path}", self._check_options)
        if volume.state is VolumeState.ERROR:
            return unusable(replace(volume, name=name), volume.detail)
        if volume.name == name:
            return volume
        # A copy, which has the original's id as well; it must be neither served nor deleted as the original.
        return unusable(
            replace(unknown, size_bytes=volume.size_bytes),
            f"the record {path} is one of volume {volume.name!r}; to make a copy a volume of its own, write"
            f" {name!r} as its name and spec.name, and another volume_id",
        )

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{_SUFFIX}"


def _names_of(files: Iterable[str]) -> Iterator[str]:
    """Return the names of the volumes whose records are among the files."""
    names = (file.removesuffix(_SUFFIX) for file in files if file.endswith(_SUFFIX))
    return (name for name in names if is_name(name))


def _signature(status: os.stat_result) -> _Signature:
    """Return a value that changes with every change of a file: st_ctime cannot be set."""
    return status.st_ino, status.st_size, status.st_ctime_ns


def is_change_detectable(status: os.stat_result) -> bool:
    """Tell whether a change from now on will change the file's time, which moves in steps of milliseconds."""
    return time.time_ns() - status.st_ctime_ns > _CLOCK_STEP_NS
