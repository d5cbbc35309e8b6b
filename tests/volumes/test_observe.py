"""Inputs of the decision from states of a backend."""

from dataclasses import replace

import pytest

from tests.volumes.bench import Bench
from tests.volumes.world import IMPATIENT, spec_of
from volplug.errors import DeviceMismatch, DeviceNotFound, FilesystemMismatch, VolumeInUse, VolumeNotFound
from volplug.models import (
    BlockDevice,
    Contents,
    FilesystemPhase,
    FilesystemTag,
    MountSource,
    Volume,
    VolumeState,
)
from volplug.sizes import GIB
from volplug.testing.host import MemoryHost
from volplug.testing.memory import MemoryDriver, device_of
from volplug.volumes.decision import Goal
from volplug.volumes.observe import backend_state_of, device_match_of
from volplug.volumes.observed import BackendState, DeviceMatch

HERE, OTHER = "node-a", "node-b"


@pytest.mark.parametrize(
    ("state", "holder", "backend_state"),
    [
        (VolumeState.INCOMPLETE, None, BackendState.INCOMPLETE),
        (VolumeState.CREATING, None, BackendState.CREATING),
        (VolumeState.AVAILABLE, None, BackendState.AVAILABLE),
        (VolumeState.ATTACHING, HERE, BackendState.HERE),
        (VolumeState.ATTACHING, OTHER, BackendState.ELSEWHERE),
        (VolumeState.ATTACHING, None, BackendState.DETACHING),
        (VolumeState.IN_USE, HERE, BackendState.HERE),
        (VolumeState.IN_USE, OTHER, BackendState.ELSEWHERE),
        (VolumeState.DETACHING, HERE, BackendState.DETACHING),
        (VolumeState.DETACHING, OTHER, BackendState.LEAVING),
        (VolumeState.DETACHING, None, BackendState.DETACHING),
        (VolumeState.DELETING, None, BackendState.DELETING),
        (VolumeState.ERROR, HERE, BackendState.ERROR),
    ],
)
def test_state_and_holder_make_the_backend_state(
    state: VolumeState, holder: str | None, backend_state: BackendState
) -> None:
    found = Volume("v", "vol-1", "memory", GIB, state, spec_of("v"), holder=holder)
    assert backend_state_of(found, HERE) is backend_state


def test_a_device_is_identified_by_its_identity_alone() -> None:
    source = BlockDevice("/dev/sdx", "serial", 1)
    assert device_match_of(None, None) is DeviceMatch.NONE
    assert device_match_of(source, None) is DeviceMatch.RIGHT
    assert device_match_of(replace(source, outdated="the image was replaced"), None) is DeviceMatch.OUTDATED
    assert device_match_of(source, DeviceMismatch("another serial")) is DeviceMatch.WRONG


OLD, NEW = "6f1c2b1e-0d6c-4a52-8f0a-0c3f4c1d9b77", "0b2f6f0e-5a51-4a07-9d0b-6c1f8a3d2e10"


def formatted(uuid: str) -> FilesystemTag:
    return FilesystemTag(FilesystemPhase.FORMATTED, "ext4", uuid)


async def attached_volume(bench: Bench, uuid: str) -> Volume:
    """A volume attached here, whose record and device have one UUID."""
    volume = await bench.volume(formatted(uuid), state=VolumeState.IN_USE, holder="node-a")
    bench.disk(volume, fs_type="ext4", uuid=uuid, directories={"data"})
    return volume


async def test_contents_are_judged_by_the_record_that_was_read_last() -> None:
    """The known record is of another size and has an old tag; what was read by it is void."""
    bench = Bench()
    volume = await attached_volume(bench, OLD)
    bench.change(volume, filesystem=formatted(NEW), size_bytes=volume.size_bytes)
    known = replace(volume, size_bytes=volume.size_bytes // 2)
    with pytest.raises(FilesystemMismatch, match="not its ext4 filesystem"):
        await bench.to(Goal.MOUNTED, known)


class ExplainingDriver(MemoryDriver):
    """Knows why a volume may be missed."""

    async def absence(self, name: str) -> VolumeNotFound:
        return VolumeNotFound(f"cluster blue has no {name}", "Check the cluster")


async def test_a_driver_explains_why_it_has_no_such_volume() -> None:
    bench = Bench()
    bench.driver = ExplainingDriver(bench.cloud)
    with pytest.raises(VolumeNotFound) as refused:
        await bench.to(Goal.MOUNTED)
    assert str(refused.value) == (
        'cluster blue has no v [mounted "v", memory, node node-a]. Check the cluster.'
    )


class EveryDevice(MemoryDriver):
    """Has a device for every volume, also for one that is deleted."""

    def locate(self, volume: Volume) -> MountSource | None:
        return self._source(volume)


async def test_the_release_test_of_one_volume_permits_nothing_for_another() -> None:
    bench = Bench()
    bench.driver = EveryDevice(bench.cloud)
    volume = await attached_volume(bench, NEW)
    bench.host.holders[device_of(volume.volume_id)] = {"container web"}
    known = replace(volume, volume_id="mem-of-before", filesystem=FilesystemTag())
    with pytest.raises(VolumeInUse, match="container web"):
        await bench.to(Goal.DETACHED, known)
    assert bench.cloud.volumes[volume.volume_id].holder == "node-a"


class Leaving(MemoryDriver):
    """A detach in progress: the record shows it, and for two reads the device is there."""

    reads = 0

    async def get(self, name: str) -> Volume | None:
        found = await super().get(name)
        self.reads += 1
        return replace(found, state=VolumeState.DETACHING) if found and self.reads < 3 else found


class GoingHost(MemoryHost):
    """A device that fails when it is read."""

    driver: Leaving

    async def read_contents(self, source: MountSource, tag: FilesystemTag) -> Contents:
        if self.driver.reads < 3:
            raise DeviceNotFound("the device is not there: No such device or address")
        return await super().read_contents(source, tag)


async def test_a_device_that_is_about_to_go_is_not_read() -> None:
    bench = Bench()
    volume = await attached_volume(bench, NEW)
    bench.driver = Leaving(bench.cloud)
    host = GoingHost(bench.host.disks)
    host.driver = bench.driver
    bench.host = host
    timeouts = replace(IMPATIENT, backend_s=10)
    mounted = await bench.run(Goal.MOUNTED, volume, detach_pending=True, timeouts=timeouts).to_goal()
    assert mounted is not None
    assert mounted.holder == "node-a"


async def test_a_record_that_is_checked_again_is_read_again() -> None:
    """Also by a remount, which otherwise goes by what is known."""
    bench = Bench()
    volume = await attached_volume(bench, NEW)
    reads = len(bench.cloud.calls)
    known = replace(volume, size_bytes=volume.size_bytes // 2)
    await bench.run(Goal.MOUNTED, known, is_remount=True).to_goal()
    assert "get" in bench.cloud.calls[reads:]
