"""Many volumes: thousands of others', which no look-up reads; a hundred at once; hostile metadata."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import pytest

from tests.cinder.sites import SMALLEST_PAGE, CinderSite, spec_of
from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.shared import CINDER
from volplug.drivers.cinder import CinderDriver
from volplug.drivers.cinder.options import metadata_of
from volplug.errors import BackendUnavailable, OperationTimeout, VolumeNotFound
from volplug.models import Volume, VolumeState

pytestmark = [*CINDER, pytest.mark.usefixtures("identified")]

_CLUSTER: Final = "ours"
_OWN: Final = SMALLEST_PAGE * 2 + 1
_LIST: Final = "GET /volumes/detail"
_MANY: Final = 100
_T = TypeVar("_T")


@pytest.fixture
async def own(lab: OpenStackLab, sites: list[CinderSite], tmp_path: Path) -> AsyncIterator[list[Volume]]:
    """The volumes of this cluster: the first is real, the others are copies of its row."""
    driver = sites[0].driver(tmp_path, _CLUSTER)
    made = await driver.create(spec_of("v0"))
    with ExitStack() as stack:
        for number in range(1, _OWN):
            metadata = metadata_of(spec_of(f"v{number}"), _CLUSTER, {}, "of-a-copy")
            await asyncio.to_thread(stack.enter_context, lab.storage.copies(made.volume_id, 1, metadata))
        yield sorted(await driver.list(), key=lambda each: int(each.name[1:]))
    await driver.delete(made)


@pytest.fixture
async def crowded(lab: OpenStackLab, own: list[Volume]) -> AsyncIterator[None]:
    """A cloud with 5000 volumes of another cluster, of another project, and of no cluster."""
    other = str(lab.connection("other").current_project_id)
    described = metadata_of(own[0].spec, _CLUSTER, {}, "of-others")
    with ExitStack() as stack:

        def fill() -> None:
            for number, metadata, project in (
                (2000, {**described, "volplug:cluster": "theirs"}, ""),
                (2000, described, other),
                (1000, {}, ""),
            ):
                stack.enter_context(lab.storage.copies(own[0].volume_id, number, metadata, project=project))

        await asyncio.to_thread(fill)
        yield


@pytest.mark.usefixtures("crowded")
async def test_thousands_of_volumes_of_others_are_never_read(
    sites: list[CinderSite], own: list[Volume], tmp_path: Path
) -> None:
    driver, counts = sites[0].driver(tmp_path, _CLUSTER), sites[0].line.counts
    counts.clear()
    for volume in own[:2]:
        assert await driver.get(volume.name) == volume
    assert await driver.get("absent") is None
    assert dict(counts) == {_LIST: 3}, "one page for each name"
    counts.clear()
    assert sorted(each.name for each in await driver.list()) == sorted(each.name for each in own)
    assert dict(counts) == {_LIST: _OWN // SMALLEST_PAGE + 1}, "the pages of this cluster follow"
    counts.clear()
    source = await driver.attach(own[0])
    assert source.serial == own[0].volume_id
    await driver.detach(own[0])
    assert counts[_LIST] == 1, "before the first attach, by name"


_LONGEST: Final = "x" * 255  # that Cinder takes
# What it takes besides, over that of a volume of this cluster; None for a missing key.
_HOSTILE: Final = (
    {"volplug:name": _LONGEST},
    {"volplug:name": "wörk"},
    {"volplug:name": "../../etc"},
    {"volplug:name": None},
    {"volplug:spec": None},
    {"volplug:spec": _LONGEST, "volplug:spec.1": _LONGEST},
    {"volplug:spec": "{}", "volplug:spec.7": "{}"},
    {"volplug:fs": None},
    {"volplug:fs": "ext4", "volplug:fs-uuid": "\N{HALFWIDTH KATAKANA LETTER TU}"},
    {"volplug:subpath": "\N{HALFWIDTH KATAKANA LETTER TU}/.."},
)


async def test_volumes_with_hostile_metadata_break_no_list_and_are_used_for_nothing(
    lab: OpenStackLab, sites: list[CinderSite], own: list[Volume], tmp_path: Path
) -> None:
    driver = sites[0].driver(tmp_path, _CLUSTER)
    sound = metadata_of(spec_of("strange"), _CLUSTER, {}, "of-others")
    described = [
        {key: value for key, value in {**sound, **each}.items() if value is not None} for each in _HOSTILE
    ]
    with ExitStack() as stack:
        for metadata in described:
            copies = lab.storage.copies(own[0].volume_id, 1, metadata)
            await asyncio.to_thread(stack.enter_context, copies)
        listed = await driver.list()
        strange = [each for each in listed if each.volume_id not in {volume.volume_id for volume in own}]
        assert {each.volume_id: each for each in listed if each not in strange} == {
            each.volume_id: each for each in own
        }
        assert len(strange) == len(_HOSTILE)
        assert {each.state for each in strange} == {VolumeState.ERROR}
        assert all(each.detail for each in strange)
        assert await driver.get(own[0].name) == own[0]


async def _insist(call: Callable[[], Awaitable[_T]]) -> _T:
    """Make a call; as often as Cinder is too busy to answer, which says nothing of what it has done."""
    for _ in range(5):
        with contextlib.suppress(BackendUnavailable, OperationTimeout):
            return await call()
    raise AssertionError("Cinder did not answer five times")


@pytest.mark.slow
async def test_a_hundred_volumes_at_once(lab: OpenStackLab, sites: list[CinderSite], tmp_path: Path) -> None:
    """None is lost or doubled, and there is no poll for each of them."""
    driver, counts = sites[0].driver(tmp_path, _CLUSTER), sites[0].line.counts
    counts.clear()
    specs = [spec_of(f"m{number}") for number in range(_MANY)]
    made = await asyncio.gather(*(_insist(partial(driver.create, spec)) for spec in specs))
    assert len({each.volume_id for each in made}) == _MANY
    assert sorted(each.name for each in await driver.list()) == sorted(spec.name for spec in specs)
    assert counts["GET /os-availability-zone"] == 1
    assert counts["GET /volumes/ID"] < _MANY, "polls are lists"
    await asyncio.gather(*(_insist(partial(_delete, driver, each)) for each in made))
    assert await asyncio.to_thread(lab.storage.volumes) == []


async def _delete(driver: CinderDriver, volume: Volume) -> None:
    with contextlib.suppress(VolumeNotFound):  # an earlier try has deleted it
        await driver.delete(volume)
