import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.host.disks import SMALL_MIB, Disk, Disks, run
from volplug.host import holders, mounts
from volplug.host.base import MountRequest
from volplug.models import BlockDevice, MountSource

CONTAINER = "4878f09cde718c4b5f230eb47571282bae5f01caa6e3a52f73eb7efc8fff32b4"


@pytest.fixture(params=["ext4", "btrfs"])
def disk(disks: Disks, request: pytest.FixtureRequest) -> Disk:
    """A mounted disk; btrfs shows neither mounts nor files under its disk's number."""
    made = disks.blank(SMALL_MIB[request.param])
    run(f"mkfs.{request.param}", "-q", made.path)
    mounts.mount(MountRequest(made.source, disks.target(), request.param))
    return made


def described(source: MountSource | None, target: str) -> str:
    """What is said, less the programs of other tests that look into all devices of the machine."""
    names = holders.describe(source, target).split(", ")
    return ", ".join(name for name in names if "(sh)" in name or not name.startswith("process"))


def shell(program: subprocess.Popen[bytes]) -> str:
    return f"process {program.pid} (sh)"


@pytest.mark.parametrize(
    "text",
    [
        f"0::/docker/{CONTAINER}\n",
        f"0::/system.slice/docker-{CONTAINER}.scope\n",
        f"0::/machine.slice/libpod-{CONTAINER}.scope\n",
        f"254 236 254:0 /var/lib/docker/containers/{CONTAINER}/hosts /etc/hosts rw - ext4 /dev/vda rw\n",
    ],
)
def test_a_container_is_known_by_cgroup_or_mounts(text: str) -> None:
    assert holders.container_in(text) == "4878f09cde71"


@pytest.mark.parametrize("text", ["", "0::/init.scope\n", f"0::/{CONTAINER}\n", f"0::/docker/{CONTAINER}0\n"])
def test_what_is_no_container_is_none(text: str) -> None:
    assert holders.container_in(text) is None


def test_a_container_is_known_by_a_captured_mountinfo(captures: Path) -> None:
    assert holders.container_in((captures / "mountinfo-container.txt").read_text()) == "0e93bb4162fe"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b", "c"], "a, b, c"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
    ],
)
def test_three_are_named_and_the_others_counted(names: list[str], text: str) -> None:
    assert holders.shorten(names) == text


@pytest.mark.loop
@pytest.mark.parametrize("use", ["cd {target}", "exec 5<>{target}/open"])
def test_processes_that_use_the_mount_are_named(disks: Disks, disk: Disk, use: str) -> None:
    target = disks.target()
    programs = [disks.holder(use.format(target=target)) for _ in range(2)]
    assert described(disk.source, target) == ", ".join(sorted(map(shell, programs)))
    assert described(None, target) == ", ".join(sorted(map(shell, programs)))


@pytest.mark.loop
def test_a_process_with_the_device_itself_open_is_named(disks: Disks) -> None:
    disk = disks.blank(1)
    program = disks.holder(f"exec 5<{disk.path}")
    assert described(disk.source, disks.target()) == shell(program)


@pytest.mark.loop
def test_a_mount_at_another_place_is_named(disks: Disks, disk: Disk) -> None:
    place = disks.directory / "elsewhere"
    place.mkdir()
    run("mount", "--bind", disks.target(), str(place))
    assert described(disk.source, disks.target()) == f"a mount at {place}"


@pytest.mark.loop
def test_a_mount_in_another_namespace_is_named_by_a_process_there(disks: Disks, disk: Disk) -> None:
    program = disks.in_another_namespace("true")
    run("umount", disks.target())
    assert described(disk.source, disks.target()) == f"{shell(program)} in another mount namespace"


@pytest.mark.loop
@pytest.mark.parametrize("propagation", ["slave", "unchanged"])
def test_a_copy_of_the_mount_that_an_unmount_takes_with_it_is_no_use(
    disks: Disks, disk: Disk, propagation: str
) -> None:
    """As services of systemd have of each mount; one that has a file open there uses it."""
    target, unseen = disks.target(), holders.UNSEEN_HOLDER
    run("mount", "--make-shared", target)
    apart = ("unshare", "-m", "--propagation", propagation)
    program = disks.holder("true", *apart)
    assert str(program.pid) not in holders.describe(disk.source, target)
    assert described(disk.source, target) in ("", unseen)
    user = disks.holder(f"cd {target}", *apart)
    assert described(disk.source, target) == shell(user)


@pytest.mark.loop
def test_swap_is_named(disks: Disks) -> None:
    disk = disks.blank(16)
    run("mkswap", disk.path)
    run("swapon", disk.path)
    try:
        assert described(disk.source, disks.target()) == "swap"
    finally:
        run("swapoff", disk.path)


@pytest.mark.loop
def test_where_nobody_is_seen_that_is_said(disks: Disks) -> None:
    disk = disks.blank(1)
    unseen = "another mount namespace (often a container that binds /)"
    assert described(disk.source, disks.target()) == unseen
    assert described(BlockDevice("/dev/nothing", "gone", 1), disks.target()) == unseen
    assert described(None, disks.target()) == unseen


@pytest.mark.loop
def test_the_search_ends_with_its_time(disks: Disks, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disks.holder(f"cd {disks.target()}")
    monkeypatch.setattr(holders, "_DEADLINE_S", -1)
    assert holders.describe(disk.source, disks.target()) == holders.UNSEEN_HOLDER


@pytest.mark.loop
def test_processes_that_end_while_they_are_looked_at_are_passed_over(
    disks: Disks, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = disks.holder(f"cd {disks.target()}")
    monkeypatch.setattr(holders, "_process_ids", lambda: ["0", str(program.pid)])  # there is no process 0
    assert holders.describe(disk.source, disks.target()) == shell(program)


@pytest.mark.loop
def test_of_a_device_that_has_gone_but_for_its_node_nobody_is_seen(disks: Disks) -> None:
    node = disks.directory / "gone"
    os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(7, 1_000_000))
    assert described(BlockDevice(str(node), "gone", 1), disks.target()) == holders.UNSEEN_HOLDER
