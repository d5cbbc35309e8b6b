"""The watch detects broken promises."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.follow.backend import FollowBackend
from tests.follow.scene import HOSTS, SharedHosts
from tests.follow.watch import Watch
from tests.lab.host import Host, Hosts
from tests.lab.requirements import MULTIHOST
from tests.lab.waiting import wait_until

pytestmark = [*MULTIHOST, HOSTS]

_TIMEOUT_S = 60.0


class _Cloud:
    """Returns what a test sets."""

    def __init__(self, images: Path) -> None:
        self.images = images
        self.names: list[str] = ["db"]
        self.holder: set[str] = {"a"}

    def volumes(self) -> list[str]:
        return self.names

    def holders(self, volume: str) -> Collection[str]:
        return self.holder


@pytest.fixture
def hosts(shared_hosts: SharedHosts) -> Iterator[Hosts]:
    """The hosts, with an image of a filesystem that both can mount."""
    image = _image(shared_hosts.hosts)
    for command in (f"truncate --size=32M {image}", f"mkfs.ext4 -q {image}"):
        shared_hosts.hosts["a"].engine.run(command.split(), check=True)
    yield shared_hosts.hosts
    image.unlink()


def _image(hosts: Hosts) -> Path:
    return hosts.directory / "image"


@contextmanager
def _mounted(hosts: Hosts, host: Host, place: Path) -> Iterator[None]:
    """The filesystem is mounted on a host."""
    host.engine.run(["mkdir", "-p", str(place)], check=True)
    host.engine.run(["mount", "-o", "loop", str(_image(hosts)), str(place)], check=True)
    yield
    host.engine.run(["umount", str(place)], check=True)
    host.engine.run(["rmdir", str(place)], check=True)


def test_it_detects_every_broken_promise(hosts: Hosts) -> None:
    a, b = hosts
    cloud = _Cloud(hosts.directory)
    with (
        Watch(hosts, cast(FollowBackend, cloud)) as watch,
        _mounted(hosts, a, a.volplug.mount_root / "db"),
    ):
        watch.check("db")

        cloud.names = ["db", "db"]
        with pytest.raises(AssertionError, match="lost or doubled"):
            watch.check("db")
        cloud.names = ["db"]

        cloud.holder = {"b"}
        with pytest.raises(AssertionError, match="db is mounted on a"):
            watch.check("db")
        cloud.holder = {"a"}

        with _mounted(hosts, b, b.directory / "container"):  # as if it still had it
            with pytest.raises(AssertionError, match="mounted on several hosts"):
                watch.check("db")
            with _mounted(hosts, b, b.volplug.mount_root / "db"):
                wait_until(lambda: bool(watch.broken), _TIMEOUT_S, "the watch has seen it")
        with pytest.raises(AssertionError, match="db was mounted on"):
            watch.check("db")
