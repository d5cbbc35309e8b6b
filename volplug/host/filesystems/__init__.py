"""The filesystem types that volplug makes and mounts; what is known of one type is in its module. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from volplug.host.filesystems.base import Filesystem
from volplug.host.filesystems.btrfs import BTRFS
from volplug.host.filesystems.ext4 import EXT4
from volplug.host.filesystems.xfs import XFS

# By name, in the order in which they are shown.
FILESYSTEMS: Final[Mapping[str, Filesystem]] = MappingProxyType(
    {filesystem.name: filesystem for filesystem in (BTRFS, EXT4, XFS)}
)
# Types whose filesystems have names instead of devices, and are never formatted, each with its remedy of
# errors about a damaged one.
NAMED: Final[Mapping[str, str]] = MappingProxyType({"zfs": "`zpool status -v` says what is damaged"})


def how_to_repair(fs_type: str) -> str:
    """Return the remedy of errors about a damaged filesystem; empty for an unknown type."""
    filesystem = FILESYSTEMS.get(fs_type)
    return filesystem.how_to_repair if filesystem is not None else NAMED.get(fs_type, "")
