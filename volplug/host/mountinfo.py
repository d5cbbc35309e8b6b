"""Parses /proc/PID/mountinfo; only `read` blocks. Format: proc_pid_mountinfo(5)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_SHARED: Final = "shared:"
_MASTER: Final = "master:"
_TO_ESCAPE: Final = re.compile(r"[ \t\n\\]")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of mountinfo.

    Attributes:
        device: Device number of the filesystem; for some types an anonymous one, not the block device's.
        root: The directory of the filesystem that is mounted.
        mountpoint: Where it is mounted, as a path from the process's root.
        fs_type: Such as ext4.
        source: Device path as it was given to mount.
        options: Options of the filesystem (not those of this mount), such as `rw` and `errors=remount-ro`.
        peer_group: Number of the group of mounts between which mounts propagate; 0 for a private mount.
        master_group: Number of the group from which mounts propagate to this one; 0 for none.
    """

    device: int
    root: str
    mountpoint: str
    fs_type: str
    source: str
    options: frozenset[str]
    peer_group: int = 0
    master_group: int = 0


def read(pid: int | str = "self") -> str:
    """Read the mountinfo of a process; may raise OSError."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def parse(text: str) -> list[MountEntry]:
    """Return all entries, in the kernel's order: a later one hides an earlier one at the same mountpoint."""
    return [_parse_line(line) for line in _lines(text)]


def entries_at(text: str, mountpoint: str) -> list[MountEntry]:
    """Return the entries of one mountpoint; other lines, maybe thousands, are not parsed."""
    wanted = f" {_escaped(mountpoint)} "
    return [
        entry
        for line in _lines(text)
        if wanted in line
        if (entry := _parse_line(line)).mountpoint == mountpoint
    ]


def directly_below(text: str, root: str) -> list[str]:
    """Return the distinct mountpoints whose parent directory is `root`, sorted."""
    wanted = f" {_escaped(root).rstrip('/')}/"
    found: Iterable[str] = (_parse_line(line).mountpoint for line in _lines(text) if wanted in line)
    parent = root.rstrip("/") or "/"
    return sorted({mountpoint for mountpoint in found if os.path.dirname(mountpoint) == parent})


def entry_of(text: str, path: str) -> MountEntry | None:
    """Return the mount that a path lies on, which has to be without links."""
    above = [entry for entry in parse(text) if f"{path}/".startswith(f"{entry.mountpoint.rstrip('/')}/")]
    return max(reversed(above), key=lambda entry: len(entry.mountpoint), default=None)


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]  # not splitlines: a path may hold other line ends


def _parse_line(line: str) -> MountEntry:
    # 36 35 98:0 /root /mountpoint rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue
    fixed, _, variable = line.partition(" - ")
    _, _, numbers, root, mountpoint, _, *optional = fixed.split(" ")
    fs_type, source, options = [*variable.split(" "), "", ""][:3]
    major, _, minor = numbers.partition(":")
    return MountEntry(
        device=os.makedev(int(major), int(minor)),
        root=_unescaped(root),
        mountpoint=_unescaped(mountpoint),
        fs_type=fs_type,
        source=_unescaped(source),
        options=frozenset(options.split(",")),
        peer_group=_group(_SHARED, optional),
        master_group=_group(_MASTER, optional),
    )


def _group(kind: str, optional: list[str]) -> int:
    return next((int(each.removeprefix(kind)) for each in optional if each.startswith(kind)), 0)


def _unescaped(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)


def _escaped(path: str) -> str:
    return _TO_ESCAPE.sub(lambda match: f"\\{ord(match[0]):03o}", path)
