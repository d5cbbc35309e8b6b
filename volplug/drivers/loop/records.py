"""The record file of each image, which holds what tags hold on a cloud. Every function blocks.

`NAME.json` is replaced as a whole (write, fsync, rename, fsync of the directory), so a reader finds the old
or the new record, never a part of one. Temporary files begin with a dot, which no volume name does.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from volplug.descriptions import unusable
from volplug.errors import BackendUnavailable, HostError, UnexpectedState
from volplug.host.files import replace_file, sync_directory
from volplug.models import Volume, VolumeSpec, VolumeState
from volplug.names import is_name
from volplug.volume_json import volume_from_json, volume_to_json

_FORMAT: Final = 1
_SUFFIX: Final = ".json"
_UNKNOWN_ID: Final = "unknown"
_CLOCK_STEP_NS: Final = 1_000_000_000


_Signature = tuple[int, int, int]


class RecordFiles:
    """The records in one directory, cached until their files change."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cached: dict[str, tuple[_Signature, Volume]] = {}

    def read(self, name: str) -> Volume | None:
        """Return the record of a volume, or None if there is none.

        A record that is malformed or fails a check is a volume in state ERROR.

        Raises:
            BackendUnavailable: If the disk does not answer.
        """
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
            self._cached.pop(name, None)
            return None
        except OSError as error:
            raise BackendUnavailable(f"{path} cannot be read: {error.strerror}") from error
        volume = _parsed(text, path, name)
        if is_change_detectable(status):
            self._cached[name] = _signature(status), volume
        return volume

    def names(self) -> Iterator[str]:
        """Return the names of all volumes that have a record."""
        for entry in os.scandir(self._directory):
            name = entry.name.removesuffix(_SUFFIX)
            if name != entry.name and is_name(name):
                yield name

    def write(self, volume: Volume) -> None:
        """Replace a record, or write the first one, durably.

        Raises:
            HostError: If the disk refuses; the old record remains.
        """
        path = self._path(volume.name)
        self._cached.pop(volume.name, None)
        text = json.dumps({"format": _FORMAT, "volume": json.loads(volume_to_json(volume))}, indent=1)
        try:
            replace_file(path, text + "\n")
            sync_directory(self._directory)
        except OSError as error:
            raise HostError(
                f"the record {path} cannot be written: {error.strerror}",
                "Look at its disk: full, or read-only?",
            ) from error

    def remove(self, name: str) -> None:
        """Remove a record durably; a missing one is no error."""
        self._cached.pop(name, None)
        self._path(name).unlink(missing_ok=True)
        sync_directory(self._directory)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{_SUFFIX}"


def _parsed(text: bytes, path: str, name: str) -> Volume:
    unknown = Volume(name, _UNKNOWN_ID, "", 0, VolumeState.ERROR, VolumeSpec(name, 0))
    try:
        content = json.loads(text)
        if content["format"] != _FORMAT:
            return unusable(unknown, f"its record {path} has format {content['format']!r}, not {_FORMAT}")
        volume = volume_from_json(json.dumps(content["volume"]), f"its record {path}")
    except UnexpectedState as error:
        return unusable(unknown, error.cause)
    except (ValueError, KeyError, TypeError, RecursionError):
        return unusable(unknown, f"{path} is not a record; restore it from a backup")
    if volume.state is VolumeState.ERROR:
        return unusable(replace(volume, name=name), volume.detail)
    if volume.state is VolumeState.CREATING:  # written by an earlier version
        volume = replace(volume, state=VolumeState.INCOMPLETE)
    if volume.name == name:
        return volume
    # A copy, which has the original's id as well; it must be neither served nor deleted as the original.
    return unusable(
        replace(unknown, size_bytes=volume.size_bytes),
        f"its record {path} is one of volume {volume.name!r}; to make a copy a volume of its own, write"
        f" {name!r} as its name and spec.name, and another volume_id",
    )


def _signature(status: os.stat_result) -> _Signature:
    """Return a value that changes with every change of a file: st_ctime cannot be set."""
    return status.st_ino, status.st_size, status.st_ctime_ns


def is_change_detectable(status: os.stat_result) -> bool:
    """Tell whether a change from now on will change the file's time, which moves in steps of milliseconds."""
    return time.time_ns() - status.st_ctime_ns > _CLOCK_STEP_NS
