import os
from pathlib import Path

import pytest

from volplug.host.mountinfo import MountEntry, directly_below, entries_at, parse, read

ROOT = "/var/lib/volplug/mounts"


@pytest.fixture
def host(captures: Path) -> str:
    return (captures / "mountinfo-host.txt").read_text()


def test_every_line_of_a_real_file_is_read(host: str) -> None:
    entries = parse(host)
    assert len(entries) == len(host.splitlines())
    assert entries_at(host, f"{ROOT}/archive") == [
        MountEntry(
            device=os.makedev(7, 1),
            root="/",
            mountpoint=f"{ROOT}/archive",
            fs_type="xfs",
            source="/dev/loop1",
            options=frozenset({"rw", "nouuid", "inode64", "logbufs=8", "logbsize=32k", "noquota"}),
        )
    ]


def test_escaped_paths_are_found_and_shown_as_they_are(host: str) -> None:
    (entry,) = entries_at(host, f"{ROOT}/with blank")
    assert (entry.mountpoint, entry.fs_type, entry.source) == (f"{ROOT}/with blank", "btrfs", "/dev/loop2")


def test_a_path_that_begins_or_ends_like_a_mountpoint_is_none(host: str) -> None:
    for path in (ROOT, f"{ROOT}/todo", f"{ROOT}/todolist/data", "/todolist"):
        assert entries_at(host, path) == []


def test_mountpoints_directly_below_a_directory_are_listed_once(host: str) -> None:
    below = [f"{ROOT}/{name}" for name in ("archive", "broken", "todolist", "with blank")]
    assert directly_below(host + host, ROOT) == below
    assert directly_below(host, f"{ROOT}/") == below
    assert directly_below(host, "/var/lib/volplug") == []
    assert "/proc" in directly_below(host, "/")


def test_optional_fields_and_bind_roots_of_a_container_are_read(captures: Path) -> None:
    text = (captures / "mountinfo-container.txt").read_text()
    entries = {entry.mountpoint: entry for entry in parse(text)}
    assert entries["/"].fs_type == "overlay"
    assert entries["/data"].device == os.makedev(7, 1)
    assert entries["/etc/hosts"].root.endswith("/hosts")


def test_our_own_mounts_are_read() -> None:
    assert any(entry.mountpoint == "/proc" for entry in parse(read()))


@pytest.mark.parametrize(
    ("escaped", "path"),
    [
        (r"/a\040b", "/a b"),
        (r"/a\011b", "/a\tb"),
        (r"/a\012b", "/a\nb"),
        (r"/a\134b", "/a\\b"),
        (r"/a\134040b", r"/a\040b"),
    ],
)
def test_what_the_kernel_escapes_is_restored(escaped: str, path: str) -> None:
    line = f"42 27 7:0 / {escaped} rw - ext4 /dev/loop0 rw\n"
    assert [entry.mountpoint for entry in entries_at(line, path)] == [path]
