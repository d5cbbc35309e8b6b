"""The lab's ZFS: what tests lean on."""

import contextlib
from pathlib import Path

import pytest

from tests.lab.lane import new_directory
from tests.lab.namespaces import Namespaces
from tests.lab.requirements import HAS_OPENZFS, ZFS
from tests.lab.waiting import wait_until
from tests.lab.zfs import ZfsFuse, ZfsPool
from volplug.sizes import MIB

pytestmark = [*ZFS, pytest.mark.skipif(HAS_OPENZFS, reason="is about zfs-fuse")]


def test_a_pool_has_datasets_that_are_mounted_in_the_namespace_of_its_user(
    pool: ZfsPool, parent: str, tmp_path: Path
) -> None:
    pool.zfs.zfs("create", "-o", f"mountpoint={tmp_path / 'm'}", f"{parent}/db")
    (tmp_path / "m" / "file").write_text("data")
    pool.zfs.zfs("unmount", f"{parent}/db")
    assert list((tmp_path / "m").iterdir()) == []
    # The daemon hears of the end of a mount later than who unmounts.
    mount = ["zfs", "mount", f"{parent}/db"]
    wait_until(lambda: pool.zfs.run(mount).returncode == 0, 10, "the dataset is no longer busy")
    assert (tmp_path / "m" / "file").read_text() == "data"
    pool.zfs.zfs("unmount", f"{parent}/db")


def test_two_daemons_do_not_see_each_other(pool: ZfsPool) -> None:
    directory = new_directory()
    with contextlib.closing(Namespaces(directory)) as inside:
        other = ZfsFuse(directory, inside)
        with contextlib.closing(other):
            other.make_pool("other", size_bytes=64 * MIB)
            assert other.zpool("list", "-H", "-o", "name") == "other\n"
            assert "other" not in pool.zfs.zpool("list", "-H", "-o", "name").split()
    directory.rmdir()


def test_a_daemon_that_was_killed_leaves_nothing_that_hangs(tmp_path: Path) -> None:
    directory = new_directory()
    with contextlib.closing(Namespaces(directory)) as inside:
        daemon = ZfsFuse(directory, inside)
        daemon.make_pool("killed", size_bytes=64 * MIB)
        daemon.zfs("create", "-o", "mountpoint=/run/m", "killed/a")
        daemon.kill()
        assert "not connected" in daemon.run(["ls", "/run/m"]).stderr
        daemon.start()
        assert daemon.zfs("list", "-H", "-o", "name", "-r", "killed").split() == ["killed", "killed/a"]
        daemon.run(["umount", "/run/m"])
        daemon.close()
    directory.rmdir()
