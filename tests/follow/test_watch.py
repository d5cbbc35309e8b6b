"""The watch sees what it is there for."""

from collections.abc import Collection, Iterator
from typing import cast

import pytest

from tests.follow.backend import FollowBackend
from tests.follow.watch import Watch
from tests.lab.host import Host, Hosts
from tests.lab.leftovers import settled_difference, snapshot
from tests.lab.requirements import MULTIHOST
from tests.lab.waiting import wait_until

pytestmark = MULTIHOST

_TIMEOUT_S = 60.0


class _Cloud:
    """Knows what a test says that it knows."""

    def __init__(self) -> None:
        self.names: list[str] = ["db"]
        self.holder: set[str] = {"a"}

    def volumes(self) -> list[str]:
        return self.names

    def holders(self, volume: str) -> Collection[str]:
        return self.holder


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    before = snapshot()
    with Hosts("a", "b") as hosts:
        hosts.power_on()
        image = hosts.directory / "image"
        for command in (f"truncate --size=32M {image}", f"mkfs.ext4 -q {image}"):
            hosts["a"].engine.run(command.split(), check=True)
        yield hosts
    assert settled_difference(before) == []


@pytest.fixture
def cloud() -> _Cloud:
    return _Cloud()


@pytest.fixture
def watch(hosts: Hosts, cloud: _Cloud) -> Iterator[Watch]:
    with Watch(hosts, cast(FollowBackend, cloud)) as watch:
        yield watch


def _mount(hosts: Hosts, host: Host, place: str) -> None:
    script = f"mkdir -p {place} && mount -o loop {hosts.directory}/image {place}"
    host.engine.run(["sh", "-c", script], check=True)


def test_it_sees_whatever_breaks_a_promise(hosts: Hosts, watch: Watch, cloud: _Cloud) -> None:
    a, b = hosts
    _mount(hosts, a, f"{a.volplug.mount_root}/db")
    watch.check("db")

    cloud.names = ["db", "db"]
    with pytest.raises(AssertionError, match="lost or doubled"):
        watch.check("db")
    cloud.names = ["db"]

    cloud.holder = {"b"}
    with pytest.raises(AssertionError, match="db is mounted on a"):
        watch.check("db")
    cloud.holder = {"a"}

    _mount(hosts, b, "/mnt")  # as a container that has it still
    with pytest.raises(AssertionError, match="mounted on several hosts"):
        watch.check("db")

    _mount(hosts, b, f"{b.volplug.mount_root}/db")
    wait_until(lambda: bool(watch.broken), _TIMEOUT_S, "the watch has seen it")
    for place in (f"{b.volplug.mount_root}/db", "/mnt"):
        b.engine.run(["umount", place], check=True)
    with pytest.raises(AssertionError, match="db was mounted on"):
        watch.check("db")
