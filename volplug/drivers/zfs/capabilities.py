"""What the ZFS of this host can do: OpenZFS in the kernel, or zfs-fuse."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from volplug.drivers.zfs.tools import ZfsTools
from volplug.errors import BackendUnavailable, VolplugError

_KERNEL_VERSION: Final = re.compile(r"^zfs-kmod-(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What differs between the two.

    Attributes:
        version: Of the kernel's OpenZFS; empty for zfs-fuse.
        mounts_by_kernel: mount(2) takes the type zfs. Otherwise a daemon mounts, at the dataset's mountpoint.
        sets_several: `zfs set` takes several properties at once.
        resumes: `receive -s` keeps what arrived of a stream that was cut.
        encrypts: Datasets can be encrypted.
        property_length: The longest value of a user's property.
    """

    version: str
    mounts_by_kernel: bool
    sets_several: bool
    resumes: bool
    encrypts: bool
    property_length: int

    @property
    def runs_programs(self) -> bool:
        """Tell whether `zfs program` runs a program in one transaction."""
        return self.mounts_by_kernel


ZFS_FUSE: Final = Capabilities("", False, False, False, False, 1023)


async def probe(tools: ZfsTools) -> Capabilities:
    """Ask for the version, which zfs-fuse does not have; OpenZFS has all the rest since 0.8.

    Raises:
        VolplugError: If ZFS does not run.
    """
    try:
        output = await tools.read("zfs", "version")
    except BackendUnavailable:
        raise  # such as one that hangs: it may be OpenZFS
    except VolplugError:
        await tools.read("zpool", "list", "-H", "-o", "name")  # or it is not running at all
        return ZFS_FUSE
    found = _KERNEL_VERSION.search(output)
    return Capabilities(found[1] if found else "unknown", True, True, True, True, 8191)
