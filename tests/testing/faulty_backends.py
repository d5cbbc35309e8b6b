"""Drivers with one fault each beyond one node: other nodes, clusters, outages, duplicates, devices."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from volplug.drivers.base import DriverInfo, Scope
from volplug.errors import BackendUnavailable, VolumeExists, VolumeNotFound
from volplug.models import BlockDevice, MountSource, Volume, VolumeSpec, VolumeState
from volplug.testing.memory import MemoryCloud, MemoryDriver

# Several nodes, several clusters


class CallsItselfLocal(MemoryDriver):
    @property
    def info(self) -> DriverInfo:
        return replace(super().info, scope=Scope.LOCAL)


class Steals(MemoryDriver):
    async def attach(self, volume: Volume) -> MountSource:
        self._put(replace(self._current(volume), holder=None))
        return await super().attach(volume)


class DetachesOthers(MemoryDriver):
    async def detach(self, volume: Volume) -> None:
        self._put(replace(self._current(volume), state=VolumeState.AVAILABLE, holder=None))


class LooksBeforeItCreates(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        if self._named(spec.name):
            raise VolumeExists(f"{spec.name} exists")
        await asyncio.sleep(0)
        volume = await super().create(replace(spec, name=f"{spec.name}-of-{self.node_id}"))
        return self._put(replace(volume, name=spec.name, spec=spec))


class SeesEveryCluster(MemoryDriver):
    def _is_ours(self, volume_id: str) -> bool:
        return True


# Outages


class TakesSilenceForEmptiness(MemoryDriver):
    async def list(self) -> Sequence[Volume]:
        try:
            return await super().list()
        except BackendUnavailable:
            return []


class LocatesAtTheBackend(MemoryDriver):
    def locate(self, volume: Volume) -> MountSource | None:
        self._cloud.record_call("locate")
        return super().locate(volume)


class TakesSilenceForAbsence(MemoryDriver):
    async def detach(self, volume: Volume) -> None:
        try:
            await super().detach(volume)
        except BackendUnavailable as error:
            raise VolumeNotFound(f"{volume.volume_id} does not exist") from error


class AsksWhoItIs(MemoryDriver):
    @property
    def node_id(self) -> str:
        self._cloud.record_call("node_id")
        return self._node_id


# Duplicates


class TakesTheFirst(MemoryDriver):
    def _named(self, name: str) -> Volume | None:
        return next((volume for volume in self._visible() if volume.name == name), None)


class ListsNames(MemoryDriver):
    async def list(self) -> Sequence[Volume]:
        return list({volume.name: volume for volume in await super().list()}.values())


class DeletesNamesakes(MemoryDriver):
    async def delete(self, volume: Volume) -> None:
        for each in [each for each in self._visible() if each.name == volume.name]:
            await super().delete(each)


# Descriptions


class BelievesEverything(MemoryDriver):
    def _described(self, volume: Volume) -> Volume:
        return volume


class HidesWhatIsSpoilt(MemoryDriver):
    def locate(self, volume: Volume) -> MountSource | None:
        return super().locate(volume) if volume.state is not VolumeState.ERROR else None


# Devices, which are files here


@dataclass
class FileCloud(MemoryCloud):
    """A cloud whose devices are files of a directory."""

    directory: Path = field(default_factory=Path)


class FileDriver(MemoryDriver):
    """Keeps the contract but for one case: a file is no block device."""

    def _file(self, volume: Volume) -> str:
        return volume.volume_id

    def _source(self, volume: Volume) -> MountSource:
        assert isinstance(self._cloud, FileCloud)
        path = self._cloud.directory / self._file(volume)
        with path.open("ab") as file:
            file.truncate(volume.size_bytes)
        return BlockDevice(str(path), volume.volume_id, volume.size_bytes)


class WipesAtDetach(FileDriver):
    async def detach(self, volume: Volume) -> None:
        await super().detach(volume)
        await asyncio.to_thread(Path(self._source(volume).name).unlink)


class HasOneDisk(FileDriver):
    def _file(self, volume: Volume) -> str:
        return "disk"


class ReusesDisks(FileDriver):
    def _file(self, volume: Volume) -> str:
        return volume.name
