import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.host.disks import FS_TYPES, SMALL_MIB, Disk, Disks, assert_let_go, damage_inode, end, run
from volplug.errors import MountFailed, VolumeInUse
from volplug.host import mountinfo, mounts
from volplug.host.base import MountRequest
from volplug.host.devices import is_held_now
from volplug.models import BlockDevice, MountState

LOOP0, LOOP1, LOOP3 = (os.makedev(7, minor) for minor in (0, 1, 3))


@pytest.fixture
def disk(disks: Disks) -> Disk:
    return made(disks, "ext4")


@pytest.fixture
def target(disks: Disks) -> str:
    return disks.target()


def made(disks: Disks, fs_type: str, name: str = "image") -> Disk:
    disk = disks.blank(SMALL_MIB[fs_type], name)
    run(f"mkfs.{fs_type}", "-q", disk.path)
    return disk


def mount(disk: Disk, target: str, fs_type: str = "ext4", *options: str) -> None:
    mounts.mount(MountRequest(disk.source, target, fs_type, options))


def entries(captures: Path, name: str) -> list[mountinfo.MountEntry]:
    text = (captures / "mountinfo-host.txt").read_text()
    return mountinfo.entries_at(text, f"/var/lib/volplug/mounts/{name}")


def test_nothing_mounted_is_none() -> None:
    assert mounts.judge([], LOOP0, is_alive=True) is MountState.NONE
    assert mounts.judge([], None, is_alive=True) is MountState.NONE


def test_a_captured_mount_is_ok_on_its_device_and_stale_on_every_other(captures: Path) -> None:
    found = entries(captures, "todolist")
    assert mounts.judge(found, LOOP0, is_alive=True) is MountState.OK
    assert mounts.judge(found, LOOP1, is_alive=True) is MountState.STALE
    assert mounts.judge(found, None, is_alive=True) is MountState.STALE


def test_the_same_mount_shown_twice_is_ok_but_another_layer_makes_it_stale(captures: Path) -> None:
    todolist, archive = entries(captures, "todolist"), entries(captures, "archive")
    assert mounts.judge([*todolist, *todolist], LOOP0, is_alive=True) is MountState.OK
    assert mounts.judge([*archive, *todolist], LOOP0, is_alive=True) is MountState.STALE
    assert mounts.judge([*todolist, *archive], LOOP0, is_alive=True) is MountState.STALE


def test_a_filesystem_that_stopped_after_an_error_is_read_only(captures: Path) -> None:
    assert mounts.judge(entries(captures, "broken"), LOOP3, is_alive=True) is MountState.READ_ONLY
    assert mounts.judge(entries(captures, "todolist"), LOOP0, is_alive=False) is MountState.READ_ONLY


@pytest.mark.loop
@pytest.mark.parametrize("fs_type", FS_TYPES)
def test_a_volume_is_mounted_used_and_unmounted(disks: Disks, target: str, fs_type: str) -> None:
    disk = made(disks, fs_type)
    assert mounts.mount_state(target, disk.source) is MountState.NONE
    for number in range(3):
        mount(disk, target, fs_type)
        assert mounts.mount_state(target, disk.source) is MountState.OK
        (Path(target) / f"file-{number}").write_text("kept")
        assert mounts.mounts_below(os.path.dirname(target)) == [target]
        mounts.unmount(target)
        assert mounts.mount_state(target, disk.source) is MountState.NONE
        assert not os.path.exists(target)
    assert_let_go(disk)
    mount(disk, target, fs_type)
    assert sorted(name for name in os.listdir(target) if name != "lost+found") == [
        "file-0",
        "file-1",
        "file-2",
    ]


@pytest.mark.loop
def test_options_reach_the_kernel(disk: Disk, target: str) -> None:
    mount(disk, target, "ext4", "noatime,nosuid", "data=journal")
    (line,) = (line for line in mountinfo.read().splitlines() if f" {target} " in line)
    assert "nosuid" in line
    assert "noatime" in line
    (entry,) = mountinfo.entries_at(mountinfo.read(), target)
    assert {"data=journal", "errors=remount-ro"} <= entry.options


@pytest.mark.loop
def test_a_refused_option_is_named_and_leaves_no_directory(disk: Disk, target: str) -> None:
    with pytest.raises(MountFailed, match="Unknown parameter 'nonsense'"):
        mount(disk, target, "ext4", "nonsense")
    assert not os.path.exists(target)


@pytest.mark.loop
def test_a_damaged_filesystem_names_the_program_that_repairs_it(disk: Disk, target: str) -> None:
    damage_inode(disk.path, "<2>")  # the root
    with pytest.raises(MountFailed) as damaged:
        mount(disk, target)
    assert str(damaged.value) == (
        f"the volume's filesystem is damaged: mounting {disk.path} as ext4 failed (Bad message). "
        "Run e2fsck -f on the volume's device, or image, while it is not in use."
    )


