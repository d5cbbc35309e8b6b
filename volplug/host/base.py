"""What the core needs of a machine. `machine.py` is the real one, `volplug.testing.host` one in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from volplug.models import Contents, FilesystemTag, MountSource, MountState, Usage, VolumeSpec


@dataclass(frozen=True, slots=True)
class MountRequest:
    """One filesystem to mount.

    Attributes:
        source: The device.
        target: Absolute path of the bare directory; it exists only between mount and unmount.
        fs_type: ext4, xfs or btrfs.
        options: Options of the volume's spec, as given to mount(8) after -o.
    """

    source: MountSource
    target: str
    fs_type: str
    options: tuple[str, ...] = ()


class Host(Protocol):
    """One machine, as seen by the volumes of one backend: devices that hang leave those of others alone.

    Every call may block on a dead device, so every call is awaited and none is shared. Every call raises
    BackendUnavailable, and does nothing, while too many others hang.
    """

    async def filesystems(self) -> Sequence[str]:
        """Return the filesystem types whose mkfs program is installed now, sorted."""
        ...

    async def mount_state(self, target: str, source: MountSource | None) -> MountState:
        """Tell what is mounted at `target`; STALE if it is not `source`, READ_ONLY after an error."""
        ...

    async def mounts_below(self, root: str) -> Sequence[str]:
        """Return the paths directly below `root` that have something mounted on them."""
        ...

    async def read_contents(self, source: MountSource, tag: FilesystemTag) -> Contents:
        """Read the device and judge it against the tag. Never writes.

        Raises:
            HostError: If any part that has to be read cannot be read.
        """
        ...

    async def is_held(self, source: MountSource, patience_s: float) -> bool:
        """Try to open the device exclusively until it works or the patience ends.

        EBUSY means that a filesystem, a container or a process still uses the device, in whatever
        mount namespace. It is the one test of release: umount's own result proves nothing.
        """
        ...

    async def describe_holders(self, source: MountSource | None, target: str) -> str:
        """Name who uses the device or the mount, as well as this process can see."""
        ...

    async def make_filesystem(self, source: MountSource, spec: VolumeSpec, tag: FilesystemTag) -> None:
        """Run mkfs without force flags, on a blank device or again where it was interrupted.

        Raises:
            VolumeInUse: If somebody holds the device.
            CommandFailed: If mkfs fails.
        """
        ...

    async def check_filesystem(self, source: MountSource, fs_type: str) -> None:
        """Repair what can be repaired without questions, before a read-write mount.

        Raises:
            FilesystemMismatch: If errors remain. The check itself is never killed.
        """
        ...

    async def mount(self, request: MountRequest) -> None:
        """Create the bare target directory (mode 0000) and mount on it.

        Raises:
            MountFailed: With the kernel's reason.
        """
        ...

    async def unmount(self, target: str) -> None:
        """Unmount every layer at `target` and remove the bare directory; nothing mounted is success.

        Raises:
            VolumeInUse: If the kernel says busy.
            MountFailed: With the kernel's other reasons.
        """
        ...

    async def make_data_directory(self, target: str, subpath: str, spec: VolumeSpec) -> None:
        """Make the directory that containers see, with the owner and mode of the spec, and sync it."""
        ...

    async def has_data_directory(self, target: str, subpath: str) -> bool:
        """Tell whether the directory that containers see exists in the mounted filesystem."""
        ...

    async def usage(self, target: str) -> Usage:
        """Return the space of the filesystem mounted at `target`; may hang on a dead device."""
        ...
