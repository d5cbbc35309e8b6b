"""The EBS driver in virtual machines, into which volumes of a simulated EC2 are plugged as NVMe disks."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ec2sim import Ec2Cloud, VolumeFact
from tests.ec2sim.clients import caller
from tests.lab.requirements import VM
from tests.lab.waiting import wait_until
from tests.vm.guest import GUESTS, HOST, Guest
from tests.vm.guest_volplug import GuestVolplug, RefusedError
from tests.vm.hypervisor import QemuHypervisor, serial_of
from tests.vm.image import guest_image

pytestmark = [*VM, GUESTS, pytest.mark.ebs, pytest.mark.prepare(by=guest_image)]

_TIMEOUT_S = 240.0
_QEMU = "QEMU NVMe Ctrl"  # its disks have no other model
_AMAZON = "Amazon Elastic Block Store"
_STRANGER = "vol00000000000000000"


class Node:
    """A guest that is an instance, with volplug in it."""

    def __init__(self, cloud: Ec2Cloud, guest: Guest) -> None:
        self.guest = guest
        self._cloud = cloud
        self._instance = cloud.add_instance(guest.instance_id)
        self.volplug = GuestVolplug(guest, {"VOLPLUG_CLUSTER": "test", "VOLPLUG_LINGER_S": "0"})

    def start(self, model: str = _QEMU) -> None:
        """Start volplug; it takes disks of this model for volumes."""
        settings = {
            "driver": "ebs",
            "region": self._cloud.region,
            "endpoint": _from_inside(self._cloud.endpoint),
            "imds_endpoint": _from_inside(self._cloud.imds_endpoint_of(self.guest.instance_id)),
            "access_key": self._instance.access_key,
            "secret_key": self._instance.secret_key,
            "session_token": self._instance.session_token,
            "nvme_model": model,
        }
        lines = [f'{key} = "{value}"\n' for key, value in settings.items()]
        self.volplug.start("".join(["[backends.disks]\n", *lines]))

    def mount(self, name: str) -> str:
        """Mount a volume and return where."""
        return str(self.volplug.call("Mount", Name=name, ID=name)["Mountpoint"])

    def detach(self, name: str) -> None:
        """Unmount it and wait until EC2 shows it as available."""
        self.volplug.call("Unmount", Name=name, ID=name)
        wait_until(
            lambda: _volume(self._cloud, name).status == "available", _TIMEOUT_S, f"{name} is detached"
        )

    def disk_of(self, place: str) -> str:
        """The name of the disk with the filesystem that is mounted there."""
        device = self.guest.run(["findmnt", "--noheadings", "--output=SOURCE", "--target", place])
        return device.strip().partition("[")[0].removeprefix("/dev/")

    def serial_at(self, place: str) -> str:
        """The serial of the disk with the filesystem that is mounted there."""
        return self.guest.read(f"/sys/block/{self.disk_of(place)}/device/serial").strip()

    def write(self, path: str, text: str) -> None:
        self.guest.run(["tee", path], input_bytes=text.encode())

    def read(self, path: str) -> str:
        return self.guest.read(path)


@dataclass(frozen=True)
class Cluster:
    """A cloud and two of its instances."""

    cloud: Ec2Cloud
    hypervisor: QemuHypervisor
    first: Node
    second: Node


@pytest.fixture(scope="module")
def shared_cluster(both: tuple[Guest, Guest], lab: Path) -> Iterator[Cluster]:
    directory = lab / "volumes"
    directory.mkdir()
    hypervisor = QemuHypervisor(directory, both)
    with ExitStack() as stack:
        cloud = stack.enter_context(Ec2Cloud(hypervisor))
        first, second = (Node(cloud, guest) for guest in both)
        for node in (first, second):
            stack.callback(node.volplug.stop)
        yield Cluster(cloud, hypervisor, first, second)


@pytest.fixture
def cluster(shared_cluster: Cluster, guests: tuple[Guest, Guest]) -> Iterator[Cluster]:
    """Each test removes its volumes, images included; if not, it shows volplug's log."""
    cluster = shared_cluster
    nodes = (cluster.first, cluster.second)
    # One that runs already is left running.
    for node in nodes:
        node.start()
    with ThreadPoolExecutor(len(nodes)) as threads:
        list(threads.map(lambda node: node.volplug.await_ready(), nodes))
    cluster.cloud.calls.reset()
    yield cluster
    left = [*cluster.cloud.volumes(), *cluster.hypervisor.directory.iterdir()]
    if left:
        for node in nodes:
            node.volplug.show_log()
    assert not left


