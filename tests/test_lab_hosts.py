"""Several hosts on this machine: they are separate, and can fail in all ways that hosts fail."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.host import Host, Hosts, join_swarm
from tests.lab.leftovers import settled_difference, snapshot
from tests.lab.network import Network, Wire
from tests.lab.requirements import MULTIHOST
from tests.lab.waiting import wait_until
from volplug.steps import WorldStep

pytestmark = MULTIHOST

_TIMEOUT_S = 60.0
_VOLUME = ("--volume-driver=volplug", "--volume=db:/data")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """Two hosts that are on; a test undoes its changes of a host, or boots it again."""
    before = snapshot()
    with Hosts("a", "b") as hosts:
        hosts.power_on()
        yield hosts
    assert settled_difference(before) == []


@pytest.fixture
def a(hosts: Hosts) -> Host:
    return hosts["a"]


@pytest.fixture
def b(hosts: Hosts) -> Host:
    return hosts["b"]


def _on(host: Host, script: str) -> str:
    return host.engine.run(["sh", "-c", script], check=True).stdout


def _boot_id(host: Host) -> str:
    return _on(host, "cat /proc/sys/kernel/random/boot_id").strip()


def _reaches(host: Host, address: str) -> bool:
    return host.engine.run(["busybox", "ping", "-c1", "-W1", address]).returncode == 0


def test_hosts_have_names_boots_disks_and_engines_of_their_own(a: Host, b: Host) -> None:
    assert [_on(host, "cat /proc/sys/kernel/hostname") for host in (a, b)] == ["a\n", "b\n"]
    assert len({_boot_id(a), _boot_id(b), Path("/proc/sys/kernel/random/boot_id").read_text().strip()}) == 3
    for host in (a, b):
        host.docker("run", "--rm", *_VOLUME, "busybox:local", "sh", "-c", f"echo {host.name} >>/data/hosts")
    for host in (a, b):
        found = host.engine.output_of(*_VOLUME, image="busybox:local", script="cat /data/hosts")
        assert found == f"{host.name}\n"
        host.docker("volume", "rm", "db")


def test_a_host_is_disconnected_from_its_peers_from_the_cloud_or_from_both(a: Host, b: Host) -> None:
    def reached() -> tuple[bool, bool]:
        return _reaches(a, b.address()), _reaches(a, Network.cloud)

    assert reached() == (True, True)
    a.partition([Wire.PEERS])
    assert reached() == (False, True)
    a.heal()
    a.partition([Wire.CLOUD])
    assert reached() == (True, False)
    a.partition()
    assert reached() == (False, False)
    a.heal()
    assert reached() == (True, True)


def test_a_host_that_boots_again_has_its_disk_without_unsynced_writes(a: Host) -> None:
    script = "echo 1 >/data/written && sync && echo 1 >/data/unwritten && sleep 1000"
    a.docker("run", "--detach", "--name=job", *_VOLUME, "busybox:local", "sh", "-c", script)
    wait_until(
        lambda: a.docker("exec", "job", "ls", "/data") == "unwritten\nwritten\n", _TIMEOUT_S, "it has written"
    )
    first = _boot_id(a)
    a.reboot()
    assert _boot_id(a) != first
    assert a.docker("inspect", "--format={{.State.Status}}", "job") == "exited\n"
    assert a.engine.output_of(*_VOLUME, image="busybox:local", script="ls /data") == "written\n"
    a.docker("rm", "job")
    a.docker("volume", "rm", "db")


def test_a_frozen_host_stops_with_its_containers_until_it_is_thawed(a: Host) -> None:
    count = "while :; do echo 1 >>/count/ticks; usleep 10000; done"
    directory = a.directory / "count"
    directory.mkdir()
    ticks = directory / "ticks"
    a.docker(
        "run", "--detach", "--name=job", f"--volume={directory}:/count", "busybox:local", "sh", "-c", count
    )
    wait_until(lambda: ticks.exists(), _TIMEOUT_S, "it counts")
    a.freeze()
    counted = ticks.stat().st_size
    with pytest.raises(subprocess.TimeoutExpired):
        a.docker("ps", timeout_s=1)
    assert ticks.stat().st_size == counted
    a.thaw()
    wait_until(lambda: ticks.stat().st_size > counted, _TIMEOUT_S, "it continues counting")
    a.docker("rm", "--force", "job")


def test_volplug_dies_at_a_step_and_is_started_again(a: Host) -> None:
    a.docker("run", "--detach", "--name=job", *_VOLUME, "busybox:local", "sleep", "1000")
    a.restart_volplug(kill_at=(WorldStep.DETACH, 1))  # which comes when Docker does not wait any more
    a.docker("rm", "--force", "job")
    wait_until(lambda: not a.volplug.running, _TIMEOUT_S, "it is dead")
    a.restart_volplug()
    a.docker("run", "--rm", *_VOLUME, "busybox:local", "true")
    a.docker("volume", "rm", "db")


def test_a_swarm_of_hosts_places_a_service_with_a_volume_as_constrained(a: Host, b: Host) -> None:
    join_swarm(a, b)
    options = ("--detach", "--no-resolve-image", "--constraint=node.hostname==b")
    mount = "--mount=type=volume,source=db,target=/data,volume-driver=volplug"
    a.docker("service", "create", "--name=job", *options, mount, "busybox:local", "sleep", "1000")
    wait_until(lambda: b.docker("ps", "--quiet") != "", _TIMEOUT_S, "the task runs on b")
    assert b.docker("volume", "ls", "--quiet") == "db\n"
    a.docker("service", "rm", "job")
    for host in (b, a):
        host.docker("swarm", "leave", "--force")
    assert a.docker("volume", "ls", "--quiet") == ""
    wait_until(lambda: b.docker("ps", "--all", "--quiet") == "", _TIMEOUT_S, "the task is gone")
    b.docker("volume", "rm", "db")


def test_nothing_is_left_of_hosts_that_are_off_frozen_and_disconnected_when_a_test_fails() -> None:
    before = snapshot()
    hosts = Hosts("off", "frozen")
    with pytest.raises(ZeroDivisionError):
        _fail_in_the_middle(hosts)
    assert settled_difference(before) == []


def _fail_in_the_middle(hosts: Hosts) -> None:
    with hosts:
        hosts.power_on()
        for host in hosts:
            host.docker("run", "--detach", *_VOLUME, "busybox:local", "sleep", "1000")
            host.partition()
        hosts["off"].kill()
        hosts["frozen"].freeze()
        raise ZeroDivisionError
