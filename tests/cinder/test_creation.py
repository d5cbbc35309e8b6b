"""Creations on a real OpenStack: lost answers, crashes, hosts that create one name at once, and refusals."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.cinder.sites import SIZE, CinderSite, spec_of
from tests.lab.openstack.faults import Operation
from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.shared import CINDER
from tests.lab.waiting import wait_until
from volplug.drivers.base import BackendLimit
from volplug.drivers.cinder import CinderDriver
from volplug.drivers.cinder.options import metadata_of
from volplug.drivers.cloud.tags import NAME
from volplug.errors import (
    BackendUnavailable,
    DuplicateVolumes,
    InvalidOption,
    LimitExceeded,
    UnexpectedState,
    Unsupported,
    VolumeExists,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.models import FilesystemPhase, FilesystemTag, Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB
from volplug.steps import OnStep, WorldStep, unannounced

pytestmark = [*CINDER, pytest.mark.usefixtures("identified")]

_NUMBERS = count()
_FORMATTED = FilesystemTag(FilesystemPhase.FORMATTED, "ext4", "0c6f6d3c-9a0b-4f0e-8a4e-111122223333")


class Hosts:
    """Two hosts of one cluster; each driver is that of a new process."""

    def __init__(self, sites: list[CinderSite], directory: Path) -> None:
        self.sites = sites
        self.cluster = f"creation-{next(_NUMBERS)}"
        self._directory = directory

    def driver(self, number: int = 0, on_step: OnStep = unannounced) -> CinderDriver:
        return self.sites[number].driver(self._directory / str(number), self.cluster, on_step=on_step)

    async def found(self) -> list[Volume]:
        return [each for each in await self.driver().list() if each.state is not VolumeState.DELETING]

    async def clean(self) -> None:
        driver = self.driver()
        for volume in await self.found():
            for number in range(len(self.sites)):
                await self.driver(number).detach(volume)
            await driver.delete(volume)


@pytest.fixture
def hosts(sites: list[CinderSite], tmp_path: Path) -> Iterator[Hosts]:
    hosts = Hosts(sites, tmp_path)
    yield hosts
    for site in sites:
        site.line.is_cut = False
        site.line.lost.clear()


@pytest.fixture(autouse=True)
async def cleaned(hosts: Hosts) -> AsyncIterator[None]:
    yield
    await hosts.clean()


async def test_a_lost_answer_is_found_out_at_once(hosts: Hosts) -> None:
    hosts.sites[0].line.lost["POST /volumes"] = False
    volume = await hosts.driver().create(spec_of())
    assert await hosts.found() == [volume]
    assert hosts.sites[0].line.counts["POST /volumes"] == 1


async def test_after_a_crash_behind_the_request_the_next_process_continues_with_its_volume(
    hosts: Hosts,
) -> None:
    hosts.sites[0].line.lost["POST /volumes"] = True
    with pytest.raises(BackendUnavailable, match="unknown whether the volume was created"):
        await hosts.driver().create(spec_of())
    hosts.sites[0].line.is_cut = False
    volume = await hosts.driver().create(spec_of())
    assert await hosts.found() == [volume]
    assert hosts.sites[0].line.counts["POST /volumes"] == 1
    with pytest.raises(VolumeExists, match=volume.volume_id):
        await hosts.driver().create(spec_of())


async def test_after_a_crash_between_note_and_request_the_next_process_creates_it(hosts: Hosts) -> None:
    class KilledError(Exception):
        pass

    def die(_: WorldStep) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        await hosts.driver(on_step=die).create(spec_of())
    assert await hosts.found() == []
    volume = await hosts.driver().create(spec_of())
    assert await hosts.found() == [volume]


async def test_another_host_does_not_continue_with_it(hosts: Hosts) -> None:
    hosts.sites[0].line.lost["POST /volumes"] = True
    with pytest.raises(BackendUnavailable):
        await hosts.driver().create(spec_of())
    hosts.sites[0].line.is_cut = False
    with pytest.raises(VolumeExists):
        await hosts.driver(1).create(spec_of())
    assert len(await hosts.found()) == 1


@pytest.mark.parametrize("attempt", range(3))
async def test_hosts_that_create_and_attach_one_name_at_once_get_one_volume(
    hosts: Hosts, attempt: int
) -> None:
    """Of two that create at once one wins, and only its volume is ever attached."""

    async def use(number: int) -> object:
        driver = hosts.driver(number)
        with contextlib.suppress(VolumeExists):
            await driver.create(spec_of())
        volume = await driver.get("v")
        assert volume is not None
        source = await driver.attach(volume)
        return source.serial

    results = await asyncio.gather(use(0), use(1), return_exceptions=True)
    (volume,) = await hosts.found()
    attached = [each for each in results if isinstance(each, str)]
    assert attached == [volume.volume_id], results


async def test_a_host_that_listed_too_early_gives_its_volume_up_before_the_first_attach(
    lab: OpenStackLab, hosts: Hosts
) -> None:
    """The other volume is older, but was not shown yet when this host listed the name."""
    older = await _created_by_another_host(lab, hosts, spec_of(), "not-shown-yet")
    await _next_second()
    mine = await hosts.driver().create(spec_of())
    await asyncio.to_thread(_rename, lab, older, "v")
    with pytest.raises(VolumeInUse, match=f"{older} is"):
        await hosts.driver().attach(mine)
    assert [each.volume_id for each in await hosts.found()] == [older]


async def test_a_volume_with_data_wins_whatever_its_age(lab: OpenStackLab, hosts: Hosts) -> None:
    older = await _created_by_another_host(lab, hosts, spec_of(), "not-shown-yet")
    await _next_second()
    mine = await hosts.driver().create(spec_of())
    await hosts.driver().tag_filesystem(mine, _FORMATTED)
    await asyncio.to_thread(_rename, lab, older, "v")
    found = await hosts.driver(1).get("v")
    assert found is not None
    assert found.volume_id == mine.volume_id
    with pytest.raises(VolumeExists, match=mine.volume_id):
        await hosts.driver(1).create(spec_of())
    await hosts.driver().attach(found)
    assert {each.volume_id for each in await hosts.found()} == {mine.volume_id, older}


async def test_two_volumes_with_data_are_left_to_the_operator(lab: OpenStackLab, hosts: Hosts) -> None:
    mine = await hosts.driver().create(spec_of())
    await _created_by_another_host(lab, hosts, spec_of())
    for volume in await hosts.found():
        await hosts.driver().tag_filesystem(volume, _FORMATTED)
    with pytest.raises(DuplicateVolumes):
        await hosts.driver().attach(mine)
    assert len(await hosts.found()) == 2


async def _next_second() -> None:
    """Wait for the next second: Cinder's database keeps whole ones."""
    now_s = int(time.time())
    await asyncio.to_thread(wait_until, lambda: int(time.time()) > now_s, 5.0, "the next second")