@pytest.mark.loop
def test_what_is_no_such_filesystem_cannot_be_mounted(disk: Disk, target: str) -> None:
    with pytest.raises(MountFailed, match="as xfs failed: Invalid argument"):
        mount(disk, target, "xfs")
    with pytest.raises(MountFailed, match="as nofs failed: No such device"):
        mount(disk, target, "nofs")


@pytest.mark.loop
def test_what_has_gone_cannot_be_mounted(disks: Disks, target: str) -> None:
    disk = disks.blank(1)
    with pytest.raises(MountFailed, match="mounting /dev/nothing as ext4 failed: No such file or directory"):
        mount(replace(disk, source=replace(disk.source, device="/dev/nothing")), target)


@pytest.mark.loop
def test_a_place_below_a_file_cannot_be_made(disks: Disks, disk: Disk) -> None:
    Path(disks.target()).parent.touch()
    with pytest.raises(MountFailed, match="cannot be made: "):
        mount(disk, disks.target())


@pytest.mark.loop
def test_a_clone_of_a_mounted_xfs_can_be_mounted_beside_it(disks: Disks) -> None:
    origin = made(disks, "xfs")
    run("cp", "--sparse=always", str(origin.image), str(disks.directory / "clone"))
    clone = disks.attach(disks.directory / "clone")
    mount(origin, disks.target("origin"), "xfs")
    mount(clone, disks.target("clone"), "xfs")
    assert mounts.mount_state(disks.target("clone"), clone.source) is MountState.OK


@pytest.mark.loop
def test_the_bare_directory_and_its_parents_are_closed(disk: Disk, target: str) -> None:
    mount(disk, target)
    run("umount", target)  # behind our back, the bare directory appears
    assert os.stat(target).st_mode & 0o7777 == 0
    assert os.stat(os.path.dirname(target)).st_mode & 0o7777 == 0o700


@pytest.mark.loop
def test_a_bare_directory_left_by_a_crash_is_used_again(disk: Disk, target: str) -> None:
    os.makedirs(target, mode=0o755)
    mount(disk, target)
    assert mounts.mount_state(target, disk.source) is MountState.OK


@pytest.mark.loop
def test_files_in_the_bare_directory_are_neither_hidden_nor_removed(disk: Disk, target: str) -> None:
    os.makedirs(target)
    file = Path(target) / "written while nothing was mounted"
    file.write_text("precious")
    with pytest.raises(MountFailed, match="holds files that a mount would hide"):
        mount(disk, target)
    mounts.unmount(target)
    assert file.read_text() == "precious"


@pytest.mark.loop
def test_a_file_or_a_link_at_the_place_is_refused(disk: Disk, disks: Disks) -> None:
    os.makedirs(disks.target("elsewhere"))
    Path(disks.target("file")).touch()
    os.symlink(disks.target("elsewhere"), disks.target("link"))
    for name in ("file", "link"):
        with pytest.raises(MountFailed, match="is not a directory"):
            mount(disk, disks.target(name))


@pytest.mark.loop
def test_nothing_is_mounted_over_a_mount(disks: Disks, disk: Disk, target: str) -> None:
    other = made(disks, "ext4", "other")
    mount(disk, target)
    with pytest.raises(MountFailed, match="something is mounted at"):
        mount(other, target)
    assert mounts.mount_state(target, disk.source) is MountState.OK


@pytest.mark.loop
def test_every_layer_is_unmounted(disks: Disks, disk: Disk, target: str) -> None:
    other = made(disks, "ext4", "other")
    mount(disk, target)
    run("mount", other.path, target)
    assert mounts.mount_state(target, disk.source) is MountState.STALE
    assert mounts.mount_state(target, other.source) is MountState.STALE
    mounts.unmount(target)
    assert mounts.mount_state(target, disk.source) is MountState.NONE
    assert not os.path.exists(target)


@pytest.mark.loop
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("_MAX_LAYERS", 1, "after 1 layers there is still one"),
        ("_UMOUNT_NOFOLLOW", 1 << 30, "Invalid argument"),  # what the kernel does not know
    ],
)
def test_what_cannot_be_unmounted_is_an_error(
    disk: Disk, target: str, monkeypatch: pytest.MonkeyPatch, name: str, value: int, words: str
) -> None:
    mount(disk, target)
    run("mount", "--bind", target, target)
    monkeypatch.setattr(mounts, name, value)
    with pytest.raises(MountFailed, match=f"unmounting {target} failed: {words}"):
        mounts.unmount(target)
    assert mounts.mount_state(target, disk.source) is MountState.OK


