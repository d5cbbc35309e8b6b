"""One convergence, on a backend and a machine in memory: its steps, and its errors."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from tests.volumes.bench import FINISHED, PLANNED, TARGET, UUID, Bench
from tests.volumes.world import spec_of
from volplug.errors import (
    BackendUnavailable,
    CommandFailed,
    DeviceMismatch,
    DuplicateVolumes,
    FilesystemMismatch,
    HostError,
    OperationTimeout,
    UnexpectedState,
    VolplugError,
    VolumeNotFound,
)
from volplug.models import FilesystemPhase, FilesystemTag, MountSource, Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB, format_size
from volplug.testing.host import MemoryHost
from volplug.testing.memory import MemoryCloud, MemoryDriver, device_of
from volplug.volumes.decision import Goal


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_an_interrupted_format_of_a_blank_device_is_repeated_with_its_uuid(bench: Bench) -> None:
    volume = await bench.volume(PLANNED)
    await bench.to(Goal.MOUNTED)
    assert (bench.disk(volume).uuid, bench.disk(volume).formats) == (UUID, 1)
    assert bench.cloud.volumes[volume.volume_id].filesystem == FINISHED


async def test_remnants_of_our_own_format_are_formatted_again(bench: Bench) -> None:
    volume = await bench.volume(PLANNED)
    disk = bench.disk(volume, is_partial=True)
    await bench.to(Goal.MOUNTED)
    assert (disk.formats, disk.uuid, disk.is_partial) == (1, UUID, False)


@pytest.mark.parametrize("is_dirty", [False, True])
async def test_a_format_that_was_finished_but_not_tagged_is_adopted(bench: Bench, is_dirty: bool) -> None:
    volume = await bench.volume(PLANNED)
    disk = bench.disk(volume, fs_type="ext4", uuid=UUID, is_dirty=is_dirty)
    await bench.to(Goal.MOUNTED)
    assert (disk.formats, disk.directories, disk.is_dirty) == (0, {"data"}, False)
    assert bench.cloud.volumes[volume.volume_id].filesystem == FINISHED


async def test_a_foreign_filesystem_is_not_formatted_although_a_format_was_begun(bench: Bench) -> None:
    volume = await bench.volume(PLANNED)
    disk = bench.disk(volume, fs_type="ext4", uuid="other")
    with pytest.raises(FilesystemMismatch) as refused:
        await bench.to(Goal.MOUNTED)
    assert refused.value.cause == (
        "the volume's format was interrupted and it now holds an ext4 filesystem with another UUID; "
        "it is not formatted"
    )
    assert (disk.formats, disk.uuid) == (0, "other")


async def test_a_filesystem_not_cleanly_unmounted_is_checked_before_it_is_mounted(bench: Bench) -> None:
    volume = await bench.volume(FINISHED)
    disk = bench.disk(volume, fs_type="ext4", uuid=UUID, is_dirty=True, directories={"data"})
    await bench.to(Goal.MOUNTED)
    assert (disk.is_dirty, bench.host.mounts) == (False, {TARGET: device_of(volume.volume_id)})


async def test_a_filesystem_in_use_is_mounted_once_more_and_not_checked(bench: Bench) -> None:
    volume = await bench.volume(FINISHED)
    disk = bench.disk(volume, fs_type="ext4", uuid=UUID, is_dirty=True, directories={"data"})
    bench.host.holders[device_of(volume.volume_id)] = {"container web"}
    await bench.to(Goal.MOUNTED)
    assert (disk.is_dirty, bench.host.mounts) == (True, {TARGET: device_of(volume.volume_id)})


async def test_a_blank_volume_in_use_is_not_formatted(bench: Bench) -> None:
    volume = await bench.volume()
    bench.host.holders[device_of(volume.volume_id)] = {"process 5 (dd)"}
    with pytest.raises(VolplugError) as refused:
        await bench.to(Goal.MOUNTED)
    assert refused.value.cause == "the volume is still in use by process 5 (dd)"
    assert bench.disk(volume).formats == 0


async def test_a_filesystem_without_its_data_directory_is_refused_and_unmounted(bench: Bench) -> None:
    volume = await bench.volume(FINISHED)
    bench.disk(volume, fs_type="ext4", uuid=UUID)
    with pytest.raises(FilesystemMismatch) as refused:
        await bench.to(Goal.MOUNTED)
    assert str(refused.value) == (
        "the filesystem lacks the directory 'data' that containers see "
        f'[mounted "v", memory {volume.volume_id}, node node-a]. '
        "Nothing was changed; restore it from a backup."
    )
    assert (bench.host.mounts, bench.disk(volume).directories) == ({}, set())


async def test_a_foreign_mount_at_our_mountpoint_is_replaced(bench: Bench) -> None:
    volume = await bench.volume()
    bench.host.mounts[TARGET] = "memory:old"
    await bench.to(Goal.MOUNTED)
    assert bench.host.mounts == {TARGET: device_of(volume.volume_id)}


class OtherSize(MemoryDriver):
    """Every device has another size than its record."""

    def __init__(self, cloud: MemoryCloud, size_bytes: int) -> None:
        super().__init__(cloud)
        self._size_bytes = size_bytes

    def _source(self, volume: Volume) -> MountSource:
        return super()._source(replace(volume, size_bytes=self._size_bytes))


@pytest.mark.parametrize("size_bytes", [GIB // 2, 2 * GIB])
async def test_a_device_of_another_size_is_not_mounted_but_can_be_released_and_deleted(
    bench: Bench, size_bytes: int
) -> None:
    volume = await bench.volume(holder="node-a", state=VolumeState.IN_USE)
    bench.driver = OtherSize(bench.cloud, size_bytes)
    with pytest.raises(DeviceMismatch) as refused:
        await bench.to(Goal.MOUNTED)
    assert str(refused.value) == (
        f"memory:{volume.volume_id} has {format_size(size_bytes)}, the volume's record says 1GiB "
        f'[mounted "v", memory {volume.volume_id}, node node-a]. '
        "Nothing was changed; compare volume and device."
    )
    assert bench.cloud.volumes == {volume.volume_id: volume}
    assert bench.disk(volume).formats == 0
    for goal in (Goal.RELEASED, Goal.DETACHED, Goal.ABSENT):
        await bench.to(goal)
    assert bench.cloud.volumes == {}


@pytest.mark.parametrize(
    ("device_bytes", "filesystem_bytes", "is_served"),
    [
        (2 * GIB, GIB, True),  # grown at its backend after the record was read
        (2 * GIB, 2 * GIB, True),
        (GIB // 2, GIB // 2, True),  # the backend has grown it, and this host does not see it yet
        (GIB // 2, GIB, False),
        (GIB, 2 * GIB, False),
    ],
)
@pytest.mark.parametrize("is_dirty", [False, True])
async def test_a_filesystem_is_served_if_its_device_has_all_of_it_and_released_in_any_case(
    bench: Bench, device_bytes: int, filesystem_bytes: int, is_served: bool, is_dirty: bool
) -> None:
    volume = await bench.volume(FINISHED, holder="node-a", state=VolumeState.IN_USE)
    bench.disk(volume, fs_type="ext4", uuid=UUID, directories={"data"}, is_dirty=is_dirty)
    bench.disk(volume).filesystem_bytes = filesystem_bytes
    bench.driver = OtherSize(bench.cloud, device_bytes)
    if is_served:
        await bench.to(Goal.MOUNTED)
        assert bench.host.mounts == {TARGET: device_of(volume.volume_id)}
    else:
        with pytest.raises(DeviceMismatch, match="end is cut off"):
            await bench.to(Goal.MOUNTED)
        assert bench.disk(volume).is_dirty == is_dirty
    for goal in (Goal.RELEASED, Goal.DETACHED):
        await bench.to(goal)
    assert bench.host.mounts == {}
    assert bench.cloud.volumes[volume.volume_id].holder is None


async def test_sizes_that_differ_are_logged_once_for_each_mount(bench: Bench) -> None:
    volume = await bench.volume(FINISHED, size_bytes=3 * GIB)
    bench.disk(volume, fs_type="ext4", uuid=UUID, directories={"data"}, filesystem_bytes=GIB)
    difference = "its filesystem, 1.0GiB, is smaller than its device, 3.0GiB"
    for goal, warned in ((Goal.MOUNTED, [difference]), (Goal.MOUNTED, []), (Goal.RELEASED, [])):
        with capture_logs() as lines:
            await bench.to(goal)
        assert [each["difference"] for each in lines if each["event"] == "sizes of a volume differ"] == warned


class Contradicting(MemoryDriver):
    """A device here claims to be the volume and contradicts its record."""

    def locate(self, volume: Volume) -> MountSource | None:
        raise DeviceMismatch("/dev/sdx has another serial")


async def test_a_device_with_another_identity_is_refused_with_the_drivers_error(bench: Bench) -> None:
    volume = await bench.volume()
    bench.driver = Contradicting(bench.cloud)
    for goal in (Goal.MOUNTED, Goal.DETACHED, Goal.ABSENT):
        with pytest.raises(DeviceMismatch, match="/dev/sdx has another serial"):
            await bench.to(goal, known=volume)
    assert bench.cloud.volumes == {volume.volume_id: volume}


async def test_a_device_that_is_detected_as_another_after_the_mount_is_an_error(bench: Bench) -> None:
    volume = await bench.volume(FINISHED)
    bench.disk(volume, fs_type="ext4", uuid=UUID, directories={"data"})

    class ReplacedDevice(MemoryDriver):
        def locate(self, volume: Volume) -> MountSource | None:
            if bench.host.mounts:
                raise DeviceMismatch("/dev/sdx has another serial")
            return super().locate(volume)

    bench.driver = ReplacedDevice(bench.cloud)
    with pytest.raises(DeviceMismatch, match="/dev/sdx has another serial"):
        await bench.to(Goal.MOUNTED)


async def test_a_device_here_of_a_volume_held_elsewhere_is_a_contradiction(bench: Bench) -> None:
    volume = await bench.volume(holder="node-b", state=VolumeState.IN_USE)

    class BothHaveIt(MemoryDriver):
        def locate(self, volume: Volume) -> MountSource | None:
            return self._source(volume)

    bench.driver = BothHaveIt(bench.cloud)
    with pytest.raises(DeviceMismatch) as refused:
        await bench.to(Goal.MOUNTED)
    assert refused.value.cause == (
        f"this host has memory:{volume.volume_id} of the volume, but the backend reports state in-use"
    )


@pytest.mark.parametrize(
    ("state", "kind", "cause"),
    [
        (VolumeState.ERROR, UnexpectedState, "the disk is broken"),
        (VolumeState.DELETING, UnexpectedState, "the volume is being deleted"),
        (VolumeState.DETACHING, OperationTimeout, "the backend reports detaching for 0 s"),
        (VolumeState.ATTACHING, OperationTimeout, "the backend reports attaching for 0 s"),
    ],
)
async def test_no_mount_out_of_a_state_that_does_not_lead_there(
    bench: Bench, state: VolumeState, kind: type[VolplugError], cause: str
) -> None:
    await bench.volume(state=state, detail="the disk is broken")
    with pytest.raises(kind) as refused:
        await bench.to(Goal.MOUNTED)
    assert refused.value.cause == cause
    assert "attach" not in bench.cloud.calls


async def test_an_unfinished_creation_is_finished_by_a_mount(bench: Bench) -> None:
    await bench.volume(state=VolumeState.INCOMPLETE)
    mounted = await bench.to(Goal.MOUNTED)
    assert mounted is not None
    assert mounted.filesystem.phase is FilesystemPhase.FORMATTED


async def test_a_volume_in_error_can_be_removed(bench: Bench) -> None:
    await bench.volume(state=VolumeState.ERROR)
    assert await bench.to(Goal.ABSENT) is None
    assert bench.cloud.volumes == {}


async def test_two_volumes_of_one_name_are_refused_with_both_ids_for_every_goal(bench: Bench) -> None:
    first = await bench.volume()
    second = replace(first, volume_id="mem-other")
    bench.cloud.volumes["mem-other"] = second
    for goal in (Goal.PRESENT, Goal.MOUNTED, Goal.DETACHED, Goal.ABSENT):
        with pytest.raises(DuplicateVolumes) as refused:
            await bench.to(goal, spec=spec_of("v"))
        assert refused.value.volume_ids == (first.volume_id, "mem-other")
    assert set(bench.cloud.volumes.values()) == {first, second}


async def test_an_unreachable_backend_is_reported_with_its_own_error(bench: Bench) -> None:
    bench.cloud.outage = BackendUnavailable("no route to the cloud")
    for goal in (Goal.PRESENT, Goal.MOUNTED, Goal.ABSENT):
        with pytest.raises(BackendUnavailable) as refused:
            await bench.to(goal, spec=spec_of("v"))
        assert str(refused.value) == f'no route to the cloud [{goal} "v", memory, node node-a].'
    assert bench.changes == []


async def test_a_volume_known_and_attached_here_is_mounted_without_its_backend(bench: Bench) -> None:
    volume = await bench.volume(FINISHED, holder="node-a", state=VolumeState.IN_USE)
    bench.disk(volume, fs_type="ext4", uuid=UUID, directories={"data"})
    before = len(bench.cloud.calls)
    await bench.to(Goal.MOUNTED, known=volume)
    assert bench.cloud.calls[before:] == []


async def test_a_volume_that_was_grown_is_mounted_by_its_current_record(bench: Bench) -> None:
    volume = await bench.volume(FINISHED, holder="node-a", state=VolumeState.IN_USE, size_bytes=2 * GIB)
    bench.disk(volume, fs_type="ext4", uuid=UUID, directories={"data"})
    assert await bench.to(Goal.MOUNTED, known=replace(volume, size_bytes=GIB)) == volume


async def test_a_late_device_of_a_volume_that_is_being_detached_is_not_mounted(bench: Bench) -> None:
    volume = await bench.volume(FINISHED, holder="node-a", state=VolumeState.DETACHING)
    bench.disk(volume, fs_type="ext4", uuid=UUID, directories={"data"})

    class LateDevice(MemoryDriver):
        def locate(self, volume: Volume) -> MountSource | None:
            return super().locate(volume) if "get" in self._cloud.calls else None

    bench.driver = LateDevice(bench.cloud)
    with pytest.raises(OperationTimeout, match="the backend reports detaching"):
        await bench.to(Goal.MOUNTED, known=volume)
    assert bench.host.mounts == {}


async def test_a_cached_record_of_an_unfinished_format_is_never_trusted(bench: Bench) -> None:
    """The cached record is pending, but the volume has been formatted and used since."""
    volume = await bench.volume(FINISHED, holder="node-a", state=VolumeState.IN_USE)
    disk = bench.disk(volume, fs_type="ext4", uuid=UUID, directories={"data"})
    await bench.to(Goal.MOUNTED, known=replace(volume, filesystem=FilesystemTag()))
    assert disk.formats == 0
    assert TARGET in bench.host.mounts


async def test_a_volume_created_anew_under_an_old_name_is_not_mistaken_for_the_old(bench: Bench) -> None:
    old = await bench.volume(FINISHED)
    bench.cloud.volumes.clear()
    new = await bench.volume()
    mounted = await bench.to(Goal.MOUNTED, known=old)
    assert mounted is not None
    assert mounted.volume_id == new.volume_id
    assert bench.disk(new).formats == 1


class FailingMkfs(MemoryHost):
    """mkfs always fails."""

    async def make_filesystem(self, source: MountSource, spec: VolumeSpec, tag: FilesystemTag) -> None:
        raise CommandFailed(("mkfs.ext4", source.name), 1, "no space left\n")


async def test_a_failed_mkfs_is_reported_and_the_begun_format_is_recorded(bench: Bench) -> None:
    volume = await bench.volume()
    bench.host = FailingMkfs()
    with pytest.raises(CommandFailed) as failed:
        await bench.to(Goal.MOUNTED)
    assert str(failed.value) == (
        "mkfs.ext4 ended with exit code 1: no space left "
        f'[mounted "v", memory {volume.volume_id}, node node-a].'
    )
    assert bench.cloud.volumes[volume.volume_id].filesystem.phase is FilesystemPhase.FORMATTING


class FullDisk(MemoryHost):
    """No directory can be made."""

    async def make_data_directory(self, target: str, subpath: str, spec: VolumeSpec) -> None:
        raise HostError("no space left")


async def test_a_format_is_finished_only_once_the_data_directory_is_there(bench: Bench) -> None:
    volume = await bench.volume()
    bench.host = FullDisk()
    with pytest.raises(HostError, match="no space left"):
        await bench.to(Goal.MOUNTED)
    assert bench.cloud.volumes[volume.volume_id].filesystem.phase is FilesystemPhase.FORMATTING


class NoDevice(MemoryDriver):
    """An attach that succeeds and has no device."""

    def locate(self, volume: Volume) -> MountSource | None:
        return None


async def test_a_step_without_effect_is_not_repeated_forever(bench: Bench) -> None:
    await bench.volume(FINISHED)
    bench.driver = NoDevice(bench.cloud)
    with pytest.raises(UnexpectedState) as stuck:
        await bench.to(Goal.MOUNTED)
    assert stuck.value.cause == "step attach had no effect"


async def test_the_first_change_and_only_it_is_announced(bench: Bench) -> None:
    await bench.to(Goal.PRESENT, spec=spec_of("v"))
    assert bench.changes == [None]
    created = await bench.to(Goal.PRESENT, spec=spec_of("v"))
    assert bench.changes == [None]
    await bench.to(Goal.MOUNTED)
    assert bench.changes == [None, created]


async def test_nothing_is_changed_if_the_announcement_fails(bench: Bench) -> None:
    volume = await bench.volume()

    async def fail(_: Volume | None) -> None:
        raise BackendUnavailable("the state file cannot be used")

    with pytest.raises(BackendUnavailable):
        await bench.run(Goal.MOUNTED, before_change=fail).to_goal()
    assert bench.cloud.volumes == {volume.volume_id: volume}


async def test_the_spec_decides_what_is_created(bench: Bench) -> None:
    created = await bench.to(Goal.PRESENT, spec=spec_of("v", 3 * GIB))
    assert created is not None
    assert created.spec == spec_of("v", 3 * GIB)


async def test_a_confirmed_absence_is_in_the_result(bench: Bench) -> None:
    run = bench.run(Goal.MOUNTED)
    with pytest.raises(VolumeNotFound):
        await run.to_goal()
    assert run.is_absent
    await bench.volume()
    run = bench.run(Goal.DETACHED)
    await run.to_goal()
    assert not run.is_absent


async def test_after_the_detach_of_a_volume_that_the_backend_has_lost_it_is_looked_up_again(
    bench: Bench,
) -> None:
    volume = await bench.volume()
    attached = {volume.volume_id}
    bench.cloud.volumes.clear()

    class LostVolume(MemoryDriver):
        def locate(self, volume: Volume) -> MountSource | None:
            return self._source(volume) if volume.volume_id in attached else None

        async def detach(self, volume: Volume) -> None:
            attached.remove(volume.volume_id)

    bench.driver = LostVolume(bench.cloud)
    run = bench.run(Goal.DETACHED, known=volume)
    await run.to_goal()
    assert run.is_absent
    assert attached == set()
