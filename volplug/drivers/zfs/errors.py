"""What the complaints of zfs and zpool mean. Pure.

The texts are those of OpenZFS 2.1 and zfs-fuse 0.7.0; tests hold them verbatim.
"""

from __future__ import annotations

import re
from typing import Final

from volplug.errors import (
    BackendDenied,
    BackendError,
    BackendUnavailable,
    CommandFailed,
    InvalidOption,
    LimitExceeded,
    UnexpectedState,
    VolplugError,
    VolumeExists,
    VolumeInUse,
    VolumeNotFound,
)

# By text: the error, its cause and its remedy. The first that is found counts.
_MEANINGS: Final[tuple[tuple[str, type[VolplugError], str, str], ...]] = (
    (
        r"zfs-fuse daemon is running|Connection reset by peer|/dev/zfs"
        r"|ZFS modules (?:are not|cannot be) loaded",
        BackendUnavailable,
        "ZFS is not running on this host",
        "Load its module: modprobe zfs; or start the daemon of zfs-fuse",
    ),
    (
        r"pool I/O is currently suspended|pool is suspended",
        BackendUnavailable,
        "the pool is suspended: its disks do not answer",
        "zpool status names them; zpool clear POOL once they are back",
    ),
    (
        # The second one is zfs-fuse's, of a pool whose disks have lost their end.
        r"I/O error|Value too large for defined data type",
        BackendUnavailable,
        "the pool's disks are damaged or missing",
        "zpool status names them",
    ),
    (
        r"no such pool(?: '(?P<what>[^']+)')?",
        BackendUnavailable,
        "pool {what} is not imported",
        "zpool import",
    ),
    (
        r"pool is read-only",
        BackendUnavailable,
        "the pool is imported read-only",
        "Import it without readonly=on",
    ),
    (
        r"(?:dataset|filesystem|parent) does not exist|could not find any snapshots",
        VolumeNotFound,
        "{text}",
        "",
    ),
    (r"dataset already exists|destination '[^']+' exists", VolumeExists, "{text}", ""),
    (r"out of space|No space left", LimitExceeded, "the pool is full", "Free space in it, or add disks"),
    (
        r"size is greater than available space",
        LimitExceeded,
        "the pool has not that much free space to reserve",
        "Reserve less, free space in it, or add disks",
    ),
    (
        r"size is less than current used",
        InvalidOption,
        "the volume holds more than that",
        "",
    ),
    (
        r"(?:filesystem|snapshot|volume) has (?:children|dependent clones)",
        VolumeInUse,
        "there are snapshots, children or clones of it: {listed}",
        "volplug deletes none that it has not made: zfs destroy them, or promote a clone",
    ),
    (r"is busy", VolumeInUse, "{text}", "Stop what uses it"),
    (r"permission denied", BackendDenied, "ZFS does not permit it: {text}", "Run volplug as root"),
    (
        r"(?:bad property|invalid property|must be one of|must be power of|is readonly|invalid character)",
        InvalidOption,
        "ZFS does not take it: {text}",
        "",
    ),
    (
        r"contains partially-complete state",
        UnexpectedState,
        "an earlier stream to it was cut, and what arrived is kept",
        "Resume that one, or abandon it: zfs receive -A",
    ),
    (
        r"invalid (?:backup )?stream|incomplete stream|checksum mismatch|failed to read from stream",
        UnexpectedState,
        "the stream is incomplete or damaged",
        "Send it again",
    ),
    (
        r"has been modified|does not\s+match incremental source|incremental source .* does not exist",
        UnexpectedState,
        "source and copy have no common snapshot any more: {text}",
        "Send all of it",
    ),
)
_MOST_LISTED: Final = 3


def translated(failed: CommandFailed) -> VolplugError:
    """Return the error for a command that ZFS refused."""
    text = _first_line(failed.output)
    for pattern, kind, cause, remedy in _MEANINGS:
        found = re.search(pattern, failed.output)
        if found is not None:
            words = {"what": "", "text": text, "listed": _listed(failed.output)} | {
                name: value or "" for name, value in found.groupdict().items()
            }
            return kind(" ".join(cause.format(**words).split()), remedy)
    return BackendError(f"{failed.argv[0]} failed: {text or f'exit code {failed.exit_code}'}")


def _first_line(output: str) -> str:
    """Return what is said, without the usage that follows it."""
    lines = output.partition("usage:")[0].strip().splitlines()
    return " ".join(line.strip() for line in lines[:2])


def _listed(output: str) -> str:
    """Return what zfs lists as in the way of a deletion."""
    names = [line.strip() for line in output.splitlines() if "/" in line and "'" not in line]
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more
