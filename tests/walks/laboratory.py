"""A cloud, two machines and their disks in memory, which record every broken promise of volplug."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from volplug.host.base import HostReading, Locate, MountRequest
from volplug.models import FilesystemTag, MountSource, Volume, VolumeSpec
from volplug.testing.host import Disk, MemoryHost
from volplug.testing.memory import MemoryCloud, MemoryDriver, MemoryFilesystemDriver, device_of

UNCLAIMED = "data that no known filesystem claims"


@dataclass
class StaleLookups:
    """Look-ups that are stale, as those of clouds may be.

    Attributes:
        lookups: How many of the next look-ups are stale.
        changes: How many changes of the cloud they miss.
        is_of_tags: Whether only the tags are stale, each by its last write.
    """

    lookups: int = 0
    changes: int = 1
    is_of_tags: bool = False


@dataclass
class Laboratory:
    """The state that the machines share, and the broken promises.

    Attributes:
        cloud: The cloud with the volumes.
        disks: Device to its content.
        hosts: Name to machine.
        records: Devices with acknowledged writes of containers.
        garbage: Devices with data of other programs that is no filesystem.
        history: The cloud's volumes before each change, the last change last.
        stale: How the next look-ups are stale.
        breaches: The broken promises.
    """

    cloud: MemoryCloud = field(default_factory=MemoryCloud)
    disks: dict[str, Disk] = field(default_factory=dict)
    hosts: dict[str, "WatchedHost"] = field(default_factory=dict)
    records: set[str] = field(default_factory=set)
    garbage: set[str] = field(default_factory=set)
    history: list[dict[str, Volume]] = field(default_factory=list)
    stale: StaleLookups = field(default_factory=StaleLookups)
    breaches: list[str] = field(default_factory=list)

    def volume(self, name: str) -> Volume | None:
        """The volume of a name, as it truly is."""
        found = [volume for volume in self.cloud.volumes.values() if volume.name == name]
        return found[0] if found else None

    def users(self, device: str) -> list[str]:
        """The hosts on which a device is mounted or held."""
        return [name for name, host in self.hosts.items() if host.uses(device)]

    def breach(self, what: str) -> None:
        """Record a broken promise."""
        self.breaches.append(what)


class WatchedHost(MemoryHost):
    """A machine that records forbidden operations on a device."""

    def __init__(self, laboratory: Laboratory, name: str) -> None:
        super().__init__(laboratory.disks)
        self._laboratory = laboratory
        self.name = name
        laboratory.hosts[name] = self

    def uses(self, device: str) -> bool:
        """Return whether the device is in use on this machine."""
        return device in self.mounts.values() or bool(self.holders.get(device))

    async def make_filesystem(self, source: MountSource, spec: VolumeSpec, tag: FilesystemTag) -> None:
        laboratory, device = self._laboratory, source.name
        if device in laboratory.records | laboratory.garbage:
            laboratory.breach(f"{device} was formatted on {self.name} with data on it")
        self._refuse_to_disturb(device, "formatted")
        await super().make_filesystem(source, spec, tag)

    async def check_filesystem(self, source: MountSource, fs_type: str) -> None:
        self._refuse_to_disturb(source.name, "checked")
        await super().check_filesystem(source, fs_type)

    async def mount(self, request: MountRequest, locate: Locate) -> HostReading:
        device = request.source.name
        others = [name for name in self._laboratory.users(device) if name != self.name]
        if others:
            self._laboratory.breach(f"{device} was mounted on {self.name} and is in use on {others}")
        return await super().mount(request, locate)

    def _refuse_to_disturb(self, device: str, what: str) -> None:
        if users := self._laboratory.users(device):
            self._laboratory.breach(f"{device} was {what} on {self.name} while in use on {users}")

    def lose_power(self) -> None:
        """End everything that runs and is mounted; mounted filesystems are not cleanly unmounted."""
        for device in [*self.mounts.values(), *(device for device, who in self.holders.items() if who)]:
            self.disk(device).is_dirty = True
        self.mounts.clear()
        self.holders.clear()


class WatchedDriver(MemoryDriver):
    """A node's view of the cloud, which may be stale, and which records forbidden calls."""

    def __init__(self, laboratory: Laboratory, node: str) -> None:
        super().__init__(laboratory.cloud, node)
        self._laboratory = laboratory

    async def get(self, name: str) -> Volume | None:
        self._cloud.record_call("get")
        return self._seen(name)

    async def list(self) -> Sequence[Volume]:
        present = self._show_stale()
        try:
            return await super().list()
        finally:
            self._cloud.volumes = present

    async def create(self, spec: VolumeSpec) -> Volume:
        self._remember()
        return await super().create(spec)

    async def attach(self, volume: Volume) -> MountSource:
        self._remember()
        return await super().attach(volume)

    async def detach(self, volume: Volume) -> None:
        self._remember()
        if self._current(volume).holder == self.node_id:
            self._note_if_used(volume, "detached", [self.node_id])
        await super().detach(volume)

    async def take_from(self, volume: Volume, node_id: str) -> None:
        self._remember()
        await super().take_from(volume, node_id)
        self._note_if_used(volume, "taken", [node_id])

    async def delete(self, volume: Volume) -> None:
        self._remember()
        await super().delete(volume)  # refuses what is attached, as every cloud does
        self._note_if_used(volume, "deleted", list(self._laboratory.hosts))

    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        self._remember()
        return await super().tag_filesystem(volume, tag)

    def _remember(self) -> None:
        self._laboratory.history.append(dict(self._cloud.volumes))

    def _seen(self, name: str) -> Volume | None:
        present = self._show_stale()
        try:
            return self._named(name)
        finally:
            self._cloud.volumes = present

    def _show_stale(self) -> dict[str, Volume]:
        """Show the cloud as it was, if look-ups are stale; return its current volumes."""
        stale, history, present = self._laboratory.stale, self._laboratory.history, self._cloud.volumes
        if stale.lookups and history:
            stale.lookups -= 1
            before = history[-min(stale.changes, len(history))]
            self._cloud.volumes = _with_tags_before(history, present) if stale.is_of_tags else before
        return present

    def _note_if_used(self, volume: Volume, what: str, where: Sequence[str]) -> None:
        device = device_of(volume.volume_id)
        if users := [name for name in self._laboratory.users(device) if name in where]:
            self._laboratory.breach(f"{volume.volume_id} was {what} by {self.node_id} while used on {users}")


class WatchedFilesystemDriver(WatchedDriver, MemoryFilesystemDriver):
    """The same on a cloud whose volumes are filesystems without devices."""


def _with_tags_before(history: Sequence[dict[str, Volume]], present: dict[str, Volume]) -> dict[str, Volume]:
    """Every volume with the filesystem tag that it had before the last write of it."""
    return {key: replace(volume, filesystem=_tag_before(history, volume)) for key, volume in present.items()}


def _tag_before(history: Sequence[dict[str, Volume]], volume: Volume) -> FilesystemTag:
    tags = (seen[volume.volume_id].filesystem for seen in reversed(history) if volume.volume_id in seen)
    return next((tag for tag in tags if tag != volume.filesystem), volume.filesystem)
