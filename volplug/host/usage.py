"""The usage of a mounted filesystem: its space, its inodes, and the device below it. Blocks."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import Final

from volplug.errors import HostError
from volplug.host import mounts
from volplug.host.contents import read_superblock
from volplug.host.devices import device_number
from volplug.host.filesystems import NAMED
from volplug.host.filesystems.base import is_outgrown
from volplug.models import Usage

_SECTOR_BYTES: Final = 512  # the unit of /sys/dev/block/*/size, whatever the device's own


def read_usage(target: str, last: Usage | None) -> Usage:
    """Return the usage of the filesystem mounted at `target`.

    The superblock is read only if it may differ from the last time, or the filesystem may have been grown, so
    that usually nothing here waits for the device.

    Args:
        target: Where it is mounted.
        last: What was read before, if anything.

    Raises:
        HostError: With the kernel's reason, if it cannot be read.
    """
    try:
        entry = mounts.top_entry(target)
        if entry is None:
            raise HostError(f"nothing is mounted at {target}")
        space = os.statvfs(target)
        device_bytes = 0 if entry.fs_type.removeprefix("fuse.") in NAMED else _device_bytes(entry.source)
    except OSError as exc:
        raise HostError(f"the space at {target} cannot be read: {exc.strerror}") from exc
    usage = Usage(
        used_bytes=(space.f_blocks - space.f_bfree) * space.f_frsize,
        free_bytes=space.f_bavail * space.f_frsize,
        total_bytes=space.f_blocks * space.f_frsize,
        used_inodes=space.f_files - space.f_ffree,
        inodes=space.f_files,
        device=entry.source,
        device_bytes=device_bytes,
    )
    return replace(usage, filesystem_bytes=_filesystem_bytes(usage, entry.fs_type, last))


def _filesystem_bytes(usage: Usage, fs_type: str, last: Usage | None) -> int | None:
    if not usage.device_bytes:
        return None
    known = last.filesystem_bytes if last is not None and _place(last) == _place(usage) else None
    if known is not None and not is_outgrown(known, usage.device_bytes):
        return known
    with suppress(HostError):  # the rest is known
        superblock = read_superblock(usage.device, fs_type)
        return superblock.size_bytes if superblock else None
    return None


def _place(usage: Usage) -> tuple[str, int, int]:
    """Return what changes if the filesystem, or its size, is another one."""
    return usage.device, usage.device_bytes, usage.total_bytes


def _device_bytes(device: str) -> int:
    """Return the size of a device without opening it."""
    number = device_number(device)
    if number is None:
        raise HostError(f"the device {device} is not there")
    with open(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/size", encoding="ascii") as file:
        return int(file.read()) * _SECTOR_BYTES
