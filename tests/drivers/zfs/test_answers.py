"""What the driver makes of answers that no real pool gives on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from volplug.drivers.zfs.capabilities import ZFS_FUSE, Capabilities
from volplug.drivers.zfs.commands import Datasets
from volplug.drivers.zfs.datasets import wanted
from volplug.drivers.zfs.properties import ALL
from volplug.drivers.zfs.tools import ZfsTools
from volplug.errors import (
    BackendUnavailable,
    CommandFailed,
    UnexpectedState,
    VolplugError,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.host.process import Finished

_OPENZFS = Capabilities("2.1.11", True, True, True, True, 8191)
_PARENT = "tank/volplug"
_PATH = f"{_PARENT}/db"
_VALUES = {"type": "filesystem", "guid": str(2**64 - 7), "creation": "1795998504"}
_SHOWN = "".join(f"{_PATH}\t{each}\t{_VALUES.get(each, '-')}\t-\n" for each in wanted(ALL))


def datasets_of(answer: Callable[[Sequence[str]], str], capabilities: Capabilities = ZFS_FUSE) -> Datasets:
    async def run(
        argv: Sequence[str], *, output_bytes: int, stdin: int | None = None, stdout: int | None = None
    ) -> Finished:
        return Finished(tuple(argv), 0, answer(argv), "")

    return Datasets(ZfsTools(run, 30), _PARENT, capabilities)


_NO_CHILD = f"cannot open '{_PATH}': dataset does not exist\n"
_NO_PARENT = f"cannot open '{_PARENT}': dataset does not exist\n"


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
    def answer(argv: Sequence[str]) -> str:
        assert argv[-3:] == (_PARENT, _PATH, _PARENT)
        raise CommandFailed(tuple(argv), 1, complaints)

    if is_sure:
        assert await datasets_of(answer).find("db") is None
    else:
        with pytest.raises(BackendUnavailable, match=f"there is no dataset {_PARENT}"):
            await datasets_of(answer).find("db")


@pytest.mark.parametrize(
    ("printed", "complaint", "error"),
    [
        ('{"return":0}\n', "", None),
        ('{"return":-1}', "", VolumeNotFound),
        ('{"return":16}', "", VolumeInUse),
        ('{"return":16}', f"filesystem has children\n{_PATH}@backup", VolumeInUse),
        ('{"return":5}', "", UnexpectedState),
        ('{"return":false}', "", UnexpectedState),
        ("{}", "", UnexpectedState),
        ("", "", UnexpectedState),
    ],
)
async def test_a_program_destroys_what_has_the_guid_or_says_why_not(
    printed: str, complaint: str, error: type[VolplugError] | None
) -> None:
    commands = []

    def answer(argv: Sequence[str]) -> str:
        commands.append(argv[argv.index("zfs") + 1 :])
        if complaint and "-n" in argv:
            raise CommandFailed(tuple(argv), 1, complaint)
        return {"get": _SHOWN, "program": printed}.get(commands[-1][0], "")

    datasets = datasets_of(answer, _OPENZFS)
    found = await datasets.find("db")
    assert found is not None
    if error is None:
        await datasets.destroy(found)
    else:
        with pytest.raises(error, match="backup" if complaint else None):
            await datasets.destroy(found)
    assert commands[2][-2:] == (_PATH, "-7"), "a program's numbers are signed"
    assert all(each == ("destroy", "-n", _PATH) for each in commands[3:]), "none that destroys"
