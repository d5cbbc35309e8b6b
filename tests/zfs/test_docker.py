"""Volumes of a ZFS pool in Docker, and what the page of the driver tells people to type."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests import pages
from tests.engine.use import create, execute, inspect, refusal, run, start
from tests.lab import checker
from tests.lab.host import Host, Hosts
from tests.lab.operator import Operator
from tests.lab.requirements import HAS_OPENZFS, MULTIHOST, ZFS
from tests.lab.waiting import wait_until
from tests.lab.zfs import ZfsFuse
from tests.zfs.conftest import PAGE, POOL_BYTES

pytestmark = [*MULTIHOST, *ZFS, pytest.mark.skipif(HAS_OPENZFS, reason="is about zfs-fuse")]

_MOUNT = ("--volume-driver=volplug", "-v", "db:/data")
_TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def operators(hosts: Hosts, zfs: Mapping[str, ZfsFuse]) -> Mapping[str, Operator]:
    """The operator of each host; ``tank/volplug`` is there."""
    backup = hosts.directory / "backup"
    backup.mkdir()
    names = {"/backup": str(backup), "zpool import": f"zpool import -d {zfs['a'].directory}"}
    found = {host.name: Operator(host.engine.run, names, hosts.directory) for host in hosts}
    found["a"].does(PAGE, "The ZFS driver", 0)
    return found


@pytest.fixture
def operator(operators: Mapping[str, Operator], a: Host) -> Operator:
    """The one of the host with the pool."""
    return operators["a"]


def status(host: Host, name: str = "db") -> dict[str, Any]:
    found = inspect(host.engine, "volume", name)["Status"]
    assert isinstance(found, dict)
    return found


def await_status(host: Host, wanted: Mapping[str, object]) -> None:
    wait_until(lambda: wanted.items() <= status(host).items(), _TIMEOUT_S, f"Docker shows {wanted}")


def test_what_one_container_writes_the_next_one_reads(a: Host, operator: Operator) -> None:
    operator.does(PAGE, "The ZFS driver", 1)
    start(a.engine, "db", *_MOUNT, script="echo kept >/data/file; exec sleep 1000")
    other = run(a.engine, *_MOUNT, script="cat /data/file && ls -A /data")
    assert other == "kept\nfile\n"
    shown = {"dataset": "tank/volplug/db", "fs": "zfs", "size": "10GiB", "profile": "postgres"}
    await_status(a, {**shown, "state": "in-use", "mountCount": 1, "holder": "a"})
    a.docker("cp", "db:/data/file", str(a.directory / "copied"))
    assert (a.directory / "copied").read_text() == "kept\n"
    assert execute(a.engine, "db", "cat /data/file") == "kept\n"
    a.docker("rm", "--force", "db")
    await_status(a, {**shown, "state": "available"})
    a.docker("volume", "rm", "db")
    assert "tank/volplug/db" not in operator.types("zfs list -H -o name").split()


def test_what_makes_no_sense_is_refused_with_the_reason(a: Host, operator: Operator) -> None:
    for option in ("fs=xfs", "mkfs-opts=-K"):
        error = refusal(a.engine, "volume", "create", "-d", "volplug", "-o", option, "db")
        assert "its volumes are zfs filesystems from their creation" in error


def test_a_full_volume_says_so_in_its_container(a: Host, operator: Operator) -> None:
    create(a.engine, "db")
    fill = "dd if=/dev/urandom of=/data/file bs=1M count=32 2>&1; rm /data/file; echo small >/data/file"
    shown = run(a.engine, *_MOUNT, script=f"{fill}; cat /data/file")
    assert "dd: error writing '/data/file': Disk quota exceeded\n" in shown
    assert shown.endswith("\nsmall\n")
    a.docker("volume", "rm", "db")


def test_what_a_person_does_by_hand_breaks_nothing(a: Host, operator: Operator) -> None:
    create(a.engine, "db")
    records = checker.start(a.engine, "db")
    operator.does(PAGE, "Options")
    operator.does(PAGE, "Backups", 0)
    records.await_progress()
    records.stop()
    records.verify()
    await_status(a, {"size": "20GiB"})
    error = refusal(a.engine, "volume", "rm", "db")
    assert "tank/volplug/db@monday" in error
    operator.does(PAGE, "Backups", 1)
    wait_until(lambda: "db2" in a.docker("volume", "ls", "-q").split(), _TIMEOUT_S, "the copy is a volume")
    assert run(a.engine, "-v", "db2:/data", script="cat /data/records").startswith("1\n2\n")
    operator.types("zfs destroy tank/volplug/db2@monday && zfs destroy tank/volplug/db@monday")
    a.docker("volume", "rm", "db", "db2")


def test_a_container_continues_while_volplug_restarts(a: Host, operator: Operator) -> None:
    create(a.engine, "db")
    records = checker.start(a.engine, "db")
    for is_kill in (True, False):
        a.restart_volplug(kill=is_kill)
        records.await_progress()
        records.verify()
    records.stop()
    records.verify()
    await_status(a, {"state": "available"})
    a.docker("volume", "rm", "db")


def test_a_host_with_a_pool_of_its_own_has_volumes_of_its_own(
    hosts: Hosts, a: Host, zfs: Mapping[str, ZfsFuse], operators: Mapping[str, Operator]
) -> None:
    b = hosts["b"]
    zfs["b"].make_pool("tank", size_bytes=POOL_BYTES)
    operators["b"].does(PAGE, "The ZFS driver", 0)
    create(a.engine, "db")
    run(a.engine, *_MOUNT, script="echo kept >/data/file")
    assert run(b.engine, *_MOUNT, script="ls -A /data") == ""
    b.docker("volume", "rm", "db")
    zfs["b"].zpool("destroy", "tank")
    assert run(a.engine, *_MOUNT, script="cat /data/file") == "kept\n"
    a.docker("volume", "rm", "db")


def test_a_pool_moves_to_another_host_and_the_first_one_says_that_it_is_gone(
    hosts: Hosts, a: Host, operators: Mapping[str, Operator]
) -> None:
    b = hosts["b"]
    with_volume = ("run", "--rm", *_MOUNT, "busybox:local", "true")
    not_here = "there is no dataset tank/volplug"
    create(a.engine, "db")
    run(a.engine, *_MOUNT, script="echo kept >/data/file")
    export, import_ = pages.commands(PAGE, "Where a volume is")[0].splitlines()
    operators["a"].types(export)
    assert not_here in refusal(a.engine, *with_volume)
    operators["b"].types(import_)
    assert run(b.engine, *_MOUNT, script="cat /data/file") == "kept\n"
    error = refusal(a.engine, *with_volume)
    assert not_here in error
    assert "node a]. Import its pool: zpool import tank" in error
    b.docker("volume", "rm", "db")
    operators["b"].types(export)
    operators["a"].types(import_)
    a.docker("volume", "rm", "--force", "db")
