"""Streams on a real pool: content is followed through whole, incremental and cut ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.lab.requirements import ZFS
from tests.lab.waiting import wait_until
from tests.lab.zfs import ZfsPool
from volplug.drivers.zfs.capabilities import ZFS_FUSE, Capabilities
from volplug.drivers.zfs.commands import Datasets, Snapshot
from volplug.drivers.zfs.datasets import GUID, Dataset
from volplug.drivers.zfs.properties import NAME, PURPOSE, volume_properties
from volplug.drivers.zfs.streams import Streams
from volplug.drivers.zfs.tools import ZfsTools
from volplug.errors import UnexpectedState, VolumeExists, VolumeInUse
from volplug.models import VolumeSpec
from volplug.sizes import MIB

pytestmark = ZFS


class _Side:
    """One end of a transfer: a parent of datasets."""

    def __init__(self, pool: ZfsPool, place: Path, tools: ZfsTools, capabilities: Capabilities) -> None:
        self._pool = pool
        self._place = place
        self.parent = pool.new_parent()
        self.datasets = Datasets(tools, self.parent, capabilities)
        self.streams = Streams(tools, self.datasets, capabilities)

    async def make(self, name: str) -> Dataset:
        properties = volume_properties(VolumeSpec(name, 20 * MIB), "c", ZFS_FUSE.property_length)
        await self.datasets.create(name, {"mountpoint": "none", "refquota": str(20 * MIB)}, properties)
        found = await self.found(name)
        await self.datasets.complete(found)
        return await self.found(name)

    async def found(self, name: str) -> Dataset:
        found = await self.datasets.find(name)
        assert found is not None
        return found

    def write(self, name: str, files: Mapping[str, bytes]) -> None:
        def act() -> None:
            for file, content in files.items():
                (self._place / file).write_bytes(content)

        self._mounted(name, act)

    def read(self, name: str) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        self._mounted(
            name, lambda: found.update({each.name: each.read_bytes() for each in self._place.iterdir()})
        )
        return found

    def _mounted(self, name: str, act: Callable[[], None]) -> None:
        path = f"{self.parent}/{name}"
        zfs = self._pool.zfs.zfs
        # This mounts, too, and fails while the daemon has not heard of the end of an earlier mount.
        self._pool.zfs.run(["zfs", "set", f"mountpoint={self._place}", path])
        mount = ["sh", "-c", f"zfs mount {path} || grep -q '{self._place} ' /proc/self/mountinfo"]
        wait_until(lambda: self._pool.zfs.run(mount).returncode == 0, 10, f"{name} is mounted")
        act()
        zfs("unmount", path)
        zfs("set", "mountpoint=none", path)

    async def guids(self, name: str) -> set[str]:
        return {each.guid for each in await self.datasets.snapshots(f"{self.parent}/{name}")}


@pytest.fixture
def here(pool: ZfsPool, tmp_path: Path, tools: ZfsTools, capabilities: Capabilities) -> _Side:
    return _Side(pool, tmp_path / "here", tools, capabilities)


@pytest.fixture
def there(pool: ZfsPool, tmp_path: Path, tools: ZfsTools, capabilities: Capabilities) -> _Side:
    return _Side(pool, tmp_path / "there", tools, capabilities)


async def _moved(
    here: _Side, there: _Side, db: Dataset, snapshot: Snapshot, base: Snapshot | None = None
) -> None:
    """Send through a pipe, as between two hosts."""
    reader, writer = os.pipe()

    async def send() -> None:
        try:
            await here.streams.send_to(writer, db, snapshot, base)
        finally:
            os.close(writer)

    async def receive() -> None:
        try:
            await there.streams.receive(reader, "db")
        finally:
            os.close(reader)

    await asyncio.gather(send(), receive())


async def test_a_copy_has_content_and_properties_and_becomes_a_volume_last(here: _Side, there: _Side) -> None:
    db = await here.make("db")
    content = {"a": os.urandom(3 * MIB), "empty": b""}
    here.write("db", content)
    snapshot = await here.streams.snapshot(db)
    here.write("db", {"a": b"later"})
    await _moved(here, there, db, snapshot)
    copy = await there.found("db")
    assert not copy.is_volume
    assert (copy.own[GUID], copy.own[NAME], copy.refquota) == (db.guid, "db", 20 * MIB)
    await there.datasets.complete(copy)
    assert (await there.found("db")).is_volume
    assert there.read("db") == content
    assert here.read("db") == {**content, "a": b"later"}


async def test_an_increment_brings_what_has_changed_since_the_common_snapshot(
    here: _Side, there: _Side
) -> None:
    db = await here.make("db")
    here.write("db", {"a": os.urandom(2 * MIB)})
    first = await here.streams.snapshot(db)
    await _moved(here, there, db, first)
    content = {"a": os.urandom(MIB), "b": b"new"}
    here.write("db", content)
    second = await here.streams.snapshot(db)
    assert await here.streams.common(db, await there.guids("db")) == first
    await _moved(here, there, db, second, first)
    assert await here.streams.common(db, await there.guids("db")) == second
    assert there.read("db") == content


async def test_a_stream_that_is_cut_changes_nothing_and_is_resumed_or_sent_again(
    here: _Side, there: _Side, tmp_path: Path, capabilities: Capabilities
) -> None:
    db = await here.make("db")
    here.write("db", {"a": os.urandom(2 * MIB)})
    first = await here.streams.snapshot(db)
    await _moved(here, there, db, first)
    before = await there.guids("db")
    here.write("db", {"b": os.urandom(4 * MIB)})
    second = await here.streams.snapshot(db)
    stream = tmp_path / "stream"
    with stream.open("wb") as file:
        await here.streams.send_to(file.fileno(), db, second, first)
    cut = tmp_path / "cut"
    for length in (0, 300, MIB, stream.stat().st_size - 4096):
        cut.write_bytes(stream.read_bytes()[:length])
        with cut.open("rb") as file, pytest.raises(UnexpectedState, match="incomplete"):
            await there.streams.receive(file.fileno(), "db")
        assert await there.guids("db") == before
        await there.streams.abandon("db")
        assert await there.streams.resume_token("db") == ""
    cut.write_bytes(stream.read_bytes()[: 2 * MIB])
    with cut.open("rb") as file, pytest.raises(UnexpectedState, match="incomplete"):
        await there.streams.receive(file.fileno(), "db")
    token = await there.streams.resume_token("db")
    assert bool(token) is capabilities.resumes
    if token:
        with stream.open("wb") as file:
            await here.streams.send_rest_to(file.fileno(), token)
    with stream.open("rb") as file:
        await there.streams.receive(file.fileno(), "db")
    assert there.read("db") == here.read("db")


async def test_a_stream_may_be_cut_behind_all_that_it_brings(
    here: _Side, there: _Side, tmp_path: Path
) -> None:
    """Its last record, of 312 bytes, ends the whole, after the end of the snapshot."""
    db = await here.make("db")
    here.write("db", {"a": b"1"})
    snapshot = await here.streams.snapshot(db)
    stream = tmp_path / "stream"
    with stream.open("wb") as file:
        await here.streams.send_to(file.fileno(), db, snapshot)
    os.truncate(stream, stream.stat().st_size - 1)
    with stream.open("rb") as file, pytest.raises(UnexpectedState, match="incomplete"):
        await there.streams.receive(file.fileno(), "db")
    assert await here.streams.common(db, await there.guids("db")) == snapshot
    assert there.read("db") == {"a": b"1"}


async def test_a_copy_with_changes_of_its_own_is_not_overwritten(here: _Side, there: _Side) -> None:
    db = await here.make("db")
    here.write("db", {"a": b"1"})
    first = await here.streams.snapshot(db)
    await _moved(here, there, db, first)
    there.write("db", {"mine": b"kept"})
    second = await here.streams.snapshot(db)
    with pytest.raises(UnexpectedState, match="no common snapshot"):
        await _moved(here, there, db, second, first)
    assert there.read("db") == {"a": b"1", "mine": b"kept"}


async def test_a_whole_stream_does_not_replace_a_dataset(here: _Side, there: _Side) -> None:
    db = await here.make("db")
    await there.make("db")
    there.write("db", {"mine": b"kept"})
    snapshot = await here.streams.snapshot(db)
    with pytest.raises((VolumeExists, ExceptionGroup)):
        await _moved(here, there, db, snapshot)
    assert there.read("db") == {"mine": b"kept"}


async def test_only_snapshots_of_volplug_are_cleaned_up_on_both_sides(
    here: _Side, there: _Side, pool: ZfsPool
) -> None:
    db = await here.make("db")
    pool.zfs.zfs("snapshot", f"{db.name}@mine")
    first = await here.streams.snapshot(db)
    second = await here.streams.snapshot(db)
    await _moved(here, there, db, second)
    copy = await there.found("db")
    assert [each.purpose for each in await there.datasets.snapshots(copy.name)] == ["send"]
    await here.streams.clean_up(db, keep={second.guid})
    assert [each.name for each in await here.datasets.snapshots(db.name)] == ["mine", second.name]
    assert first.guid != second.guid
    await here.streams.clean_up(db)
    await there.streams.clean_up(copy)
    assert [each.name for each in await here.datasets.snapshots(db.name)] == ["mine"]
    await there.datasets.destroy(copy)
    with pytest.raises(VolumeInUse, match="db@mine"):
        await here.datasets.destroy(db)


async def test_a_volumes_own_purpose_is_not_that_of_its_snapshots(here: _Side, pool: ZfsPool) -> None:
    db = await here.make("db")
    await here.datasets.set(db.name, {PURPOSE: "send"})
    pool.zfs.zfs("snapshot", f"{db.name}@mine")
    await here.streams.clean_up(db)
    assert [each.name for each in await here.datasets.snapshots(db.name)] == ["mine"]