def _from_inside(url: str) -> str:
    return url.replace("127.0.0.1", HOST)


def _volume(cloud: Ec2Cloud, name: str) -> VolumeFact:
    [found] = [each for each in cloud.volumes() if each.tags["volplug:name"] == name]
    return found


def test_a_volume_follows_from_one_machine_to_another(cluster: Cluster) -> None:
    first, second = cluster.first, cluster.second
    first.volplug.call("Create", Name="db", Opts={"size": "1GiB"})
    place = first.mount("db")
    volume_id = _volume(cluster.cloud, "db").volume_id
    assert first.serial_at(place) == serial_of(volume_id)
    first.write(f"{place}/file", "written on the first")
    first.detach("db")
    assert not first.guest.plugged

    place = second.mount("db")
    assert second.serial_at(place) == serial_of(volume_id)
    assert second.read(f"{place}/file") == "written on the first"
    second.detach("db")
    second.volplug.call("Remove", Name="db")
    counts = cluster.cloud.calls.counts()
    assert {name: counts[name] for name in counts if not name.startswith("Describe")} == {
        "CreateVolume": 1,
        "AttachVolume": 2,
        "CreateTags": 2,  # the filesystem's, before and after mkfs
        "DetachVolume": 2,
        "DeleteVolume": 1,
    }


def test_volumes_are_identified_by_serial_in_any_order(cluster: Cluster, lab: Path) -> None:
    node = cluster.first
    stranger = lab / "stranger"
    with stranger.open("xb") as file:
        file.truncate(1 << 30)
    node.guest.plug(_STRANGER, stranger)
    for name in ("a", "b"):
        node.volplug.call("Create", Name=name, Opts={"size": "1GiB"})
    disks: list[dict[str, str]] = []
    for order in (("b", "a"), ("a", "b")):
        places = {name: node.mount(name) for name in order}
        for name, place in places.items():
            assert node.serial_at(place) == serial_of(_volume(cluster.cloud, name).volume_id)
            if not disks:
                node.write(f"{place}/file", name)
            assert node.read(f"{place}/file") == name
        disks.append({name: node.disk_of(place) for name, place in places.items()})
        for name in order:
            node.detach(name)
    assert disks[0] != disks[1], "the kernel named them alike both times, so this test shows nothing"
    for name in ("a", "b"):
        node.volplug.call("Remove", Name=name)
    assert node.guest.take_all() == [_STRANGER]
    assert stranger.stat().st_blocks == 0, "it was written to"


@pytest.mark.slow  # volplug starts once more; tests/drivers/ebs/test_disks.py shows the refusal
def test_a_disk_of_another_model_is_refused(cluster: Cluster) -> None:
    node = cluster.second
    node.start(_AMAZON)
    node.volplug.await_ready()
    node.volplug.call("Create", Name="c", Opts={"size": "1GiB"})
    with pytest.raises(RefusedError, match=f"its model is '{_QEMU}'"):
        node.mount("c")
    volume = _volume(cluster.cloud, "c")
    assert cluster.hypervisor.image(volume.volume_id).stat().st_blocks == 0, "it was written to"
    # The use of a disk that is not the volume's proves nothing, so an administrator has to decide.
    with pytest.raises(RefusedError, match=f"its model is '{_QEMU}'"):
        node.volplug.call("Remove", Name="c")
    with caller(cluster.cloud.endpoint) as administrator:
        administrator.detach(volume.volume_id)
    node.volplug.call("Remove", Name="c")
