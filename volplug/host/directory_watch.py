"""Reports which files of a directory were changed, by inotify(7): without access to the directory's disk."""

from __future__ import annotations

import contextlib
import os
import select
import struct
import weakref
from dataclasses import dataclass
from typing import Final

from volplug.host import libc

# linux/magic.h. On these, changes are made through this kernel, which reports them, but for what goes past
# the filesystem: a rollback of ZFS, the upper directory of an overlay. A network filesystem does not report
# what other hosts change.
_LOCAL: Final = frozenset(
    {
        0xEF53,  # ext4
        0x58465342,  # xfs
        0x9123683E,  # btrfs
        0x01021994,  # tmpfs
        0x794C7630,  # overlayfs
        0x2FC12FC1,  # ZFS
        0xF2F52010,  # f2fs
    }
)
# linux/inotify.h
_ATTRIB: Final = 0x4
_OPEN: Final = 0x20
_CLOSE: Final = 0x8 | 0x10
_CHANGED: Final = 0x2 | _ATTRIB | 0x40 | 0x80 | 0x100 | 0x200  # modified, moved, created, deleted
_SELF: Final = 0x400 | 0x800  # the directory was deleted or moved
_SELF_GONE: Final = _SELF | 0x2000 | 0x8000  # or unmounted; ignored from now on
_OVERFLOW: Final = 0x4000
_EVENT: Final = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_READ_BYTES: Final = 1 << 15
_MAX_EVENT_BYTES: Final = _EVENT.size + 256  # NAME_MAX and its zero


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened to a directory since the last call.

    Attributes:
        changed: Names of files that were created, removed, replaced or changed.
        opened: Names of files that were opened or closed, by a loop device that got or lost its image, say.
        is_lost: Whether more happened: events were lost, the directory itself was changed or has gone.
        may_be_elsewhere: Whether anything was mounted or unmounted, so that the path may lead elsewhere.
    """

    changed: frozenset[str] = frozenset()
    opened: frozenset[str] = frozenset()
    is_lost: bool = False
    may_be_elsewhere: bool = False


class DirectoryWatch:
    """The events of one directory; they end with the object, or by `close`. Only making it blocks.

    Raises:
        OSError: On making it, if the directory cannot be watched, or is not on a local filesystem.
    """

    def __init__(self, path: str) -> None:
        if libc.filesystem_magic(path) not in _LOCAL:
            raise OSError(f"{path} is on no local filesystem")
        self._events = libc.inotify_watch(path, _CHANGED | _OPEN | _CLOSE | _SELF)
        # A user has 128 of them by default (fs.inotify.max_user_instances), programs of the host included.
        self._close_events = weakref.finalize(self, os.close, self._events)
        self._mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._close_mounts = weakref.finalize(self, os.close, self._mounts)
        self._mount_poll = select.poll()
        self._mount_poll.register(self._mounts, select.POLLPRI)
        self._mount_poll.poll(0)  # the first poll tells nothing of what comes after it

    def changes(self) -> Changes:
        """Return what happened since the last call."""
        changed, opened, is_lost = set(), set(), False
        for mask, name in self._read():
            if mask & (_OVERFLOW | _SELF_GONE) or not name:
                # Opening the directory, as its every listing does, is no change of it.
                is_lost = is_lost or bool(mask & (_OVERFLOW | _SELF_GONE | _CHANGED))
            elif mask & _CHANGED:
                changed.add(name)
            else:
                opened.add(name)
        elsewhere = bool(self._mount_poll.poll(0))
        return Changes(frozenset(changed), frozenset(opened), is_lost, elsewhere)

    def _read(self) -> list[tuple[int, str]]:
        """Return the events of one buffer; a full one counts as an overflow, more would take too long."""
        data, offset = b"", 0
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._events, _READ_BYTES)
        events: list[tuple[int, str]] = []
        while offset < len(data):
            _, mask, _, length = _EVENT.unpack_from(data, offset)
            offset += _EVENT.size
            events.append((mask, os.fsdecode(data[offset : offset + length].rstrip(b"\0"))))
            offset += length
        if len(data) > _READ_BYTES - _MAX_EVENT_BYTES:
            events.append((_OVERFLOW, ""))
        return events

    def close(self) -> None:
        """End the watch."""
        self._close_events()
        self._close_mounts()
