"""Copies of volumes on another host: whole, brought up to date, cut, and never in the place of a volume."""

# ruff: noqa: S101  # these are pytest's tests, which assert

from __future__ import annotations

import os
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO, Final

import pytest

from volplug.drivers.base import Driver
from volplug.drivers.copies import SendsCopies
from volplug.errors import UnexpectedState, VolumeExists, VolumeNotFound
from volplug.models import Volume
from volplug.testing.conformance.calls import tags_of
from volplug.testing.driver_fixtures import WRITTEN, DriverFixtures, MakeSpec, read_content, write_content

_ENDS: Final = (0.0, 0.5)  # of a stream that is cut, as parts of it


class CopyConformance(DriverFixtures):
    """For drivers with `SendsCopies`: `other_host` is one of another host, which shares no volumes."""

    async def test_copy_is_a_volume_only_once_it_is_adopted(
        self, driver: Driver, other_host: Driver, make_spec: MakeSpec, has_devices: bool
    ) -> None:
        """What was written after the first stream comes with the next, and so does the description."""
        volume = await driver.create(make_spec())
        await _sent(driver, other_host, volume)
        if has_devices:
            await write_content(await driver.attach(volume))
            await driver.detach(volume)
        volume = await driver.tag_filesystem(volume, tags_of(driver)[1])
        await _sent(driver, other_host, volume)
        assert (await other_host.get(volume.name), list(await other_host.list())) == (None, [])
        assert isinstance(other_host, SendsCopies)
        adopted = await other_host.adopt(volume.name)
        assert await other_host.adopt(volume.name) == adopted
        assert list(await other_host.list()) == [adopted]
        kept = (adopted.name, adopted.spec, adopted.filesystem, adopted.size_bytes)
        assert kept == (volume.name, volume.spec, volume.filesystem, volume.size_bytes)
        assert await driver.get(volume.name) == volume
        if has_devices:
            assert await read_content(await other_host.attach(adopted)) == WRITTEN

    async def test_cut_stream_is_sent_again_or_resumed(
        self, driver: Driver, other_host: Driver, make_spec: MakeSpec
    ) -> None:
        """Wherever it is cut, nothing of it is a volume, and the next one brings the rest."""
        volume = await driver.create(make_spec())
        assert isinstance(other_host, SendsCopies)
        for part in _ENDS:
            with pytest.raises(UnexpectedState):
                await _sent(driver, other_host, volume, part)
            with pytest.raises(VolumeNotFound):
                await other_host.adopt(volume.name)
            assert await other_host.get(volume.name) is None
        await _sent(driver, other_host, volume)
        assert (await other_host.adopt(volume.name)).spec == volume.spec

    async def test_stream_never_replaces_a_volume(
        self, driver: Driver, other_host: Driver, make_spec: MakeSpec
    ) -> None:
        """Neither one that was there before, nor a copy that was adopted."""
        volume, first = [await driver.create(make_spec()) for _ in range(2)]
        existing = await other_host.create(volume.spec)
        with pytest.raises(VolumeExists):
            await _sent(driver, other_host, volume)
        assert await other_host.get(volume.name) == existing
        await _sent(driver, other_host, first)
        assert isinstance(other_host, SendsCopies)
        adopted = await other_host.adopt(first.name)
        with pytest.raises(VolumeExists):
            await _sent(driver, other_host, first)
        assert await other_host.get(first.name) == adopted


async def _sent(driver: Driver, other_host: Driver, volume: Volume, part: float = 1.0) -> None:
    """Send a volume by way of a file, of which only the first part arrives."""
    assert isinstance(driver, SendsCopies)
    assert isinstance(other_host, SendsCopies)
    with ExitStack() as own:
        file: IO[bytes] = own.enter_context(TemporaryFile())
        await driver.send_to(file.fileno(), volume, await other_host.received(volume.name))
        os.ftruncate(file.fileno(), int(os.fstat(file.fileno()).st_size * part))
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        await other_host.receive(file.fileno(), volume.name)
