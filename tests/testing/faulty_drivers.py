"""Drivers with one fault each, such as authors of drivers make."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from volplug.drivers.base import BackendLimit, DriverInfo, Holder
from volplug.errors import DeviceMismatch, InvalidOption, UnexpectedState, VolumeExists
from volplug.findings import Finding, Level
from volplug.models import (
    BlockDevice,
    FilesystemTag,
    HolderState,
    MountSource,
    Volume,
    VolumeSpec,
    VolumeState,
)
from volplug.sizes import GIB, MIB
from volplug.testing.conformance.calls import size_of
from volplug.testing.memory import MemoryCloud, MemoryDriver

# Creating, listing and looking up


class ListsWhatIsNotItsOwn(MemoryDriver):
    async def list(self) -> Sequence[Volume]:
        spec = VolumeSpec("other", GIB)
        other = Volume("other", "mem-0", "memory", GIB, VolumeState.AVAILABLE, spec)
        return [*await super().list(), other]


class HasNoTimeZone(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        volume = await super().create(spec)
        assert volume.created_at is not None
        return self._put(replace(volume, created_at=volume.created_at.replace(tzinfo=None)))


class DescribesDifferently(MemoryDriver):
    async def get(self, name: str) -> Volume | None:
        volume = await super().get(name)
        return replace(volume, created_at=None) if volume else None


class KnowsOnlyWhatItMade(MemoryDriver):
    def __init__(self, cloud: MemoryCloud, node_id: str = "node-a") -> None:
        super().__init__(cloud, node_id)
        self._made: set[str] = set()

    async def create(self, spec: VolumeSpec) -> Volume:
        self._made.add(spec.name)
        return await super().create(spec)

    async def get(self, name: str) -> Volume | None:
        return await super().get(name) if name in self._made else None


class RoundsDown(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        volume = await super().create(spec)
        return self._put(replace(volume, size_bytes=volume.size_bytes - MIB))


class CreatesTwice(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        try:
            return await super().create(spec)
        except VolumeExists:
            return self._put(replace((await self.list())[0], volume_id="mem-second", spec=spec))


class NumbersItsVolumes(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        number = len(self._cloud.volumes)
        await asyncio.sleep(0)
        volume = await super().create(spec)
        del self._cloud.volumes[volume.volume_id]
        return self._put(replace(volume, volume_id=f"mem-{number}"))


class CutsNames(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        return await super().create(replace(spec, name=spec.name[:64]))


class FindsByTheirBeginning(MemoryDriver):
    def _named(self, name: str) -> Volume | None:
        return next((volume for volume in self._visible() if volume.name.startswith(name)), None)


class IgnoresCase(MemoryDriver):
    def _named(self, name: str) -> Volume | None:
        return next((volume for volume in self._visible() if volume.name.lower() == name.lower()), None)


class ListsOnePage(MemoryDriver):
    async def list(self) -> Sequence[Volume]:
        return (await super().list())[:10]


class TakesAnySize(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        volume = await super().create(replace(spec, size_bytes=GIB))
        return self._put(replace(volume, size_bytes=spec.size_bytes, spec=spec))


class RefusesItsOwnProfile(MemoryDriver):
    @property
    def info(self) -> DriverInfo:
        return replace(super().info, options={"type": "fast|slow"}, profiles={"gold": {"type": "faster"}})

    def check_spec(self, spec: VolumeSpec) -> None:
        if dict(spec.driver_options).get("type", "slow") not in ("fast", "slow"):
            raise InvalidOption("type is fast or slow")


# Interruptions


class StartsAllOver(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        existing = self._named(spec.name)
        if existing is not None and existing.state is VolumeState.INCOMPLETE:
            return self._put(replace(existing, volume_id="mem-again", state=VolumeState.AVAILABLE))
        return await super().create(spec)


class FinishesAnything(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        existing = self._named(spec.name)
        if existing is not None and existing.state is VolumeState.INCOMPLETE:
            return self._put(replace(existing, spec=spec, state=VolumeState.AVAILABLE))
        return await super().create(spec)


class KeepsHalfMadeVolumes(MemoryDriver):
    async def delete(self, volume: Volume) -> None:
        if self._current(volume).state is VolumeState.INCOMPLETE:
            raise UnexpectedState("it is being created")
        await super().delete(volume)


class LeavesHalfAVolume(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        volume = await super().create(spec)
        self._put(replace(volume, state=VolumeState.ERROR))
        await asyncio.sleep(0)
        return self._put(volume)


class StaysHalfAttached(MemoryDriver):
    async def attach(self, volume: Volume) -> MountSource:
        current = self._current(volume)
        if current.state is VolumeState.ATTACHING:
            raise UnexpectedState("it is being attached")
        self._put(replace(current, state=VolumeState.ATTACHING))
        await asyncio.sleep(0)
        return await super().attach(volume)


class DeletesInTheBackground(MemoryDriver):
    async def delete(self, volume: Volume) -> None:
        await asyncio.shield(self._delete_later(volume))

    async def _delete_later(self, volume: Volume) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        await super().delete(volume)


class BreaksWhileListing(MemoryDriver):
    async def list(self) -> Sequence[Volume]:
        listed = []
        for volume in self._cloud.volumes.values():
            listed.append(volume)
            await asyncio.sleep(0)
        return listed


class ListsByPosition(MemoryDriver):
    async def list(self) -> Sequence[Volume]:
        listed: list[Volume] = []
        while len(listed) < len(self._cloud.volumes):
            listed.append(list(reversed(self._cloud.volumes.values()))[len(listed)])
            await asyncio.sleep(0)
        return listed


class MixesUpAttachments(MemoryDriver):
    async def attach(self, volume: Volume) -> MountSource:
        self._last = await super().attach(volume)
        await asyncio.sleep(0)
        return self._last


class KeepsItsIds(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        volume = await super().create(spec)
        del self._cloud.volumes[volume.volume_id]
        return self._put(replace(volume, volume_id=f"mem-{spec.name}"))


# Attaching


class FindsNoDeviceOfWhatIsUnknown(MemoryDriver):
    def locate(self, volume: Volume) -> MountSource | None:
        self._current(volume)
        return super().locate(volume)


class ForgetsTheHolder(MemoryDriver):
    async def attach(self, volume: Volume) -> MountSource:
        source = await super().attach(volume)
        self._put(replace(self._current(volume), holder=None))
        return source


class IsSmallerThanItSays(MemoryDriver):
    def _source(self, volume: Volume) -> MountSource:
        return super()._source(replace(volume, size_bytes=volume.size_bytes - MIB))


class TellsDevicesBySize(MemoryDriver):
    def locate(self, volume: Volume) -> MountSource | None:
        source = super().locate(volume)
        if source is not None and size_of(source) != volume.size_bytes:
            raise DeviceMismatch(f"{source.name} has another size")
        return source


class AttachesAnew(MemoryDriver):
    async def attach(self, volume: Volume) -> MountSource:
        source = await super().attach(volume)
        return replace(source, serial=f"{source.serial}:{len(self._cloud.calls)}")


class StaysAttached(MemoryDriver):
    async def detach(self, volume: Volume) -> None:
        self._current(volume)


class HasOneDevice(MemoryDriver):
    def _source(self, volume: Volume) -> MountSource:
        return BlockDevice("memory:0", volume.volume_id, volume.size_bytes)


class HasOneSerial(MemoryDriver):
    def _source(self, volume: Volume) -> MountSource:
        return replace(super()._source(volume), serial="0000")


# Deleting


class DeletesWhatIsAttached(MemoryDriver):
    async def delete(self, volume: Volume) -> None:
        self._current(volume)
        del self._cloud.volumes[volume.volume_id]


class DeletesQuietly(MemoryDriver):
    async def delete(self, volume: Volume) -> None:
        if volume.volume_id in self._cloud.volumes:
            await super().delete(volume)


class DeletesEverything(MemoryDriver):
    async def delete(self, volume: Volume) -> None:
        self._current(volume)
        self._cloud.volumes.clear()


class DeletesByName(MemoryDriver):
    async def delete(self, volume: Volume) -> None:
        await super().delete(self._named(volume.name) or volume)


class DetachesByName(MemoryDriver):
    async def detach(self, volume: Volume) -> None:
        await super().detach(self._named(volume.name) or volume)


class LocatesByName(MemoryDriver):
    def locate(self, volume: Volume) -> MountSource | None:
        return super().locate(self._named(volume.name) or volume)


class SaysLittle(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        if self._named(spec.name):
            raise VolumeExists("a volume of this name exists")
        return await super().create(spec)


# Facts


class ForgetsTags(MemoryDriver):
    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        return replace(volume, filesystem=tag)


class TagsAnOldDescription(MemoryDriver):
    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        self._current(volume)
        return self._put(replace(volume, filesystem=tag))


class AttachesAnOldDescription(MemoryDriver):
    async def attach(self, volume: Volume) -> MountSource:
        self._current(volume)
        self._put(volume)
        return await super().attach(volume)


class GuessesDeath(MemoryDriver):
    async def holder_state(self, node_id: str) -> Holder:
        state = HolderState.ALIVE if node_id == self.node_id else HolderState.DEAD
        return Holder(state, "no answer")


class CountsNoNewVolume(MemoryDriver):
    async def limits(self) -> Sequence[BackendLimit]:
        return [BackendLimit("volumes", 1, 10, "volumes")]


class UsesMoreThanThereIs(MemoryDriver):
    async def limits(self) -> Sequence[BackendLimit]:
        return [BackendLimit("space", 2 * GIB, GIB, "bytes")]


class UsesLessThanNothing(MemoryDriver):
    async def limits(self) -> Sequence[BackendLimit]:
        return [BackendLimit("space", -1, None, "bytes")]


class RepairsWhatItFinds(MemoryDriver):
    async def diagnose(self) -> Sequence[Finding]:
        for volume in await self.list():
            await self.detach(volume)
        return await super().diagnose()


class FindsWithoutARemedy(MemoryDriver):
    async def diagnose(self) -> Sequence[Finding]:
        return [Finding("cloud", Level.YELLOW, "memory", "something is odd")]


class FindsNothing(MemoryDriver):
    async def diagnose(self) -> Sequence[Finding]:
        return []


class RaisesItsDiagnosis(MemoryDriver):
    async def diagnose(self) -> Sequence[Finding]:
        await self.health()
        return await super().diagnose()


class WritesOptionsItsOwnWay(MemoryDriver):
    @property
    def info(self) -> DriverInfo:
        return replace(super().info, options={"Volume_Type": "fast|slow"})


class ForgetsWhoItIs(MemoryDriver):
    @property
    def node_id(self) -> str:
        return f"{self._node_id}-{id(self)}"
