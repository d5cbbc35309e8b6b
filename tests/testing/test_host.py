"""The machine in memory has the kernel's manners that the core's tests rely on."""

import pytest

from volplug.errors import MountFailed, UnexpectedState, VolumeInUse
from volplug.host.base import HostReading, MountRequest
from volplug.models import (
    BlockDevice,
    ContentKind,
    FilesystemPhase,
    FilesystemTag,
    MountSource,
    MountState,
    NamedFilesystem,
    VolumeSpec,
)
from volplug.sizes import GIB
from volplug.testing.host import Disk, MemoryHost

SOURCE = BlockDevice("memory:a", "a", GIB)
NAMED = NamedFilesystem("memory:a", "a", "zfs")
UUID = "6f1c2b1e-0d6c-4a52-8f0a-0c3f4c1d9b77"
PLANNED = FilesystemTag(FilesystemPhase.FORMATTING, "ext4", UUID)
FINISHED = FilesystemTag(FilesystemPhase.FORMATTED, "ext4", UUID)
SPEC = VolumeSpec("v", GIB)


@pytest.fixture
def host() -> MemoryHost:
    return MemoryHost()


async def formatted(host: MemoryHost) -> Disk:
    await host.make_filesystem(SOURCE, SPEC, PLANNED)
    return host.disk(SOURCE.device)


@pytest.mark.parametrize(
    ("disk", "tag", "kind"),
    [
        (Disk(), FilesystemTag(), ContentKind.BLANK),
        (Disk(), FINISHED, ContentKind.BLANK),
        (Disk(fs_type="ext4", uuid=UUID), FINISHED, ContentKind.OURS),
        (Disk(fs_type="ext4", uuid=UUID), PLANNED, ContentKind.OURS),
        (Disk(fs_type="ext4", uuid=UUID), FilesystemTag(), ContentKind.FOREIGN),
        (Disk(fs_type="ext4", uuid="other"), FINISHED, ContentKind.FOREIGN),
        (Disk(fs_type="xfs", uuid=UUID), FINISHED, ContentKind.FOREIGN),
        (Disk(fs_type="ext4", uuid=UUID, is_dirty=True), FINISHED, ContentKind.DIRTY),
        (Disk(fs_type="ext4", uuid=UUID, is_dirty=True), PLANNED, ContentKind.DIRTY),
        (Disk(is_partial=True), PLANNED, ContentKind.PARTIAL),
        (Disk(is_partial=True), FilesystemTag(), ContentKind.FOREIGN),
        (Disk(foreign="a LUKS header"), PLANNED, ContentKind.FOREIGN),
    ],
)
async def test_contents_are_judged_against_the_tag(disk: Disk, tag: FilesystemTag, kind: ContentKind) -> None:
    assert (await MemoryHost({SOURCE.device: disk}).read_contents(SOURCE, tag)).kind is kind


async def test_an_unmount_succeeds_although_a_container_uses_the_filesystem(host: MemoryHost) -> None:
    await formatted(host)
    await host.mount(MountRequest(SOURCE, "/m/v", "ext4"), lambda: SOURCE)
    host.holders[SOURCE.device] = {"container web"}
    await host.unmount("/m/v")
    assert await host.mount_state("/m/v", SOURCE) is MountState.NONE
    assert await host.is_held(SOURCE, 0)
    assert await host.describe_holders(SOURCE, "/m/v") == "container web"


async def test_a_mount_of_ones_own_holds_the_device_as_well(host: MemoryHost) -> None:
    await formatted(host)
    await host.mount(MountRequest(SOURCE, "/m/v", "ext4"), lambda: SOURCE)
    assert await host.is_held(SOURCE, 0)
    with pytest.raises(VolumeInUse):
        await host.make_filesystem(SOURCE, SPEC, PLANNED)
    await host.unmount("/m/v")
    assert not await host.is_held(SOURCE, 0)


async def test_a_busy_mount_stays(host: MemoryHost) -> None:
    await formatted(host)
    await host.mount(MountRequest(SOURCE, "/m/v", "ext4"), lambda: SOURCE)
    host.busy_targets["/m/v"] = "process 5 (sh)"
    with pytest.raises(VolumeInUse):
        await host.unmount("/m/v")
    assert await host.mounts_below("/m") == ["/m/v"]


