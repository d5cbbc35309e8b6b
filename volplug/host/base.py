"""The contract of a host with the core. `machine.py` implements it, `volplug.testing.host` in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from volplug.models import Contents, FilesystemTag, MountSource, MountState, Usage, VolumeSpec


@dataclass(frozen=True, slots=True)
class MountRequest:
    """One filesystem to mount.

    Attributes:
        source: The device, or the filesystem by name.
        target: Absolute path of the bare directory; it exists only between mount and unmount.
        fs_type: A name in `volplug.host.filesystems.FILESYSTEMS`, or `NAMED`.
        options: Options of the volume's spec, as given to mount(8) after -o.
        data_directory: The directory in its root whose presence is reported; empty for none.
    """

    source: MountSource
    target: str
    fs_type: str
    options: tuple[str, ...] = ()
    data_directory: str = ""


@dataclass(frozen=True, slots=True)
class HostReading:
    """What this host shows of a volume, read in one call.

    Attributes:
        source: The volume's mount source, or None if it is not here.
        mount: What is mounted at the volume's place.
        contents: What the source holds; None if it was not read, or takes more than its superblock to judge.
        is_free: Whether the release test has passed; False also if it was not made.
        lacks_data_directory: Whether the mounted filesystem lacks the data directory, if that was asked for.
    """

    source: MountSource | None
    mount: MountState
    contents: Contents | None = None
    is_free: bool = False
    lacks_data_directory: bool = False


Locate = Callable[[], MountSource | None]  # `Driver.locate` of one volume: blocks


class Host(Protocol):
    """One machine, for the volumes of one backend: its hung devices do not block those of other backends.

    Every call may block on a dead device, so every call is awaited and none is shared. Every call raises
    BackendUnavailable, and does nothing, while too many others hang.
    """

    async def filesystems(self) -> Sequence[str]:
        """Return the filesystem types whose mkfs program is installed now, sorted."""
        ...

    async def inspect(
        self, target: str, locate: Locate, *, tag: FilesystemTag | None = None, test_release: bool = False
    ) -> HostReading:
        """Read device and mount, and if nothing is mounted what the next step needs of the device.

        Args:
            target: The volume's place.
            locate: Returns its device.
            tag: Judge the device by its superblock and this tag; None not to read it.
            test_release: Make the release test, once.

        Raises:
            DeviceMismatch: If `locate` raises it.
            HostError: If the device cannot be read.
        """
        ...

    async def mount_state(self, target: str, source: MountSource | None) -> MountState:
        """Return what is mounted at `target`: STALE if it is not `source`, READ_ONLY after an error."""
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
        """Return whether the source is in use, retrying for at most `patience_s` until it is free.

        A device is opened exclusively. EBUSY means that a filesystem, a container or a process uses it, in
        any mount namespace. A filesystem without a device is mounted read-only and read-write, attached to
        no directory: the kernel refuses one of both as long as it is mounted in any mount namespace. This is
        the only test of release: a successful umount proves nothing.

        Raises:
            HostError: If it cannot be told, which permits nothing.
        """
        ...

    async def describe_holders(self, source: MountSource | None, target: str) -> str:
        """Name the users of the device or the mount that this process can see."""
        ...

    async def make_filesystem(self, source: MountSource, spec: VolumeSpec, tag: FilesystemTag) -> None:
        """Run mkfs without force flags, on a blank device or again where it was interrupted.

        Raises:
            VolumeInUse: If the device is in use.
            CommandFailed: If mkfs fails.
        """
        ...

    async def check_filesystem(self, source: MountSource, fs_type: str) -> None:
        """Repair what can be repaired without questions, before a read-write mount.

        Raises:
            FilesystemMismatch: If errors remain. The check itself is never killed.
        """
        ...

    async def mount(self, request: MountRequest, locate: Locate) -> HostReading:
        """Create the bare target directory (mode 0000), mount on it, then read device and mount anew.

        Raises:
            MountFailed: With the kernel's reason.
            VolumeInUse: If a filesystem without a device cannot be mounted beside another mount of it.
            DeviceMismatch: If `locate` raises it; it stays mounted.
        """
        ...

    async def unmount(self, target: str, source: MountSource | None = None) -> bool:
        """Unmount every layer at `target` and remove the bare directory; nothing mounted is success.

        Returns:
            Whether the release test of `source` has passed after it; False also if it was not made.

        Raises:
            VolumeInUse: If the mount is in use.
            MountFailed: If the kernel refuses for another reason.
        """
        ...

    async def make_data_directory(self, target: str, subpath: str, spec: VolumeSpec) -> None:
        """Make the directory that containers see, with the owner and mode of the spec, and sync it."""
        ...

    async def usage(self, target: str, last: Usage | None) -> Usage:
        """Return the space of the filesystem mounted at `target`; may hang on a dead device.

        Args:
            target: Where it is mounted.
            last: The usage that was read before, if any; it can save a reading of the device.
        """
        ...
