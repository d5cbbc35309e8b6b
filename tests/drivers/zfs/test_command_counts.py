"""How many commands each operation takes: each is a program to start, and a change waits for the disks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.drivers.zfs.volumes import driver_of, spec_of
from tests.lab.requirements import ZFS
from tests.lab.zfs import run_program
from volplug.drivers.zfs.capabilities import ZFS_FUSE
from volplug.drivers.zfs.commands import Datasets
from volplug.drivers.zfs.tools import ZfsTools
from volplug.errors import BackendUnavailable, CommandFailed
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


_NO_CHILD = "cannot open 'tank/volplug/db': dataset does not exist\n"
_NO_PARENT = "cannot open 'tank/volplug': dataset does not exist\n"


@pytest.mark.parametrize(
    ("complaints", "is_sure"),
    [
        (_NO_CHILD, True),
        (_NO_PARENT + _NO_CHILD + _NO_PARENT, False),
        (_NO_PARENT + _NO_CHILD, False),  # the pool was imported meanwhile
        (_NO_CHILD + _NO_PARENT, False),  # or exported
        (_NO_PARENT, False),
    ],
)
async def test_one_command_tells_a_volume_that_is_not_there_from_a_pool_that_is_not(
    complaints: str, is_sure: bool
) -> None:
    async def run(
        argv: Sequence[str], *, output_bytes: int, stdin: int | None = None, stdout: int | None = None
    ) -> Finished:
        assert argv[-3:] == ("tank/volplug", "tank/volplug/db", "tank/volplug")
        raise CommandFailed(tuple(argv), 1, complaints)

    datasets = Datasets(ZfsTools(run, 30), "tank/volplug", ZFS_FUSE)
    if is_sure:
        assert await datasets.find("db") is None
    else:
        with pytest.raises(BackendUnavailable, match="there is no dataset tank/volplug"):
            await datasets.find("db")
