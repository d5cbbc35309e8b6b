"""Faults of an OpenStack under a volplug: one line tells each, and nothing is lost, doubled or left over.

What volplug, Cinder, Nova and the kernel have is compared after each fault (`ServerPlugin.settle`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import pytest

from tests.cinder.conftest import NewPlugin
from tests.cinder.plugins import ServerPlugin
from tests.lab.openstack.faults import Operation
from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.outages import Service
from tests.lab.openstack.shared import CINDER
from volplug.drivers.cinder.options import metadata_of
from volplug.models import VolumeSpec
from volplug.sizes import GIB

pytestmark = CINDER

_NUMBERS = count()
# With all of volplug what others test of the driver, or tests/follow/test_lost_computes.py.
_SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def plugin(new_plugin: NewPlugin) -> ServerPlugin:
    plugin = new_plugin()
    plugin.process.start()
    return plugin


@pytest.fixture
async def db(lab: OpenStackLab, plugin: ServerPlugin) -> AsyncIterator[str]:
    """The name of a volume, which is removed after the test."""
    name = f"db-{next(_NUMBERS)}"
    yield name
    lab.faults.end()
    if await plugin.tried("Get", name) != {"Volume": {}}:
        await plugin.tried("Unmount", name, ID=name)
        await plugin.tried("Remove", name)
    await plugin.settle({})


@pytest.fixture
async def used(plugin: ServerPlugin, db: str) -> str:
    """The volume, with a record, and not attached."""
    await plugin.create(db)
    (await plugin.mount(db)).write()
    await plugin.unmount(db)
    await plugin.settle({db: 0})
    return db


async def _is_usable(plugin: ServerPlugin, name: str) -> None:
    """Check that its record is there, and that everything agrees while it is mounted and afterwards."""
    records = await plugin.mount(name)
    records.acknowledged.append(0)
    records.check()
    await plugin.settle({name: 1})
    await plugin.unmount(name)
    await plugin.settle({name: 0})


@pytest.mark.parametrize(
    "operation", [pytest.param(Operation.ATTACH_VOLUME, marks=_SLOW), Operation.INITIALIZE_CONNECTION]
)
async def test_an_attach_that_fails(
    lab: OpenStackLab, plugin: ServerPlugin, used: str, operation: Operation
) -> None:
    lab.faults.order(operation, fail=True)
    error = await plugin.error("Mount", used, ID=used)
    assert "Nova failed to attach" in error
    assert "See the log of nova-compute on its host" in error
    lab.faults.end()
    await plugin.settle({used: 0})
    await _is_usable(plugin, used)


@pytest.mark.parametrize(
    "operation", [pytest.param(Operation.DETACH_VOLUME, marks=_SLOW), Operation.TERMINATE_CONNECTION]
)
async def test_a_detach_that_fails_is_repeated(
    lab: OpenStackLab, plugin: ServerPlugin, used: str, operation: Operation
) -> None:
    await plugin.mount(used)
    lab.faults.order(operation, fail=True, once=True)
    await plugin.unmount(used)
    await plugin.settle({used: 0})
    await _is_usable(plugin, used)


@_SLOW
async def test_a_creation_that_fails(lab: OpenStackLab, plugin: ServerPlugin, db: str) -> None:
    lab.faults.order(Operation.CREATE_VOLUME, fail=True)
    assert "Cinder failed to create" in await plugin.error("Create", db, Opts={"size": "1GiB"})
    lab.faults.end()
    await plugin.settle({})
    await plugin.create(db)
    await plugin.settle({db: 0})


async def test_a_deletion_that_fails(lab: OpenStackLab, plugin: ServerPlugin, used: str) -> None:
    lab.faults.order(Operation.DELETE_VOLUME, fail=True)
    error = await plugin.error("Remove", used)
    assert "Cinder could not delete it; if it is sound: openstack volume set --state available" in error
    lab.faults.end()
    (stuck,) = lab.storage.volumes()
    await asyncio.to_thread(lab.storage.set_status, stuck.id, "available")
    await plugin.ok("Remove", used)
    await plugin.settle({})


@_SLOW
async def test_delays_are_waited_for(lab: OpenStackLab, plugin: ServerPlugin, db: str) -> None:
    for operation in (Operation.CREATE_VOLUME, Operation.ATTACH_VOLUME, Operation.DETACH_VOLUME):
        lab.faults.order(operation, sleep_s=1.0)
    await plugin.create(db)
    (await plugin.mount(db)).write()
    await plugin.unmount(db)
    await _is_usable(plugin, db)


@_SLOW
async def test_a_compute_service_that_was_killed_detaches_once_it_is_back(
    lab: OpenStackLab, plugin: ServerPlugin, used: str
) -> None:
    node = plugin.server.node
    await plugin.mount(used)
    lab.hosts.kill(node)
    await asyncio.to_thread(lab.hosts.miss_reports, node)
    await plugin.unmount(used)
    assert "compute host is down" in await plugin.error("Remove", used)
    await asyncio.to_thread(lab.hosts.start, node)
    await plugin.settle({used: 0})
    await _is_usable(plugin, used)


# Quota, roles, and other parties' volumes


@_SLOW
async def test_a_quota(lab: OpenStackLab, plugin: ServerPlugin, used: str) -> None:
    await asyncio.to_thread(lambda: lab.storage.set_quota(gigabytes=1))
    try:
        error = await plugin.error("Create", f"{used}-2", Opts={"size": "1GiB"})
    finally:
        await asyncio.to_thread(lambda: lab.storage.set_quota(gigabytes=100_000))
    assert "1GiB would exceed the project's quota of gigabytes: of 1GiB 1GiB are used" in error
    await plugin.settle({used: 0})


@_SLOW
async def test_a_reader_sees_a_volume_and_cannot_attach_it(
    plugin: ServerPlugin, new_plugin: NewPlugin, used: str
) -> None:
    """Cinder's default policies let a reader create and delete, Nova's do not let it attach."""
    reader = new_plugin(cloud="viewer")
    with reader.process:
        assert (await reader.ok("Get", used))["Volume"]["Name"] == used
        error = await reader.error("Mount", used, ID=used)
        assert "Nova does not allow os_compute_api:os-volumes-attachments:create" in error
        await reader.settle({used: 0})
    await _is_usable(plugin, used)


async def test_another_projects_volume_of_the_same_name_and_cluster(
    lab: OpenStackLab, plugin: ServerPlugin, db: str
) -> None:
    others = lab.connection("other").block_storage
    metadata = metadata_of(VolumeSpec(db, GIB), plugin.cluster, {}, "of-another-project")

    def make() -> str:
        made = others.create_volume(size=1, metadata=metadata)
        others.wait_for_status(made, "available", interval=0.1, wait=60)
        return str(made.id)

    theirs = await asyncio.to_thread(make)
    try:
        assert "has no such volume" in await plugin.error("Mount", db, ID=db)
        await plugin.create(db)
        (await plugin.mount(db)).write()
        await plugin.unmount(db)
        await _is_usable(plugin, db)
        await plugin.ok("Remove", db)
        left = await asyncio.to_thread(others.get_volume, theirs)
        assert (left.status, left.metadata) == ("available", metadata)
    finally:
        await asyncio.to_thread(others.delete_volume, theirs)


# Services that are out


# Of a Mount; valid tokens are used without Keystone.
_NO_ANSWER = {
    Service.CINDER: "Cinder did not answer GET /volumes/detail",
    Service.NOVA: "Nova did not answer POST /servers/ID/os-volume_attachments",
}


@pytest.mark.parametrize("service", Service)
async def test_a_service_that_has_ended(
    lab: OpenStackLab, plugin: ServerPlugin, used: str, service: Service
) -> None:
    """What is mounted stays so and can be unmounted; it is detached once the service is back."""
    records, other = await plugin.mount(used), f"{used}-2"
    await plugin.create(other)
    with lab.outages.ended(service):
        records.write()
        await plugin.ok("Get", used)
        if service in _NO_ANSWER:
            assert _NO_ANSWER[service] in await plugin.error("Mount", other, ID=other)
        await plugin.unmount(used)
    await plugin.settle({used: 0, other: 0})
    await plugin.ok("Remove", other)
    await _is_usable(plugin, used)


@pytest.mark.parametrize(
    "service",
    [Service.CINDER, *(pytest.param(each, marks=_SLOW) for each in (Service.KEYSTONE, Service.NOVA))],
)
async def test_a_service_that_hangs_for_a_while(
    lab: OpenStackLab, plugin: ServerPlugin, used: str, service: Service
) -> None:
    """The same calls succeed, later."""
    with lab.outages.hanging(service):
        mounting = asyncio.ensure_future(plugin.mount(used))
        done, _ = await asyncio.wait({mounting}, timeout=1)
        assert service is Service.KEYSTONE or not done
    await mounting
    await plugin.unmount(used)
    await _is_usable(plugin, used)


async def test_a_database_that_restarts(lab: OpenStackLab, plugin: ServerPlugin, used: str) -> None:
    """No service needs a restart, and no call fails after it."""
    await asyncio.to_thread(lab.outages.restart_database)
    await _is_usable(plugin, used)
    await plugin.ok("Remove", used)
    await plugin.settle({})
