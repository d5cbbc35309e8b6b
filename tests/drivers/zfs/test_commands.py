"""Commands on a real pool."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.requirements import HAS_OPENZFS, ZFS
from tests.lab.zfs import HostZfs, ZfsPool
from volplug.drivers.cloud.tags import read_filesystem, read_spec
from volplug.drivers.zfs.capabilities import ZFS_FUSE, Capabilities
from volplug.drivers.zfs.commands import Datasets
from volplug.drivers.zfs.datasets import GUID, Dataset
from volplug.drivers.zfs.properties import NAME, as_tags, filesystem_properties, volume_properties
from volplug.drivers.zfs.tools import ZfsTools
from volplug.errors import (
    BackendUnavailable,
    InvalidOption,
    LimitExceeded,
    VolumeExists,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.models import FilesystemPhase, FilesystemTag, VolumeSpec
from volplug.sizes import MIB

pytestmark = ZFS

_SPEC = VolumeSpec("My_db-1.0", 10 * MIB, mount_options=("noatime",), uid=7, driver_options=(("a", "b c"),))
_NATIVE = {"mountpoint": "legacy", "refquota": str(10 * MIB)}


@pytest.fixture
def datasets(tools: ZfsTools, parent: str, capabilities: Capabilities) -> Datasets:
    return Datasets(tools, parent, capabilities)


async def _made(datasets: Datasets, name: str, **native: str) -> Dataset:
    spec = VolumeSpec(name, 10 * MIB)
    await datasets.create(name, _NATIVE | native, volume_properties(spec, "", ZFS_FUSE.property_length))
    found = await datasets.find(name)
    assert found is not None
    assert not found.is_volume
    await datasets.complete(found)
    found = await datasets.find(name)
    assert found is not None
    return found


async def test_zfs_fuse_is_told_from_openzfs(capabilities: Capabilities) -> None:
    assert (capabilities != ZFS_FUSE) is HAS_OPENZFS


async def test_a_volume_is_kept_in_the_properties_of_its_dataset(datasets: Datasets) -> None:
    properties = volume_properties(_SPEC, "prod", 64)  # in pieces
    await datasets.create(_SPEC.name, _NATIVE, properties)
    found = await datasets.find(_SPEC.name)
    assert found is not None
    assert (found.refquota, found.mountpoint, found.is_mounted) == (10 * MIB, "legacy", False)
    assert found.own == properties
    assert read_spec(_SPEC.name, as_tags(found.own)) == _SPEC
    tag = FilesystemTag(FilesystemPhase.FORMATTED, "zfs")
    await datasets.set(found.name, filesystem_properties(tag))
    await datasets.complete(found)
    (listed,) = await datasets.list()
    assert listed.is_volume
    assert read_filesystem(as_tags(listed.own)) == tag


async def test_children_clones_and_copies_of_a_volume_are_none(
    datasets: Datasets, pool: ZfsPool, parent: str
) -> None:
    db = await _made(datasets, "db")
    pool.zfs.zfs("create", f"{parent}/db/child")
    pool.zfs.zfs("snapshot", f"{parent}/db@s")
    pool.zfs.zfs("clone", f"{parent}/db@s", f"{parent}/clone")
    copy = f"zfs send -p {parent}/db@s | zfs receive -u {parent}/copy"
    assert pool.zfs.run(["sh", "-c", copy]).returncode == 0
    found = {each.name: each for each in await datasets.list()}
    assert set(found) == {f"{parent}/db", f"{parent}/clone", f"{parent}/copy"}
    assert [each.name for each in found.values() if each.is_volume] == [db.name]
    assert found[f"{parent}/copy"].own[GUID] == db.guid
    with pytest.raises(VolumeInUse, match=r"db/child, .*db@s"):
        await datasets.destroy(db)


async def test_a_name_is_given_once(datasets: Datasets) -> None:
    await _made(datasets, "db")
    with pytest.raises(VolumeExists):
        await datasets.create("db", _NATIVE, {})


async def test_what_zfs_does_not_take_is_named_and_nothing_is_made(datasets: Datasets) -> None:
    with pytest.raises(InvalidOption, match="recordsize"):
        await datasets.create("db", {"recordsize": "17K"}, {})
    assert await datasets.find("db") is None


async def test_a_volume_that_was_replaced_is_not_destroyed(datasets: Datasets) -> None:
    db = await _made(datasets, "db")
    await datasets.destroy(db)
    assert await datasets.find("db") is None
    other = await _made(datasets, "db")
    with pytest.raises(VolumeNotFound):
        await datasets.destroy(db)
    assert await datasets.find("db") == other


async def test_what_is_mounted_here_is_not_destroyed_and_stays_mounted(
    datasets: Datasets, tmp_path: Path
) -> None:
    """`zfs destroy` itself would unmount it first, as it is idle."""
    place = tmp_path / "m"
    db = await _made(datasets, "db", mountpoint=str(place))
    (place / "file").write_text("data")
    with pytest.raises(VolumeInUse, match="busy"):
        await datasets.destroy(db)
    assert (place / "file").read_text() == "data"


async def test_what_was_unmounted_is_destroyed_at_once(
    datasets: Datasets, pool: ZfsPool, tmp_path: Path
) -> None:
    """The daemon of zfs-fuse still calls it busy for a moment, in one of a few times."""
    for number in range(5):
        db = await _made(datasets, f"db{number}", mountpoint=str(tmp_path / "m"))
        (tmp_path / "m" / "file").write_text("data")
        pool.zfs.zfs("unmount", db.name)
        await datasets.destroy(db)
    assert await datasets.list() == ()


async def test_a_pool_that_is_not_imported_is_no_missing_volume(
    tools: ZfsTools, zfs: HostZfs, capabilities: Capabilities
) -> None:
    pool = zfs.make_pool("moving", size_bytes=64 * MIB)
    datasets = Datasets(tools, pool.new_parent(), capabilities)
    await _made(datasets, "db")
    zfs.zpool("export", "moving")
    for call in (datasets.find("db"), datasets.find("none"), datasets.list(), datasets.create("x", {}, {})):
        with pytest.raises(BackendUnavailable, match=r"moving"):
            await call
    zfs.zpool("import", "-d", str(zfs.directory), "moving")
    assert (await datasets.find("db")) is not None
    assert (await datasets.find("none")) is None


async def test_on_a_full_pool_metadata_is_written_with_the_reserve(
    tools: ZfsTools, zfs: HostZfs, tmp_path: Path, capabilities: Capabilities
) -> None:
    pool = zfs.make_pool("full", size_bytes=64 * MIB)
    datasets = Datasets(tools, pool.new_parent(), capabilities, reserve_bytes=4 * MIB)
    await datasets.keep_reserve()
    await datasets.keep_reserve()  # at each start
    db = await _made(datasets, "db")
    zfs.zfs("create", "-o", f"mountpoint={tmp_path / 'm'}", "full/other")
    filled = zfs.run(["dd", "if=/dev/urandom", f"of={tmp_path / 'm' / 'big'}", "bs=1M"])
    assert "No space left" in filled.stderr
    if not HAS_OPENZFS:  # which keeps some space for that itself
        with pytest.raises(LimitExceeded, match="the pool is full"):
            await Datasets(tools, "full", capabilities).set(db.name, {NAME: "without-reserve"})
    with pytest.raises(LimitExceeded):
        await datasets.create("new", _NATIVE, {})
    for number in range(3):
        await datasets.set(db.name, {NAME: f"n{number}"})
    found = await datasets.find("db")
    assert found is not None
    assert found.own[NAME] == "n2"
    assert [each.name for each in await datasets.list()] == [db.name]
    await datasets.destroy(found)
