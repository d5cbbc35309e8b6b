"""The shared suite can fail: drivers with one seeded fault each do not get through it."""

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from volplug.drivers.base import Driver, Holder
from volplug.drivers.memory import MemoryCloud, MemoryDriver
from volplug.errors import VolumeExists
from volplug.models import FilesystemTag, HolderState, MountSource, Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB, MIB
from volplug.testing.conformance import DriverConformance, SharedDriverConformance


class CreatesTwice(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        try:
            return await super().create(spec)
        except VolumeExists:
            return self._put(replace((await self.list())[0], volume_id="mem-second", spec=spec))


class RoundsDown(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        volume = await super().create(spec)
        return self._put(replace(volume, size_bytes=volume.size_bytes - MIB))


class KeepsItsIds(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        volume = await super().create(spec)
        del self._cloud.volumes[volume.volume_id]
        return self._put(replace(volume, volume_id=f"mem-{spec.name}"))


class HasNoTimeZone(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        volume = await super().create(spec)
        assert volume.created_at is not None
        return self._put(replace(volume, created_at=volume.created_at.replace(tzinfo=None)))


class DeletesWhatIsAttached(MemoryDriver):
    async def delete(self, volume: Volume) -> None:
        self._current(volume)
        del self._cloud.volumes[volume.volume_id]


class DeletesQuietly(MemoryDriver):
    async def delete(self, volume: Volume) -> None:
        if volume.volume_id in self._cloud.volumes:
            await super().delete(volume)


class DeletesByName(MemoryDriver):
    async def delete(self, volume: Volume) -> None:
        await super().delete(self._named(volume.name) or volume)


class DetachesByName(MemoryDriver):
    async def detach(self, volume: Volume) -> None:
        await super().detach(self._named(volume.name) or volume)


class LocatesByName(MemoryDriver):
    async def locate(self, volume: Volume) -> MountSource | None:
        return await super().locate(self._named(volume.name) or volume)


class StaysAttached(MemoryDriver):
    async def detach(self, volume: Volume) -> None:
        self._current(volume)


class AttachesAnew(MemoryDriver):
    async def attach(self, volume: Volume) -> MountSource:
        source = await super().attach(volume)
        return replace(source, device=f"{source.device}:{len(self._cloud.calls)}")


class Steals(MemoryDriver):
    async def attach(self, volume: Volume) -> MountSource:
        self._put(replace(self._current(volume), holder=None))
        return await super().attach(volume)


class DetachesOthers(MemoryDriver):
    async def detach(self, volume: Volume) -> None:
        self._put(replace(self._current(volume), state=VolumeState.AVAILABLE, holder=None))


class ForgetsTags(MemoryDriver):
    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        return replace(volume, filesystem=tag)


class GuessesDeath(MemoryDriver):
    async def holder_state(self, node_id: str) -> Holder:
        state = HolderState.ALIVE if node_id == self.node_id else HolderState.DEAD
        return Holder(state, "no answer")


class StartsAllOver(MemoryDriver):
    async def create(self, spec: VolumeSpec) -> Volume:
        existing = self._named(spec.name)
        if existing is not None and existing.state is VolumeState.CREATING:
            return self._put(replace(existing, volume_id="mem-again", state=VolumeState.AVAILABLE))
        return await super().create(spec)


FAULTY = [
    *(CreatesTwice, RoundsDown, KeepsItsIds, HasNoTimeZone, StartsAllOver),
    *(DeletesWhatIsAttached, DeletesQuietly, DeletesByName, DetachesByName, LocatesByName),
    *(StaysAttached, AttachesAnew, Steals, DetachesOthers, ForgetsTags, GuessesDeath),
]


def failures(kind: type[MemoryDriver]) -> list[str]:
    """The names of the suite's tests that a driver fails, each on a cloud of its own."""
    suite = type("Suite", (DriverConformance, SharedDriverConformance), {})()
    tests = {
        name: test for name, test in inspect.getmembers(suite, inspect.ismethod) if name.startswith("test_")
    }
    assert len(tests) >= 25
    return [name for name, test in tests.items() if not passes(test, kind)]


def passes(test: Callable[..., object], kind: type[MemoryDriver]) -> bool:
    return all(_passes_with(test, kind, call) for call in ("delete", "attach", "detach", "tag_filesystem"))


def _passes_with(test: Callable[..., object], kind: type[MemoryDriver], call: str) -> bool:
    wanted = inspect.signature(test).parameters
    provided = _fixtures(kind) | {"call": call}
    try:
        asyncio.run(test(**{name: provided[name] for name in wanted}))  # type: ignore[arg-type]
    except (Exception, pytest.fail.Exception):
        return False
    return True


def _fixtures(kind: type[MemoryDriver]) -> dict[str, object]:
    cloud, numbers = MemoryCloud(), count()

    def make_spec(name: str = "", size_bytes: int = 0) -> VolumeSpec:
        return VolumeSpec(name or f"v{next(numbers)}", size_bytes or GIB)

    async def interrupt_create(spec: VolumeSpec) -> None:
        volume = await MemoryDriver(cloud).create(spec)
        cloud.volumes[volume.volume_id] = replace(volume, state=VolumeState.CREATING)

    def new_driver() -> Driver:
        return kind(cloud)

    unknown = Volume("never", "mem-never", "memory", GIB, VolumeState.AVAILABLE, make_spec("never"))
    return {
        "driver": new_driver(),
        "new_driver": new_driver,
        "second_node": kind(cloud, "node-b"),
        "make_spec": make_spec,
        "interrupt_create": interrupt_create,
        "unknown_volume": unknown,
        "has_devices": False,
    }


def test_a_driver_without_faults_gets_through() -> None:
    assert failures(MemoryDriver) == []


@pytest.mark.parametrize("kind", FAULTY, ids=lambda kind: kind.__name__)
def test_a_driver_with_a_fault_is_caught(kind: type[MemoryDriver]) -> None:
    assert failures(kind) != []
