"""Filesystems without a device.

An ext4 by the name of its device stands for a dataset in the kernel's ZFS: a second mount shares its
filesystem, or is refused with EBUSY if one of both is read-only.
"""

import errno
from pathlib import Path

import pytest

from tests.host.disks import SMALL_MIB, Disk, Disks, aside, end, run
from tests.host.pool import POOL
from volplug.errors import DeviceNotFound, HostError, UnexpectedState, VolumeInUse
from volplug.host import holders, libc, mountinfo, mounts, named
from volplug.host.base import Host, HostReading, MountRequest
from volplug.host.machine import Machine
from volplug.models import (
    ContentKind,
    FilesystemPhase,
    FilesystemTag,
    MountState,
    NamedFilesystem,
    VolumeSpec,
)

UUID = "0c6f6d3c-9a0b-4f0e-8a4e-111122223333"
DATASET = NamedFilesystem("tank/volplug/db", "1859207659151288388", "zfs")
# /proc/self/mountinfo with OpenZFS 2.1.11, and with zfs-fuse 0.7.0
KERNEL = "28 26 0:24 / /m/db rw,relatime - zfs tank/volplug/db rw,xattr,noacl"
FUSE = "73 143 0:53 / /m/db rw,relatime - fuse.zfs tank/volplug/db rw,user_id=0,group_id=0,allow_other"


@pytest.fixture
def machine(tmp_path: Path) -> Host:
    return Machine(str(tmp_path / "mounts"), POOL)


@pytest.fixture
def disk(disks: Disks) -> Disk:
    made = disks.blank(SMALL_MIB["ext4"])
    run("mkfs.ext4", "-q", made.path)
    return made


@pytest.fixture
def source(disk: Disk) -> NamedFilesystem:
    return NamedFilesystem(disk.path, "1", "ext4")


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (KERNEL, MountState.OK),
        (FUSE, MountState.OK),
        (KERNEL.replace("xattr", "ro"), MountState.READ_ONLY),
        (KERNEL.replace("volplug/db rw", "volplug/db2 rw"), MountState.STALE),
        (KERNEL.replace("- zfs", "- ext4"), MountState.STALE),
        ("", MountState.NONE),
    ],
)
def test_a_mount_is_known_by_type_and_name(text: str, state: MountState) -> None:
    found = mountinfo.entries_at(text, "/m/db")
    assert mounts.judge(found, DATASET, is_alive=True) is state


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        (FilesystemTag(FilesystemPhase.FORMATTING, "zfs", UUID), ContentKind.OURS),
        (FilesystemTag(FilesystemPhase.FORMATTED, "zfs", UUID), ContentKind.OURS),
        (FilesystemTag(FilesystemPhase.FORMATTED, "ext4", UUID), ContentKind.FOREIGN),
        (FilesystemTag(), ContentKind.OURS),  # which the decision takes for a new volume that is not blank
    ],
)
def test_what_it_holds_is_judged_by_the_tag(tag: FilesystemTag, kind: ContentKind) -> None:
    assert named.contents_of(DATASET, tag).kind is kind


async def test_it_is_never_formatted_or_checked(machine: Host) -> None:
    tag = FilesystemTag(FilesystemPhase.FORMATTING, "ext4", UUID)
    for forbidden in (
        machine.make_filesystem(DATASET, VolumeSpec("db", 1), tag),
        machine.check_filesystem(DATASET, "ext4"),
    ):
        with pytest.raises(UnexpectedState, match="is a filesystem, and not a device"):
            await forbidden


async def test_what_cannot_be_tested_is_no_permit(machine: Host) -> None:
    unknown = NamedFilesystem("tank/volplug/db", "1", "no-such-type")
    with pytest.raises(HostError, match="it cannot be proven that tank/volplug/db is not in use"):
        await machine.is_held(unknown, 0)


async def test_without_its_key_the_remedy_is_to_load_it(
    machine: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an export and an import of its pool."""

    def deny(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    source = NamedFilesystem("tank/volplug/db", "1", "ext4")
    monkeypatch.setattr(libc.FsContext, "set", lambda *_: None)
    monkeypatch.setattr(libc.FsContext, "create", deny)
    monkeypatch.setattr(libc, "mount", deny)
    request = MountRequest(source, str(tmp_path / "mounts" / "db"), "ext4")
    for denied in (machine.is_held(source, 0), machine.mount(request, lambda: source)):
        with pytest.raises(HostError, match="Permission denied") as raised:
            await denied
        assert raised.value.remedy == "Load its key: zfs load-key tank/volplug/db"


@pytest.mark.loop
async def test_of_one_that_is_not_there_nothing_is_concluded(machine: Host) -> None:
    nothing = NamedFilesystem("/dev/nothing", "1", "ext4")
    with pytest.raises(DeviceNotFound):
        await machine.is_held(nothing, 0)
    assert not (await machine.inspect("/nowhere", lambda: nothing, test_release=True)).is_free


@pytest.mark.loop
@pytest.mark.parametrize(
    "use",
    [
        "mount {device} {place}",
        "mount -o ro {device} {place}",
        "mount {device} {place} && mkdir {place}/sub && mount --bind {place}/sub {place} && umount {place} "
        "&& mount --bind {place}/sub {place}",
        "mount {device} {place} && cd {place} && umount -l {place}",
    ],
)
async def test_each_use_in_another_mount_namespace_is_noticed_until_it_ends(
    machine: Host, disks: Disks, disk: Disk, source: NamedFilesystem, use: str
) -> None:
    place = disks.directory / "place"
    place.mkdir()
    assert not await machine.is_held(source, 0)
    user = disks.in_another_namespace(use.format(device=disk.path, place=place))
    assert await machine.is_held(source, 0)
    aside(end, user)
    assert not await machine.is_held(source, 5)
    assert disk.path not in aside(mountinfo.read), "the test leaves no mount"


@pytest.mark.loop
async def test_a_volumes_life(machine: Host, disks: Disks, source: NamedFilesystem) -> None:
    target, tag = disks.target(), FilesystemTag(FilesystemPhase.FORMATTING, "ext4", UUID)
    reading = await machine.inspect(target, lambda: source, tag=tag)
    assert reading.contents is not None
    assert (reading.mount, reading.contents.kind) == (MountState.NONE, ContentKind.OURS)
    request = MountRequest(source, target, "ext4", ("noatime",))
    assert await machine.mount(request, lambda: source) == HostReading(source, MountState.OK)
    assert await machine.mount_state(target, DATASET) is MountState.STALE
    assert (await machine.usage(target, None)).free_bytes > 0

    place = disks.directory / "place"
    place.mkdir()
    user = disks.in_another_namespace(f"mount --bind {target} {place}")
    assert not await machine.unmount(target, source)
    assert await machine.is_held(source, 0)
    named_user = f"process {user.pid} (sh) in another mount namespace"
    assert named_user in aside(holders.describe, source, target)
    assert await machine.mount(request, lambda: source) == HostReading(source, MountState.OK)
    aside(end, user)
    assert await machine.unmount(target, source)
    assert (await machine.inspect(target, lambda: source, test_release=True)).is_free


@pytest.mark.loop
async def test_what_is_mounted_read_only_elsewhere_is_in_use(
    machine: Host, disks: Disks, disk: Disk, source: NamedFilesystem
) -> None:
    place = disks.directory / "place"
    place.mkdir()
    run("mount", "-o", "ro", disk.path, str(place))
    with pytest.raises(VolumeInUse, match="is mounted in another way elsewhere"):
        await machine.mount(MountRequest(source, disks.target(), "ext4"), lambda: source)
