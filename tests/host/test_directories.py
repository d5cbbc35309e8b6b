import ctypes
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.host.disks import Disks, damage_inode, run
from volplug.errors import HostError
from volplug.host import directories, libc
from volplug.models import VolumeSpec

SPEC = VolumeSpec("volume", 1, uid=os.geteuid(), gid=os.getegid(), mode=0o2750)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_the_data_directory_is_made_with_owner_and_mode(tmp_path: Path) -> None:
    assert not directories.has_data_directory(str(tmp_path), "data", "ext4")
    directories.make_data_directory(str(tmp_path), "data", SPEC)
    assert directories.has_data_directory(str(tmp_path), "data", "ext4")
    assert mode(tmp_path / "data") == 0o2750


@pytest.mark.loop
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_owner_can_be_anybody(tmp_path: Path) -> None:
    directories.make_data_directory(str(tmp_path), "data", VolumeSpec("v", 1, uid=999, gid=998, mode=0o6711))
    made = (tmp_path / "data").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o7777) == (999, 998, 0o6711)


def test_making_it_again_keeps_what_is_in_it(tmp_path: Path) -> None:
    directories.make_data_directory(str(tmp_path), "data", SPEC)
    (tmp_path / "data" / "file").write_text("kept")
    directories.make_data_directory(str(tmp_path), "data", SPEC)
    assert (tmp_path / "data" / "file").read_text() == "kept"


def test_a_directory_that_holds_anything_keeps_its_owner_and_mode(tmp_path: Path) -> None:
    """It has been handed out before; an old view of its volume's tag must not take it from its database."""
    directories.make_data_directory(str(tmp_path), "data", SPEC)
    (tmp_path / "data" / "file").touch()
    (tmp_path / "data").chmod(0o700)
    directories.make_data_directory(str(tmp_path), "data", SPEC)
    assert mode(tmp_path / "data") == 0o700


def test_an_empty_subpath_is_the_root_itself(tmp_path: Path) -> None:
    directories.make_data_directory(str(tmp_path), "", SPEC)
    assert directories.has_data_directory(str(tmp_path), "", "ext4")
    assert mode(tmp_path) == 0o2750
    assert os.listdir(tmp_path) == []


def test_a_link_or_a_file_is_no_data_directory_and_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        assert not directories.has_data_directory(str(tmp_path), name, "ext4")
        with pytest.raises(HostError, match="cannot be made: Not a directory"):
            directories.make_data_directory(str(tmp_path), name, SPEC)
    assert mode(tmp_path / "elsewhere") == 0o700


def test_a_subpath_below_a_file_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not directories.has_data_directory(str(tmp_path), "file/data", "ext4")


def test_a_filesystem_that_does_not_answer_is_an_error_and_not_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        directories.has_data_directory(str(tmp_path), "x" * 300, "ext4")
    assert caught.value.cause.endswith("cannot be read: File name too long")


@pytest.mark.loop
def test_a_damaged_directory_names_the_program_that_repairs_it(disks: Disks) -> None:
    disk, target = disks.blank(8), Path(disks.target())
    target.mkdir(parents=True)
    run("mkfs.ext4", "-q", disk.path)
    run("mount", disk.path, str(target))
    directories.make_data_directory(str(target), "data", SPEC)
    run("umount", str(target))
    damage_inode(disk.path, "data")
    run("mount", disk.path, str(target))
    for how, call in (
        ("read", lambda: directories.has_data_directory(str(target), "data", "ext4")),
        ("made", lambda: directories.make_data_directory(str(target), "data", SPEC)),
    ):
        with pytest.raises(HostError) as damaged:
            call()
        assert str(damaged.value) == (
            f"the volume's filesystem is damaged: {target}/data cannot be {how} (Bad message). "
            "Run e2fsck -f on the volume's device, or image, while it is not in use."
        )


def test_a_filesystem_that_cannot_be_written_to_its_disk_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def syncfs(_: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(libc, "_libc", SimpleNamespace(syncfs=syncfs))
    with pytest.raises(HostError, match="data cannot be made: Input/output error"):
        directories.make_data_directory(str(tmp_path), "data", SPEC)