async def test_what_is_not_there_cannot_be_mounted(host: MemoryHost) -> None:
    with pytest.raises(MountFailed):
        await host.mount(MountRequest(SOURCE, "/m/v", "ext4"), lambda: SOURCE)
    assert host.mounts == {}


async def test_a_format_leaves_nothing_of_what_was_there(host: MemoryHost) -> None:
    disk = await formatted(host)
    await host.mount(MountRequest(SOURCE, "/m/v", "ext4"), lambda: SOURCE)
    await host.make_data_directory("/m/v", "data", SPEC)
    await host.unmount("/m/v")
    await host.make_filesystem(SOURCE, SPEC, PLANNED)
    assert (disk.directories, disk.formats) == (set(), 2)


@pytest.mark.parametrize(
    ("mounted", "source", "state"),
    [
        (None, SOURCE, MountState.NONE),
        ("memory:a", SOURCE, MountState.OK),
        ("memory:b", SOURCE, MountState.STALE),
        ("memory:a", None, MountState.STALE),
        ("memory:a", NAMED, MountState.OK),
        ("memory:b", NAMED, MountState.STALE),
    ],
)
async def test_a_mount_is_judged_by_its_source(
    host: MemoryHost, mounted: str | None, source: MountSource | None, state: MountState
) -> None:
    if mounted:
        host.mounts["/m/v"] = mounted
    assert await host.mount_state("/m/v", source) is state


async def test_a_check_makes_a_stopped_filesystem_writable_again(host: MemoryHost) -> None:
    disk = await formatted(host)
    host.mounts["/m/v"] = SOURCE.device
    host.read_only.add(SOURCE.device)
    disk.is_dirty = True
    assert await host.mount_state("/m/v", SOURCE) is MountState.READ_ONLY
    await host.check_filesystem(SOURCE, "ext4")
    assert (await host.mount_state("/m/v", SOURCE), disk.is_dirty) == (MountState.OK, False)


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_missing_data_directory_is_reported_by_the_mount(host: MemoryHost, is_there: bool) -> None:
    disk = await formatted(host)
    disk.directories = {"data"} if is_there else set()
    request = MountRequest(SOURCE, "/m/v", "ext4", data_directory="data")
    reading = await host.mount(request, lambda: SOURCE)
    assert reading == HostReading(SOURCE, MountState.OK, lacks_data_directory=not is_there)


async def test_one_reading_has_what_the_next_step_needs(host: MemoryHost) -> None:
    await formatted(host)
    tag = FilesystemTag(FilesystemPhase.FORMATTED, PLANNED.fs_type, PLANNED.uuid)
    free = await host.inspect("/m/v", lambda: SOURCE, tag=tag, test_release=True)
    assert (free.mount, free.is_free, free.contents and free.contents.kind) == (
        MountState.NONE,
        True,
        ContentKind.OURS,
    )
    host.holders[SOURCE.device] = {"container web"}
    assert not (await host.inspect("/m/v", lambda: SOURCE, test_release=True)).is_free
    assert await host.inspect("/m/v", lambda: None, tag=tag) == HostReading(None, MountState.NONE)


async def test_a_filesystem_by_name_is_mounted_as_it_is_and_never_formatted_or_checked(
    host: MemoryHost,
) -> None:
    tag = FilesystemTag(FilesystemPhase.FORMATTING, "zfs", PLANNED.uuid)
    assert (await host.read_contents(NAMED, tag)).kind is ContentKind.OURS
    assert (await host.read_contents(NAMED, PLANNED)).kind is ContentKind.FOREIGN
    for forbidden in (host.make_filesystem(NAMED, SPEC, tag), host.check_filesystem(NAMED, "zfs")):
        with pytest.raises(UnexpectedState):
            await forbidden
    mounted = await host.mount(MountRequest(NAMED, "/m/v", "zfs"), lambda: NAMED)
    assert mounted.mount is MountState.OK
    assert await host.is_held(NAMED, 0)
    assert await host.unmount("/m/v", NAMED)
