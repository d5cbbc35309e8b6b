"""The OpenStack of the lab: servers see volumes, data moves with them, hosts and storage fail as ordered."""

import os
import urllib.request
from pathlib import Path

import pytest
from openstack.exceptions import ConflictException, ForbiddenException, HttpException

from tests.lab.guest_disks import GuestDisks
from tests.lab.network import Network
from tests.lab.openstack.faults import Operation
from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.servers import Server
from tests.lab.openstack.shared import CINDER, LAB_NUMBER
from tests.lab.waiting import wait_until
from volplug.host.devices import size_bytes
from volplug.sizes import GIB

pytestmark = CINDER

_TIMEOUT_S = 30.0
_DATA = b"what was written"


def _names(server: Server) -> set[str]:
    return GuestDisks(str(server.directory)).names()


def test_data_moves_with_a_volume(lab: OpenStackLab, servers: tuple[Server, Server]) -> None:
    virtio, scsi = servers
    volume_id = lab.storage.create("moves")
    lab.servers.attach(virtio, volume_id)
    block = Path(virtio.sys_root, "block")
    assert _names(virtio) == {"vda", "vdb"}
    assert (block / "vdb/serial").read_text() == f"{volume_id[:20]}\n"
    node = virtio.disks()[volume_id]
    number = os.stat(node).st_rdev
    assert (block / "vdb/dev").read_text() == f"{os.major(number)}:{os.minor(number)}\n"
    with open(node, "r+b", buffering=0) as device:
        device.write(_DATA.ljust(512))
        os.fsync(device.fileno())
    lab.servers.detach(virtio, volume_id)
    assert _names(virtio) == {"vda"}
    lab.servers.attach(scsi, volume_id)
    page = Path(scsi.sys_root, "block/sdb/device/vpd_pg80").read_bytes()
    assert page == b"\x00\x80\x00\x24" + volume_id.encode()
    assert Path(scsi.disks()[volume_id]).name == "sdb"
    with open(scsi.disks()[volume_id], "rb") as device:
        assert device.read(len(_DATA)) == _DATA
    lab.servers.detach(scsi, volume_id)


def test_a_server_knows_its_id(servers: tuple[Server, Server]) -> None:
    facts = Path(servers[0].sys_root, "devices/virtual/dmi/id")
    assert (facts / "product_uuid").read_text() == f"{servers[0].id}\n"
    assert (facts / "product_name").read_text() == "OpenStack Nova\n"


def test_an_attached_volume_grows(lab: OpenStackLab, servers: tuple[Server, Server]) -> None:
    server = servers[0]
    volume_id = lab.storage.create("grows")
    lab.servers.attach(server, volume_id)
    lab.connection("demo").block_storage.extend_volume(volume_id, 2)
    node = server.disks()[volume_id]
    size = Path(server.sys_root, "block", Path(node).name, "size")
    wait_until(lambda: int(size.read_text()) * 512 == 2 * GIB, _TIMEOUT_S, "the disk has grown")
    assert size_bytes(node) == 2 * GIB
    lab.servers.detach(server, volume_id)


@pytest.mark.slow  # test_takeover.py kills one, and takes no volume before it is started
def test_a_killed_host_keeps_its_devices_and_is_down_until_it_is_started(
    lab: OpenStackLab, servers: tuple[Server, Server]
) -> None:
    server = servers[0]
    volume_id = lab.storage.create("stays")
    lab.servers.attach(server, volume_id)
    lab.hosts.kill("node1")
    assert lab.hosts.state("node1") == "up"
    lab.hosts.miss_reports("node1")
    assert lab.hosts.state("node1") == "down"
    assert volume_id in server.disks()
    with pytest.raises(ConflictException, match="Service is unavailable at this time"):
        lab.servers.detach(server, volume_id)
    lab.hosts.start("node1")
    lab.servers.detach(server, volume_id)
    assert server.disks() == {}


def test_a_host_that_is_forced_down_is_down_while_it_runs(lab: OpenStackLab) -> None:
    lab.hosts.force_down("node2")
    assert lab.hosts.state("node2") == "down"
    lab.hosts.start("node2")
    assert lab.hosts.state("node2") == "up"


def test_operations_are_held_and_fail_as_ordered(lab: OpenStackLab, servers: tuple[Server, Server]) -> None:
    server = servers[0]
    volume_id = lab.storage.create("fails")
    compute = lab.connection("operator").compute
    with lab.faults.held(Operation.ATTACH_VOLUME):
        compute.create_volume_attachment(server.id, volume_id=volume_id)
        lab.storage.await_status(volume_id, "attaching")
        assert server.disks() == {}
    lab.storage.await_status(volume_id, "in-use")
    lab.faults.order(Operation.DETACH_VOLUME, fail=True, once=True)
    compute.delete_volume_attachment(server.id, volume_id)
    lab.storage.await_status(volume_id, "in-use")
    assert volume_id in server.disks()
    lab.servers.detach(server, volume_id)


def test_a_volume_can_be_bootable(lab: OpenStackLab) -> None:
    volume_id = lab.storage.create("boots")
    lab.storage.make_bootable(volume_id)
    assert lab.connection("demo").block_storage.get_volume(volume_id).is_bootable


def test_a_project_has_a_quota(lab: OpenStackLab) -> None:
    lab.storage.set_quota(gigabytes=20)
    try:
        with pytest.raises(HttpException, match="exceeds allowed gigabytes quota") as refused:
            lab.storage.create("large", 21)
        assert refused.value.status_code == 413
    finally:
        lab.storage.end_quota()


@pytest.mark.parametrize("cloud", ["demo", "demo-app"])
def test_a_member_sees_the_servers_of_its_project(
    lab: OpenStackLab, servers: tuple[Server, Server], cloud: str
) -> None:
    found = {each.id for each in lab.connection(cloud).compute.servers()}
    assert found >= {server.id for server in servers}


def test_others_do_not(lab: OpenStackLab, servers: tuple[Server, Server]) -> None:
    assert list(lab.connection("other").compute.servers()) == []
    with pytest.raises(ForbiddenException, match="Policy doesn't allow"):
        lab.connection("viewer").compute.stop_server(servers[0].id)


def test_hosts_of_a_network_reach_it(lab: OpenStackLab, tmp_path: Path) -> None:
    network = Network(tmp_path)
    try:
        network.plug_in_caller(LAB_NUMBER)
        with network.threads() as inside:
            shown = inside.submit(_get, lab.auth_url).result()
    finally:
        network.close()
    assert b'"version"' in shown


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http only
        content: bytes = answer.read()
        return content
