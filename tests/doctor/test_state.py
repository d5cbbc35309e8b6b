"""The state directory, its file and its disk: well on a real disk, and each way in which they are not."""

import asyncio
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.doctor.conftest import Examine, mend, only
from tests.lab.plugin import VolplugProcess
from tests.store.files import set_version
from volplug.doctor.state import (
    check_space,
    check_state_directory,
    check_state_file,
    doubts_of_filesystem,
    judge_space,
)
from volplug.errors import HostError
from volplug.findings import Level
from volplug.sizes import GIB, MIB

pytestmark = [pytest.mark.api, pytest.mark.loop]

GREEN, YELLOW, RED = Level


async def test_all_is_well_while_volplug_runs(volplug: VolplugProcess, examine: Examine) -> None:
    directory, file, *spaces = await examine(check_state_directory, check_state_file, check_space)
    assert {each.level for each in (directory, file, *spaces)} == {GREEN}
    assert directory.message == f"is closed to other users, in use by process {volplug.pid}"
    assert file.message == "can be read, 0 volumes in it"
    assert [each.subject for each in spaces] == [
        str(volplug.state_dir),
        str(volplug.state_dir / "backends/loop"),
    ]


async def test_before_the_first_start_there_is_nothing_to_complain_of(examine: Examine) -> None:
    directory, file = await examine(check_state_directory, check_state_file)
    assert (directory.level, directory.remedy) == (YELLOW, "Start volplug, which makes it")
    assert file.level is GREEN


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in directory.iterdir() if each.is_file()}


async def test_looking_changes_nothing(stopped: VolplugProcess, examine: Examine) -> None:
    before = bytes_of(stopped.state_dir)
    await examine(check_state_directory, check_state_file)
    assert bytes_of(stopped.state_dir) == before


async def test_an_open_directory_is_closed_by_fix(stopped: VolplugProcess, examine: Examine) -> None:
    stopped.state_dir.chmod(0o755)
    found = only(await examine(check_state_directory))
    assert (found.level, found.remedy) == (RED, f"chmod 0700 {stopped.state_dir}")
    assert await mend(found) == f"closed {stopped.state_dir} to other users"
    assert stopped.state_dir.stat().st_mode & 0o777 == 0o700
    assert only(await examine(check_state_directory)).level is GREEN


async def test_a_directory_that_others_can_write_to_is_no_longer_trusted(
    stopped: VolplugProcess, examine: Examine
) -> None:
    """What is in it may be theirs: an operator has to look first."""
    stopped.state_dir.chmod(0o755)
    found = only(await examine(check_state_directory))
    stopped.state_dir.chmod(0o777)
    assert only(await examine(check_state_directory)).fix is None
    with pytest.raises(HostError, match="no longer as it was found"):
        await mend(found)
    assert stopped.state_dir.stat().st_mode & 0o777 == 0o777


async def test_a_directory_of_another_user_is_refused(stopped: VolplugProcess, examine: Examine) -> None:
    os.chown(stopped.state_dir, 65534, -1)
    found = only(await examine(check_state_directory))
    assert (found.level, found.remedy) == (RED, f"chown root {stopped.state_dir}, as root")


async def test_another_directory_than_the_last_one_is_told(
    stopped: VolplugProcess, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = stopped.state_dir.with_name("marker")
    await asyncio.to_thread(marker.write_text, "0123456789abcdef\n")
    monkeypatch.setenv("VOLPLUG_STATE_MARKER", str(marker))
    found = only(await examine(check_state_directory))
    assert found.level is RED
    assert "is not the one used before" in found.message
    assert "Is its disk not mounted" in found.remedy


@pytest.mark.parametrize(
    ("magic", "level", "word"),
    [(0x6969, RED, "NFS"), (0xFE534D42, RED, "SMB"), (0x01021994, YELLOW, "tmpfs"), (0xEF53, GREEN, "")],
)
def test_a_filesystem_on_which_state_is_not_safe_is_told(magic: int, level: Level, word: str) -> None:
    found = list(doubts_of_filesystem(Path("/state"), magic))
    assert [each.level for each in found] == ([] if level is GREEN else [level])
    assert all(word in each.message and "Move it to a disk" in each.remedy for each in found)


def _spoil_head(path: Path) -> None:
    path.write_bytes(bytes(100) + path.read_bytes()[100:])


def _spoil_row(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO volumes VALUES ('db', 'loop', 'none', NULL, '', '{}', '{}', 0, 0.0, 'boot', 1)"
        )
    connection.close()


def _set_aside(path: Path) -> None:
    path.with_name(f"{path.name}.damaged-20260102T030405Z").touch()


@pytest.mark.parametrize(
    ("spoil", "level", "message", "remedy"),
    [
        (_spoil_head, RED, "cannot be read", "set aside at the next start"),
        (lambda path: set_version(path, 99), RED, "is of version 99", "Install the newer volplug again"),
        (_spoil_row, YELLOW, "1 rows are damaged", "Check its disk"),
        (_set_aside, YELLOW, "was damaged and set aside", "damaged-20260102T030405Z"),
    ],
)
async def test_a_state_file_that_is_damaged_is_told_and_left_as_it_is(
    stopped: VolplugProcess,
    examine: Examine,
    spoil: Callable[[Path], None],
    level: Level,
    message: str,
    remedy: str,
) -> None:
    file = stopped.state_dir / "state.sqlite"
    await asyncio.to_thread(spoil, file)
    before = bytes_of(stopped.state_dir)
    found = (await examine(check_state_file))[0]
    assert found.level is level
    assert message in found.message
    assert remedy in found.remedy
    assert bytes_of(stopped.state_dir) == before


def disk(free_bytes: int, free_inodes: int = 10**6, *, is_read_only: bool = False) -> os.statvfs_result:
    blocks = {"f_frsize": 4096, "f_bavail": free_bytes // 4096, "f_files": 10**6, "f_favail": free_inodes}
    flag = os.ST_RDONLY if is_read_only else 0
    return cast(os.statvfs_result, SimpleNamespace(**blocks, f_flag=flag))


@pytest.mark.parametrize(
    ("found", "level", "message", "remedy"),
    [
        (disk(10 * GIB), GREEN, "10.0GiB free", ""),
        (disk(100 * MIB), YELLOW, "only 100.0MiB free", "Make room"),
        (disk(8 * MIB), RED, "only 8.0MiB free", "Make room"),
        (disk(10 * GIB, 10), YELLOW, "only 10 inodes are free", "Make room"),
        (disk(10 * GIB, 0), RED, "only 0 inodes are free", "Make room"),
        (disk(10 * GIB, is_read_only=True), RED, "read-only", "dmesg"),
    ],
)
def test_space_is_judged(found: os.statvfs_result, level: Level, message: str, remedy: str) -> None:
    judged = judge_space("/state", found)
    assert judged.level is level
    assert message in judged.message
    assert remedy in judged.remedy


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


async def test_a_full_disk_is_found(examine: Examine, stopped: VolplugProcess) -> None:
    with small_disk(stopped.state_dir):
        spaces = await examine(check_space)
    assert [(each.level, each.message) for each in spaces] == [(RED, "only 12.0MiB free")] * 2