@pytest.mark.loop
def test_unmounting_what_is_not_mounted_is_success(target: str) -> None:
    mounts.unmount(target)
    os.makedirs(target)
    mounts.unmount(target)
    assert not os.path.exists(target)


@pytest.mark.loop
def test_a_mount_in_use_stays_mounted(disks: Disks, disk: Disk, target: str) -> None:
    mount(disk, target)
    user = disks.holder(f"cd {target}")
    with pytest.raises(VolumeInUse, match="is busy"):
        mounts.unmount(target)
    assert mounts.mount_state(target, disk.source) is MountState.OK
    end(user)
    mounts.unmount(target)


@pytest.mark.loop
def test_another_device_at_the_place_is_stale(disks: Disks, disk: Disk, target: str) -> None:
    mount(disk, target)
    assert mounts.mount_state(target, disks.blank(1, "other").source) is MountState.STALE
    assert mounts.mount_state(target, BlockDevice("/dev/nothing", "gone", 1)) is MountState.STALE
    assert mounts.mount_state(target, None) is MountState.STALE


@pytest.mark.loop
@pytest.mark.faults
def test_an_ext4_that_stopped_after_an_error_is_read_only_and_dirty(disk: Disk, target: str) -> None:
    mount(disk, target)
    Path(f"/sys/fs/ext4/{os.path.basename(disk.path)}/trigger_fs_error").write_text("test")
    assert mounts.mount_state(target, disk.source) is MountState.READ_ONLY
    with pytest.raises(OSError, match="Read-only") as caught:
        (Path(target) / "file").touch()
    assert caught.value.errno == errno.EROFS
    mounts.unmount(target)


@pytest.mark.loop
@pytest.mark.faults
def test_an_xfs_that_shut_itself_down_is_read_only(disks: Disks, target: str) -> None:
    disk = made(disks, "xfs")
    mount(disk, target, "xfs")
    run("xfs_io", "-x", "-c", "shutdown", target)
    assert mounts.mount_state(target, disk.source) is MountState.READ_ONLY
    mounts.unmount(target)


@pytest.mark.loop
def test_a_mount_root_reached_through_a_link_is_the_same_place(disks: Disks, disk: Disk, target: str) -> None:
    os.makedirs(os.path.dirname(target))
    link = disks.directory / "link"
    link.symlink_to(os.path.dirname(target))
    place = str(link / os.path.basename(target))
    mount(disk, place)
    assert mounts.mount_state(place, disk.source) is MountState.OK
    assert mounts.mount_state(target, disk.source) is MountState.OK
    assert mounts.mounts_below(str(link)) == [place]
    mounts.unmount(place)
    assert mounts.mount_state(target, disk.source) is MountState.NONE


@pytest.mark.loop
def test_a_mount_root_shared_with_itself_shows_each_mount_twice_and_that_is_ok(
    disks: Disks, disk: Disk, target: str
) -> None:
    root = os.path.dirname(target)
    os.makedirs(root)
    run("mount", "--bind", root, root)
    run("mount", "--make-shared", root)
    run("mount", "--bind", root, root)
    mount(disk, target)
    assert len(mountinfo.entries_at(mountinfo.read(), target)) == 2
    assert mounts.mount_state(target, disk.source) is MountState.OK
    mounts.unmount(target)
    assert mounts.mount_state(target, disk.source) is MountState.NONE
    assert_let_go(disk)


@pytest.mark.loop
def test_an_idle_copy_in_another_mount_namespace_ends_with_the_bare_directory(
    disks: Disks, disk: Disk, target: str
) -> None:
    """Such as a monitoring container that binds / : it would keep every volume on its host."""
    mount(disk, target)
    disks.in_another_namespace("true")
    run("umount", target)
    assert is_held_now(disk.path)  # umount alone does not reach the copy
    mounts.unmount(target)  # nothing mounted here, but the directory is removed
    assert_let_go(disk)


@pytest.mark.loop
@pytest.mark.parametrize("use", ["cd {target}", "exec 5<>{target}/open", "mount --bind {target} {elsewhere}"])
def test_a_copy_in_another_mount_namespace_that_is_used_holds_the_device_until_it_ends(
    disks: Disks, disk: Disk, target: str, use: str
) -> None:
    elsewhere = disks.directory / "elsewhere"
    elsewhere.mkdir()
    mount(disk, target)
    namespace = disks.in_another_namespace(use.format(target=target, elsewhere=elsewhere))
    mounts.unmount(target)
    assert mounts.mount_state(target, disk.source) is MountState.NONE
    assert is_held_now(disk.path)
    end(namespace)
    assert_let_go(disk)
