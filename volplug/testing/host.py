"""A host in memory that models held mounts: `unmount` succeeds while containers still hold the filesystem.

As on Linux, only opening the device exclusively shows whether it is in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from volplug.errors import MountFailed, UnexpectedState, VolumeInUse
from volplug.host.base import HostReading, Locate, MountRequest
from volplug.host.filesystems import FILESYSTEMS
from volplug.models import (
    ContentKind,
    Contents,
    FilesystemPhase,
    FilesystemTag,
    MountSource,
    MountState,
    NamedFilesystem,
    Usage,
    VolumeSpec,
)


@dataclass
class Disk:
    """The contents of a device, on whichever host it is attached.

    Attributes:
        fs_type: Filesystem, empty if none.
        uuid: Its UUID.
        is_dirty: Whether it was not cleanly unmounted.
        is_partial: Whether it has the mark of an interrupted mkfs.
        directories: Directories in its root.
        foreign: Description of other data on it, empty if none.
        is_noise: Whether it reads as data without any signature until it is formatted.
        formats: How often mkfs ran.
        filesystem_bytes: Size of the filesystem by its superblock; None where it was not read.
    """

    fs_type: str = ""
    uuid: str = ""
    is_dirty: bool = False
    is_partial: bool = False
    directories: set[str] = field(default_factory=set)
    foreign: str = ""
    is_noise: bool = False
    formats: int = 0
    filesystem_bytes: int | None = None


class MemoryHost:
    """One host. Give several the same `disks` to let volumes move between them.

    Attributes:
        disks: Device, or name of a filesystem without one, to its contents.
        mounts: Target to the device mounted there.
        holders: Device to its other holders: containers' own mounts.
        read_only: Devices whose filesystem went read-only after an error.
        busy_targets: Targets whose unmount fails with EBUSY, to the process that uses them.
        programs: Filesystems with an installed mkfs.
    """

    def __init__(self, disks: dict[str, Disk] | None = None) -> None:
        self.disks = {} if disks is None else disks
        self.mounts: dict[str, str] = {}
        self.holders: dict[str, set[str]] = {}
        self.read_only: set[str] = set()
        self.busy_targets: dict[str, str] = {}
        self.programs: tuple[str, ...] = tuple(FILESYSTEMS)

    def disk(self, device: str) -> Disk:
        """Return the contents of a device; a new device is blank."""
        return self.disks.setdefault(device, Disk())

    async def filesystems(self) -> Sequence[str]:
        """Return the filesystems with an installed mkfs."""
        return self.programs

    async def inspect(
        self, target: str, locate: Locate, *, tag: FilesystemTag | None = None, test_release: bool = False
    ) -> HostReading:
        """Return device and mount, and what the next step needs of the device."""
        source = locate()
        mount = await self.mount_state(target, source)
        if source is None or mount is not MountState.NONE:
            return HostReading(source, mount)
        is_formatted = tag is not None and tag.phase is FilesystemPhase.FORMATTED
        contents = await self.read_contents(source, tag) if tag is not None and is_formatted else None
        is_free = test_release and not await self.is_held(source, 0)
        return HostReading(source, mount, contents, is_free)

    async def mount_state(self, target: str, source: MountSource | None) -> MountState:
        """Return the state of a mount."""
        device = self.mounts.get(target)
        if device is None:
            return MountState.NONE
        if source is None or device != source.name:
            return MountState.STALE
        return MountState.READ_ONLY if device in self.read_only else MountState.OK

    async def mounts_below(self, root: str) -> Sequence[str]:
        """Return the mounted targets below a directory."""
        return sorted(target for target in self.mounts if target.startswith(f"{root}/"))

    async def read_contents(self, source: MountSource, tag: FilesystemTag) -> Contents:
        """Judge the disk against the tag; a filesystem by name is what it was created as."""
        if isinstance(source, NamedFilesystem):
            is_expected = tag.phase is FilesystemPhase.PENDING or tag.fs_type == source.fs_type
            return Contents(ContentKind.OURS if is_expected else ContentKind.FOREIGN, "its own filesystem")
        disk = self.disk(source.name)
        if disk.foreign:
            return Contents(ContentKind.FOREIGN, disk.foreign)
        if disk.is_noise and not disk.fs_type:
            return Contents(ContentKind.UNCLAIMED, "data that no known filesystem claims")
        if disk.is_partial:
            is_planned = tag.phase is FilesystemPhase.FORMATTING
            kind = ContentKind.PARTIAL if is_planned else ContentKind.FOREIGN
            return Contents(kind, "an interrupted format")
        if not disk.fs_type:
            return Contents(ContentKind.BLANK, "only zeros")
        if tag.phase is FilesystemPhase.PENDING or (disk.fs_type, disk.uuid) != (tag.fs_type, tag.uuid):
            return Contents(ContentKind.FOREIGN, f"an {disk.fs_type} filesystem with another UUID")
        if disk.is_dirty:
            return Contents(ContentKind.DIRTY, "its filesystem, not clean", disk.filesystem_bytes)
        return Contents(ContentKind.OURS, "its filesystem", disk.filesystem_bytes)

    async def is_held(self, source: MountSource, patience_s: float) -> bool:
        """Tell whether the device is mounted anywhere."""
        return bool(self.holders.get(source.name)) or source.name in self.mounts.values()

    async def describe_holders(self, source: MountSource | None, target: str) -> str:
        """Name the containers."""
        held = sorted(self.holders.get(source.name, ())) if source else []
        return ", ".join(held) or self.busy_targets.get(target, "another mount namespace")

    async def make_filesystem(self, source: MountSource, spec: VolumeSpec, tag: FilesystemTag) -> None:
        """Format the disk."""
        _refuse_named(source)
        disk = self.disk(source.name)
        if await self.is_held(source, 0):
            raise VolumeInUse(f"{source.name} is in use")
        disk.fs_type, disk.uuid, disk.is_partial, disk.is_dirty = tag.fs_type, tag.uuid, False, False
        disk.directories.clear()
        disk.formats += 1

    async def check_filesystem(self, source: MountSource, fs_type: str) -> None:
        """Repair the disk."""
        _refuse_named(source)
        self.disk(source.name).is_dirty = False
        self.read_only.discard(source.name)

    async def mount(self, request: MountRequest, locate: Locate) -> HostReading:
        """Mount a disk."""
        disk = self.disk(request.source.name)
        if isinstance(request.source, NamedFilesystem):
            disk.fs_type = request.source.fs_type
        if disk.fs_type != request.fs_type:
            raise MountFailed(f"{request.source.name} holds no {request.fs_type}")
        if request.target in self.mounts:
            raise MountFailed(f"{request.target} has something mounted already")
        self.mounts[request.target] = request.source.name
        is_lacking = bool(request.data_directory) and request.data_directory not in disk.directories
        return replace(await self.inspect(request.target, locate), lacks_data_directory=is_lacking)

    async def unmount(self, target: str, source: MountSource | None = None) -> bool:
        """Unmount; as on Linux it succeeds although containers still hold the filesystem."""
        if target in self.mounts and target in self.busy_targets:
            raise VolumeInUse(f"{target} is busy")
        self.mounts.pop(target, None)
        return source is not None and not await self.is_held(source, 0)

    async def make_data_directory(self, target: str, subpath: str, spec: VolumeSpec) -> None:
        """Make the directory that is mounted into containers."""
        self.disk(self.mounts[target]).directories.add(subpath)

    async def usage(self, target: str, last: Usage | None) -> Usage:
        """Return constant usage."""
        return Usage(used_bytes=1024**2, free_bytes=1024**3)


def _refuse_named(source: MountSource) -> None:
    if isinstance(source, NamedFilesystem):
        raise UnexpectedState(f"{source.name} is a filesystem, and not a device that could hold one")
