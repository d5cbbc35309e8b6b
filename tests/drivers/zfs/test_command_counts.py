"""How many commands each operation takes: each is a program to start, and a change waits for the disks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.drivers.zfs.volumes import driver_of, spec_of
from tests.lab.requirements import ZFS
from tests.lab.zfs import run_program
from volplug.host.process import Finished
from volplug.models import FilesystemPhase, FilesystemTag

pytestmark = ZFS


class Counted:
    """Runs programs, and keeps which commands of zfs and zpool those were."""

    def __init__(self) -> None:
        self._commands: list[str] = []

    async def __call__(
        self, argv: Sequence[str], *, output_bytes: int, stdin: int | None = None, stdout: int | None = None
    ) -> Finished:
        program = next(place for place, word in enumerate(argv) if word in ("zfs", "zpool"))
        self._commands.append(argv[program + 1])
        return await run_program(argv, output_bytes=output_bytes, stdin=stdin, stdout=stdout)

    def taken(self) -> str:
        """Return the commands since the last time."""
        commands, self._commands = self._commands, []
        return " ".join(commands)


@pytest.mark.parametrize("is_known", [True, False])
async def test_each_operation_takes_few_commands(parent: str, tmp_path: Path, is_known: bool) -> None:
    now_s = 0.0

    def clock() -> float:
        nonlocal now_s
        now_s += 0 if is_known else 10  # what was read is no longer fresh at the next look
        return now_s

    counted = Counted()
    driver = driver_of(parent, tmp_path, clock, run=counted)
    await driver_of(parent, tmp_path).create(spec_of("other"))
    await driver.list()
    counted.taken()

    assert await driver.get("db") is None
    assert counted.taken() == "get"
    volume = await driver.create(spec_of("db"))
    assert counted.taken() == "create get set"
    assert await driver.get("db") == volume
    assert counted.taken() == ("" if is_known else "get")
    await driver.attach(volume)
    assert counted.taken() == "get"
    tag = FilesystemTag(FilesystemPhase.FORMATTED, "zfs", volume.filesystem.uuid)
    volume = await driver.tag_filesystem(volume, tag)
    assert counted.taken() == "get set"
    await driver.detach(volume)
    assert counted.taken() == ""
    for expected in ("get", "" if is_known else "get"):
        listed = await driver.list()
        assert len(listed) == 2
        assert counted.taken() == expected
    assert (await driver.list() is listed) is is_known, "as long as nothing has changed"
    counted.taken()
    await driver.delete(volume)
    assert counted.taken() == ("get destroy" if is_known else "get get destroy")
    assert await driver.get("db") is None
    assert counted.taken() == "get"
