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
