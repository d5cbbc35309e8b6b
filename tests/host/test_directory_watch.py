"""What the kernel reports of a directory, on real filesystems."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from volplug.host import libc
from volplug.host.directory_watch import Changes, DirectoryWatch

NOTHING = Changes()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "v.json").write_text("before")
    return tmp_path


@pytest.fixture
def watch(directory: Path) -> Iterator[DirectoryWatch]:
    watch = DirectoryWatch(str(directory))
    yield watch
    watch.close()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda path: (path / "v.json").write_text("after"), {"v.json"}),
        (lambda path: (path / "v.json").unlink(), {"v.json"}),
        (lambda path: (path / "v.json").rename(path / "w.json"), {"v.json", "w.json"}),
        (lambda path: os.truncate(path / "v.json", 1), {"v.json"}),
        (lambda path: (path / "v.json").chmod(0o600), {"v.json"}),
        (lambda path: (path / "new.img").touch(), {"new.img"}),
        (lambda path: os.link(path / "v.json", path / "link"), {"link"}),
    ],
)
def test_every_change_of_a_file_is_reported_once(
    directory: Path, watch: DirectoryWatch, change: Callable[[Path], object], names: set[str]
) -> None:
    change(directory)
    assert watch.changes().changed == names
    assert watch.changes() == NOTHING


def test_reading_changes_nothing_and_shows_as_an_opening(directory: Path, watch: DirectoryWatch) -> None:
    (directory / "v.json").read_text()
    assert watch.changes() == Changes(opened=frozenset({"v.json"}))
    os.stat(directory / "v.json")
    os.listdir(directory)
    assert watch.changes() == NOTHING


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.chmod(0o755),
        lambda path: path.rename(path.with_name("moved")),
        Path.rmdir,
    ],
    ids=["mode", "moved", "removed"],
)
def test_what_happens_to_the_directory_itself_loses_everything(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    directory = tmp_path / "own"
    directory.mkdir(mode=0o700)
    watch = DirectoryWatch(str(directory))
    change(directory)
    assert watch.changes().is_lost
    watch.close()


def test_more_events_than_the_kernel_keeps_lose_everything(directory: Path, watch: DirectoryWatch) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(limit // 2 + 10):
        (directory / "v.json").chmod(0o600 if number % 2 else 0o644)
        (directory / "other").touch()
    assert watch.changes().is_lost


@pytest.mark.loop
def test_a_mount_or_unmount_anywhere_may_have_moved_the_path(directory: Path, watch: DirectoryWatch) -> None:
    for command in (["mount", "-t", "tmpfs", "tmpfs", str(directory)], ["umount", str(directory)]):
        subprocess.run(command, check=True)
        assert watch.changes().may_be_elsewhere
        assert not watch.changes().may_be_elsewhere


def test_only_a_local_filesystem_is_watched(directory: Path) -> None:
    assert libc.filesystem_magic("/proc") == 0x9FA0  # PROC_SUPER_MAGIC of linux/magic.h
    with pytest.raises(OSError, match="no local filesystem"):
        DirectoryWatch("/proc")


def test_a_watch_that_is_dropped_uses_nothing_any_more(directory: Path) -> None:
    """The kernel gives a user few of them."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        DirectoryWatch(str(directory))
    assert len(os.listdir("/proc/self/fd")) == before