def _rename(lab: OpenStackLab, volume_id: str, name: str) -> None:
    lab.connection("demo").block_storage.set_volume_metadata(volume_id, **{NAME: name})


async def _created_by_another_host(lab: OpenStackLab, hosts: Hosts, spec: VolumeSpec, name: str = "v") -> str:
    """Create a volume as another host does, without looking for others."""
    cloud = lab.connection("demo")
    metadata = {**metadata_of(spec, hosts.cluster, {}, "of-another-host"), NAME: name}

    def make() -> str:
        made = cloud.block_storage.create_volume(size=1, metadata=metadata)
        cloud.block_storage.wait_for_status(made, "available", interval=0.1, wait=60)
        return str(made.id)

    return await asyncio.to_thread(make)


async def test_a_creation_that_fails_at_the_storage_is_explained_and_leaves_nothing(
    lab: OpenStackLab, hosts: Hosts
) -> None:
    lab.faults.order(Operation.CREATE_VOLUME, fail=True)
    try:
        with pytest.raises(UnexpectedState, match="Cinder failed to create"):
            await hosts.driver().create(spec_of())
    finally:
        lab.faults.end(Operation.CREATE_VOLUME)
    assert await hosts.found() == []
    await hosts.driver().create(spec_of())


async def test_a_volume_that_no_storage_has_room_for_is_refused_and_leaves_nothing(hosts: Hosts) -> None:
    with pytest.raises(LimitExceeded, match="no storage with room"):
        await hosts.driver().create(spec_of(size_bytes=900 * GIB))
    assert await hosts.found() == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"type": "nosuch"}, "Volume type with name nosuch could not be found"),
        ({"availability_zone": "zz"}, "Availability zone 'zz' is invalid"),
    ],
)
async def test_a_wrong_option_is_refused_in_cinders_words(
    hosts: Hosts, options: dict[str, str], text: str
) -> None:
    with pytest.raises(InvalidOption, match=text):
        await hosts.driver().create(spec_of("v", SIZE, **options))
    assert await hosts.found() == []


async def test_a_type_for_several_servers_is_refused_and_leaves_nothing(hosts: Hosts) -> None:
    with pytest.raises(Unsupported, match="type multiattach allows several attachments"):
        await hosts.driver().create(spec_of(type="multiattach"))
    assert await hosts.found() == []


async def test_a_quota_is_told_with_its_numbers(lab: OpenStackLab, hosts: Hosts) -> None:
    await asyncio.to_thread(lambda: lab.storage.set_quota(volumes=1))
    try:
        await hosts.driver().create(spec_of())
        volumes, _ = await hosts.driver().limits()
        assert volumes == BackendLimit("volumes", 1, 1, "volumes")
        with pytest.raises(LimitExceeded, match="quota of volumes is used up: 1 are allowed"):
            await hosts.driver().create(spec_of("w"))
    finally:
        await asyncio.to_thread(lambda: lab.storage.set_quota(volumes=1000))


async def test_the_first_attach_of_an_unverified_volume_is_noted_on_it(
    lab: OpenStackLab, hosts: Hosts
) -> None:
    volume = await hosts.driver().create(spec_of(blank="unverified"))
    await hosts.driver().attach(volume)
    get = lab.connection("demo").block_storage.get_volume
    shown = await asyncio.to_thread(get, volume.volume_id)
    assert shown.metadata["volplug:attached"] == "true"


async def test_a_deleted_volume_can_be_neither_attached_nor_continued_with(hosts: Hosts) -> None:
    volume = await hosts.driver().create(spec_of())
    await hosts.driver(1).delete(volume)
    with pytest.raises(VolumeNotFound):
        await hosts.driver().attach(volume)
    again = await hosts.driver().create(spec_of())
    assert again.volume_id != volume.volume_id
