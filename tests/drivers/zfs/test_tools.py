"""Commands that hang, as those on a suspended pool do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from volplug.drivers.zfs.capabilities import ZFS_FUSE, Capabilities, probe
from volplug.drivers.zfs.tools import ZfsTools
from volplug.errors import BackendUnavailable, CommandFailed
from volplug.host.process import Finished


class _Programs:
    """Commands that end only when a test says so, but for `zfs get`."""

    def __init__(self) -> None:
        self.hang = asyncio.Event()
        self.begun = asyncio.Event()
        self.started: list[str] = []
        self.ended: list[str] = []

    async def __call__(
        self, argv: Sequence[str], *, output_bytes: int, stdin: int | None = None, stdout: int | None = None
    ) -> Finished:
        self.started.append(argv[1])
        self.begun.set()
        if argv[1] != "get":
            await self.hang.wait()
        self.ended.append(argv[1])
        return Finished(tuple(argv), 0, "printed\n", "")


async def test_a_hung_change_is_left_and_no_other_is_started_before_its_end() -> None:
    programs = _Programs()
    tools = ZfsTools(programs, 0.01)
    with pytest.raises(BackendUnavailable, match="zfs destroy has not ended for"):
        await tools.change("zfs", "destroy", "tank/a")
    with pytest.raises(BackendUnavailable, match="zfs destroy has not ended"):
        await tools.change("zfs", "create", "tank/a")
    assert programs.started == ["destroy"]
    assert await tools.read("zfs", "get", "all") == "printed\n"
    programs.hang.set()
    hung = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
    await asyncio.gather(*hung)
    await tools.change("zfs", "create", "tank/a")
    assert programs.ended == ["get", "destroy", "create"]


async def test_a_cancelled_change_is_waited_for() -> None:
    programs = _Programs()
    change = asyncio.ensure_future(ZfsTools(programs, 30).change("zfs", "destroy", "tank/a"))
    await programs.begun.wait()
    change.cancel()
    await asyncio.sleep(0)
    assert not change.done()
    programs.hang.set()
    with pytest.raises(asyncio.CancelledError):
        await change
    assert programs.ended == ["destroy"]


def _answering(output: str) -> ZfsTools:
    async def run(
        argv: Sequence[str], *, output_bytes: int, stdin: int | None = None, stdout: int | None = None
    ) -> Finished:
        if not output:
            raise CommandFailed(tuple(argv), 2, "unrecognized command 'version'\nusage: zfs command args ...")
        return Finished(tuple(argv), 0, output, "")

    return ZfsTools(run, 30)


async def test_openzfs_is_known_by_its_version() -> None:
    found = await probe(_answering("zfs-2.1.11-1+deb12u1\nzfs-kmod-2.1.11-1+deb12u1\n"))
    assert found == Capabilities("2.1.11-1+deb12u1", True, True, True, True, 8191)
    assert found != ZFS_FUSE


async def test_without_zfs_there_is_no_answer() -> None:
    with pytest.raises(Exception, match="unrecognized command"):
        await probe(_answering(""))


async def test_an_openzfs_that_does_not_answer_in_time_is_not_taken_for_zfs_fuse() -> None:
    async def run(
        argv: Sequence[str], *, output_bytes: int, stdin: int | None = None, stdout: int | None = None
    ) -> Finished:
        if "version" in argv:
            await asyncio.Event().wait()
        return Finished(tuple(argv), 0, "tank\n", "")

    with pytest.raises(BackendUnavailable, match="zfs version has not ended"):
        await probe(ZfsTools(run, 0.01))
