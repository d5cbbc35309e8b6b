"""volplug ends after each command of ZFS that changes something: the call, made again, finishes its work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest

from tests.drivers.zfs.volumes import driver_of, spec_of
from tests.lab.requirements import ZFS
from tests.lab.zfs import ZfsPool, run_program
from volplug.drivers.zfs.driver import ZfsDriver
from volplug.host.process import Finished
from volplug.models import FilesystemPhase, FilesystemTag, Volume, VolumeState

pytestmark = [*ZFS, pytest.mark.slow]

_CHANGES = ("create", "set", "snapshot", "destroy")
_TAG = FilesystemTag(FilesystemPhase.FORMATTED, "zfs", "0c6f6d3c-9a0b-4f0e-8a4e-111122223333")


class EndedError(Exception):
    """The process of the driver has ended."""


class Ending:
    """Runs programs up to a change, whose result is not seen any more."""

    def __init__(self, changes: int) -> None:
        self.left = changes

    async def __call__(
        self, argv: Sequence[str], *, output_bytes: int, stdin: int | None = None, stdout: int | None = None
    ) -> Finished:
        if not self.left:
            raise EndedError
        finished = await run_program(argv, output_bytes=output_bytes, stdin=stdin, stdout=stdout)
        self.left -= bool(set(argv) & set(_CHANGES))
        if not self.left:
            raise EndedError
        return finished


async def _live(driver: ZfsDriver) -> None:
    """Lead the life of a volume, from wherever it is in it."""
    volume = await driver.get("db")
    if volume is None or volume.state is VolumeState.INCOMPLETE:
        volume = await driver.create(spec_of("db"))
    await driver.attach(volume)
    volume = await driver.tag_filesystem(volume, _TAG)
    assert (await driver.get("db")) == volume
    await driver.detach(volume)
    await _sent(driver, volume)
    await driver.delete(volume)


async def _sent(driver: ZfsDriver, volume: Volume) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        await driver.send_to(nothing, volume, "")
        await driver.send_to(nothing, volume, "")
    finally:
        os.close(nothing)


async def test_the_life_of_a_volume_goes_on_after_each_change(
    pool: ZfsPool, parent: str, tmp_path: Path
) -> None:
    for changes in count(1):
        ending = Ending(changes)
        try:
            await _live(driver_of(parent, tmp_path, run=ending))
        except EndedError:
            if await driver_of(parent, tmp_path).get("db") is not None:
                await _live(driver_of(parent, tmp_path))
        else:
            break
        listed = pool.zfs.zfs("list", "-H", "-r", "-t", "all", "-o", "name", parent)
        assert listed.split() == [parent]
    assert changes > len(_CHANGES)
