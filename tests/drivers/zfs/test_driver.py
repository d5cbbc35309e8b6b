"""What is the ZFS driver's own beyond the shared suite, on a real pool."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.drivers.zfs.volumes import SIZE, driver_of, spec_of
from tests.lab.requirements import HAS_OPENZFS, ZFS
from tests.lab.zfs import ZfsPool
from volplug.drivers.zfs.driver import ZfsDriver
from volplug.drivers.zfs.settings import ZfsSettings
from volplug.errors import InvalidOption, VolumeExists, VolumeInUse, VolumeNotFound
from volplug.findings import Level
from volplug.models import NamedFilesystem, VolumeSpec, VolumeState
from volplug.sizes import MIB
from volplug.steps import WorldStep

pytestmark = ZFS


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def driver(parent: str, tmp_path: Path, clock: Clock) -> ZfsDriver:
    return driver_of(parent, tmp_path, clock)


async def by_hand(pool: ZfsPool, *arguments: str) -> str:
    return await asyncio.to_thread(pool.zfs.zfs, *arguments)


async def properties(pool: ZfsPool, dataset: str, *names: str) -> list[str]:
    return (await by_hand(pool, "get", "-H", "-p", "-o", "value", ",".join(names), dataset)).split()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"refquota": str(SIZE), "refreservation": "0", "canmount": "noauto", "recordsize": "131072"}),
        ({"reservation": "true"}, {"refreservation": str(SIZE)}),
        (
            {"recordsize": "16KiB", "compression": "gzip-9", "atime": "off", "logbias": "throughput"},
            {"recordsize": "16384", "compression": "gzip-9", "atime": "off", "logbias": "throughput"},
        ),
        ({"recordsize": "4096"}, {"recordsize": "4096"}),
    ],
)
async def test_options_are_properties_of_the_dataset(
    driver: ZfsDriver, pool: ZfsPool, parent: str, options: dict[str, str], expected: dict[str, str]
) -> None:
    await driver.create(spec_of("db", SIZE, **options))
    assert await properties(pool, f"{parent}/db", *expected) == list(expected.values())


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"sync": "sometimes"}, "option 'sync' is 'sometimes'"),
        ({"recordsize": "17K"}, "option 'recordsize' is '17K'"),
        ({"recordsize": "32M"}, "option 'recordsize' is '32M'"),
        ({"recordsize": "x"}, "option 'recordsize' is 'x'"),
        ({"compression": "on -o mountpoint=/etc"}, "option 'compression' is"),
        ({"encrypted": "true"}, "option 'encrypted' needs a key"),
    ],
)
def test_wrong_options_are_refused(driver: ZfsDriver, options: dict[str, str], cause: str) -> None:
    with pytest.raises(InvalidOption, match=cause):
        driver.check_spec(spec_of("db", SIZE, **options))


@pytest.mark.skipif(HAS_OPENZFS, reason="it knows it")
async def test_what_this_zfs_does_not_know_is_refused_and_leaves_nothing(driver: ZfsDriver) -> None:
    with pytest.raises(InvalidOption, match="sync"):
        await driver.create(spec_of("db", sync="always"))
    assert await driver.get("db") is None


async def test_what_volplug_did_not_make_is_neither_shown_nor_changed(
    driver: ZfsDriver, pool: ZfsPool, parent: str
) -> None:
    """Made by hand, a child and a clone of a volume, and a copy with all of its properties."""
    volume = await driver.create(spec_of("db"))
    await by_hand(pool, "snapshot", f"{parent}/db@s")
    await by_hand(pool, "create", f"{parent}/hand")
    await by_hand(pool, "create", "-o", "mountpoint=none", f"{parent}/db/child")
    await by_hand(pool, "clone", f"{parent}/db@s", f"{parent}/clone")
    copy = f"zfs send -p {parent}/db@s | zfs receive -u {parent}/copy"
    assert (await asyncio.to_thread(pool.zfs.run, ["sh", "-c", copy])).returncode == 0
    assert list(await driver.list()) == [volume]
    for name in ("hand", "clone", "copy"):
        assert await driver.get(name) is None
        assert "was not made by volplug" in (await driver.absence(name)).cause
        with pytest.raises(VolumeExists, match="is no volume"):
            await driver.create(spec_of(name))
        guid = (await properties(pool, f"{parent}/{name}", "guid"))[0]
        for call in (driver.delete, driver.attach, driver.detach):
            with pytest.raises(VolumeNotFound):
                await call(replace(volume, name=name, volume_id=guid))
    with pytest.raises(VolumeInUse, match=rf"{parent}/db@s|{parent}/db/child"):
        await driver.delete(volume)


async def test_snapshots_of_volplug_go_with_their_volume_and_those_of_others_keep_it(
    driver: ZfsDriver, pool: ZfsPool, parent: str
) -> None:
    volume = await driver.create(spec_of("db"))
    await by_hand(pool, "snapshot", "-o", "org.volplug:purpose=send", f"{parent}/db@own")
    await by_hand(pool, "snapshot", f"{parent}/db@backup")
    with pytest.raises(VolumeInUse, match="db@backup"):
        await driver.delete(volume)
    assert f"{parent}/db@own" in await by_hand(pool, "list", "-H", "-o", "name", "-t", "snapshot")
    await by_hand(pool, "destroy", f"{parent}/db@backup")
    await by_hand(pool, "create", "-o", "mountpoint=none", f"{parent}/db/child")
    with pytest.raises(VolumeInUse, match="db/child"):
        await driver.delete(volume)
    assert f"{parent}/db@own" in await by_hand(pool, "list", "-H", "-o", "name", "-t", "snapshot")
    await by_hand(pool, "destroy", f"{parent}/db/child")
    await driver.delete(volume)
    assert await driver.get("db") is None


async def test_what_is_changed_by_hand_breaks_nothing(
    driver: ZfsDriver, pool: ZfsPool, parent: str, clock: Clock
) -> None:
    volume = await driver.create(spec_of("db"))
    await by_hand(pool, "set", f"refquota={2 * SIZE}", f"{parent}/db")
    await by_hand(pool, "set", "mountpoint=legacy", f"{parent}/db")
    await by_hand(pool, "rename", f"{parent}/db", f"{parent}/other")
    clock.now_s += 5
    renamed = await driver.get("other")
    assert renamed is not None
    assert (renamed.volume_id, renamed.size_bytes, renamed.spec.size_bytes) == (
        volume.volume_id,
        2 * SIZE,
        SIZE,
    )
    assert await driver.get("db") is None
    source = await driver.attach(renamed)
    assert isinstance(source, NamedFilesystem)
    assert await properties(pool, f"{parent}/other", "mountpoint") == [source.staging or "legacy"]
    await driver.detach(renamed)
    await by_hand(pool, "set", "refquota=none", f"{parent}/other")
    clock.now_s += 5
    assert [each.size_bytes for each in await driver.list()] == [SIZE]


async def test_one_command_shows_all_volumes_for_five_seconds_but_none_is_missed(
    driver: ZfsDriver, parent: str, tmp_path: Path, clock: Clock
) -> None:
    first = await driver.create(spec_of("first"))
    assert list(await driver.list()) == [first]
    other = driver_of(parent, tmp_path)
    second = await other.create(spec_of("second"))
    assert list(await driver.list()) == [first], "kept"
    assert await driver.get("second") == second, "that there is none is read anew"
    await other.delete(first)
    assert await driver.get("first") == first, "kept"
    with pytest.raises(VolumeNotFound):
        await driver.delete(first)
    assert await driver.get("first") is None, "what a change has shown voids what is kept"
    assert list(await driver.list()) == [second]


async def test_a_copy_that_was_just_made_a_volume_by_hand_is_one_at_once(
    driver: ZfsDriver, pool: ZfsPool, parent: str
) -> None:
    copy = f"{parent}/copy"
    await by_hand(pool, "create", "-o", "mountpoint=none", "-o", "org.volplug:guid=1", copy)
    assert list(await driver.list()) == []
    guid = (await properties(pool, copy, "guid"))[0]
    await by_hand(pool, "set", f"org.volplug:guid={guid}", copy)
    found = await driver.get("copy")
    assert found is not None
    assert found.volume_id == guid


@pytest.mark.parametrize(("spec", "is_finished"), [(spec_of("db"), True), (spec_of("db", 2 * SIZE), False)])
async def test_a_creation_that_was_killed_is_incomplete_and_finished_by_the_same_one(
    driver: ZfsDriver, parent: str, tmp_path: Path, spec: VolumeSpec, is_finished: bool
) -> None:
    def die(step: WorldStep) -> None:
        raise RuntimeError(step)

    with pytest.raises(RuntimeError, match=WorldStep.DATASET_MADE):
        await driver_of(parent, tmp_path, on_step=die).create(spec_of("db"))
    left = await driver.get("db")
    assert left is not None
    assert left.state is VolumeState.INCOMPLETE
    if is_finished:
        finished = await driver.create(spec)
        assert (finished.volume_id, finished.state) == (left.volume_id, VolumeState.AVAILABLE)
    else:
        with pytest.raises(VolumeExists):
            await driver.create(spec)
        await driver.delete(left)


async def test_the_space_of_the_pool_is_a_limit_and_its_health_a_finding(
    driver: ZfsDriver, pool: ZfsPool, parent: str
) -> None:
    await driver.create(spec_of("db", 64 * MIB))
    space, promised = await driver.limits()
    assert (promised.used, promised.maximum) == (64 * MIB, None)
    assert space.maximum is not None
    assert 0 < space.used < space.maximum < 256 * MIB
    (found,) = await driver.diagnose()
    assert (found.level, found.subject) == (Level.GREEN, pool.name)
    away = driver_of("nopool/volplug", Path(parent), settings=ZfsSettings(pool="nopool/volplug"))
    (found,) = await away.diagnose()
    assert found.level is Level.RED
    (found,) = await driver_of(f"{pool.name}/nothing", Path(parent)).diagnose()
    assert (found.level, found.message) == (Level.RED, f"there is no dataset {pool.name}/nothing")
