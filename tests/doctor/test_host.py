"""Checks of the host: well on this one, and what is said of one that lacks something."""

import asyncio
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.doctor.conftest import Examine
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until
from volplug.doctor.host import (
    check_capabilities,
    check_clock,
    check_devices,
    check_filesystem,
    check_kernel,
    check_mount_propagation,
    check_program,
    judge_capabilities,
    judge_clock,
    judge_dev,
    judge_filesystem,
    judge_kernel,
    judge_program,
    judge_propagation,
)
from volplug.findings import Finding, Level
from volplug.host import mountinfo
from volplug.host.mountinfo import MountEntry

pytestmark = [pytest.mark.api, pytest.mark.loop]

GREEN, YELLOW, RED = Level
NOW_S = datetime(2027, 5, 1, tzinfo=UTC).timestamp()


def entry(peer_group: int = 0, mountpoint: str = "/") -> MountEntry:
    return MountEntry(0, "/", mountpoint, "ext4", "/dev/vda1", frozenset(), peer_group)


async def test_all_is_well_on_this_host(volplug: VolplugProcess, examine: Examine) -> None:
    findings = await examine(
        check_capabilities,
        check_kernel,
        check_filesystem,
        check_program,
        check_devices,
        check_clock,
        check_mount_propagation,
    )
    assert [each for each in findings if each.level is not GREEN] == []
    subjects = {each.subject: each.message for each in findings}
    assert "mkfs.ext4 is 1." in subjects["ext4"]
    assert subjects["blkid"][0].isdigit()
    assert "CAP_SYS_ADMIN" in subjects["user 0"]
    assert str(volplug.mount_root) in subjects


@pytest.mark.parametrize(
    ("judged", "level", "remedy"),
    [
        (lambda: judge_kernel("5.4.0-150", uses_loop=True, has_loop_control=True), RED, "Linux 5.8"),
        (lambda: judge_kernel("5.4.0-150", uses_loop=False, has_loop_control=False), GREEN, ""),
        (lambda: judge_kernel("6.1.0-9-amd64", uses_loop=True, has_loop_control=False), RED, "modprobe loop"),
        (lambda: judge_filesystem("xfs", frozenset({"xfs"}), "", is_wanted=True), RED, "package xfsprogs"),
        (lambda: judge_filesystem("xfs", frozenset({"xfs"}), "", is_wanted=False), GREEN, ""),
        (lambda: judge_filesystem("btrfs", frozenset({"xfs"}), "6.2", is_wanted=True), RED, "module btrfs"),
        (lambda: judge_filesystem("btrfs", None, "6.2", is_wanted=True), GREEN, ""),
        (lambda: judge_program("blkid", "", "util-linux"), RED, "package util-linux"),
        (lambda: judge_program("fsck.ext4", "", "e2fsprogs"), RED, "package e2fsprogs"),
        (lambda: judge_capabilities("CapEff:\t00000000a80425fb\n", 1000), RED, "sudo volplug doctor"),
        (lambda: judge_dev("tmpfs", [], needs_new_disks=True), RED, "/dev of the host"),
        (lambda: judge_dev("tmpfs", [], needs_new_disks=False), YELLOW, "/dev of the host"),
        (lambda: judge_dev("devtmpfs", ["nvme1n1"], needs_new_disks=False), RED, "/dev of the host"),
        (lambda: judge_clock(0.0, is_synchronised=True, is_needed=False), RED, "timedatectl set-ntp true"),
        (lambda: judge_clock(NOW_S, is_synchronised=False, is_needed=True), YELLOW, "timedatectl"),
        (lambda: judge_clock(NOW_S, is_synchronised=False, is_needed=False), GREEN, ""),
        (lambda: judge_propagation("/m", entry(), {"7": entry(3)}), RED, "PrivateTmp"),
        (lambda: judge_propagation("/m", entry(4), {"7": entry(3)}), RED, "PrivateTmp"),
        (lambda: judge_propagation("/m", entry(3), {"7": entry(3)}), GREEN, ""),
        (lambda: judge_propagation("/m", entry(), {"7": None}), GREEN, ""),
    ],
)
def test_what_is_missing_is_named_with_its_mend(
    judged: Callable[[], Finding], level: Level, remedy: str
) -> None:
    finding = judged()
    assert finding.level is level
    assert (remedy in finding.remedy) if remedy else finding.remedy == ""


async def test_a_namespace_that_hides_mounts_from_the_engine_is_found(
    volplug: VolplugProcess, examine: Examine
) -> None:
    program = volplug.state_dir.with_name("dockerd")  # the engine's name, and no more of it
    await asyncio.to_thread(shutil.copy, "/bin/sleep", program)
    argv = ("unshare", "--mount", "--propagation", "private", str(program), "600")
    engine = await asyncio.create_subprocess_exec(*argv)
    try:
        comm = Path(f"/proc/{engine.pid}/comm")
        await asyncio.to_thread(wait_until, lambda: comm.read_text() == "dockerd\n", 10, "it runs")
        (finding,) = await examine(check_mount_propagation)
    finally:
        engine.kill()
        await engine.wait()
    assert (finding.level, "PrivateTmp" in finding.remedy) == (RED, True)


def test_the_mount_of_a_path_is_the_innermost_and_topmost() -> None:
    text = (
        "20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        "21 20 8:2 / /var rw - ext4 /dev/sda2 rw\n"
        "22 21 8:3 / /var rw shared:7 master:2 - xfs /dev/sda3 rw\n"
        "23 20 8:4 / /variable rw - ext4 /dev/sda4 rw\n"
    )
    found = [mountinfo.entry_of(text, path) for path in ("/var/lib", "/var", "/variable/a", "/opt")]
    assert [(each.mountpoint, each.peer_group) for each in found if each] == [
        ("/var", 7),
        ("/var", 7),
        ("/variable", 0),
        ("/", 1),
    ]
