"""Two hosts for all tests here that run in one lane, on each cloud; a test finds them as they were at first.

The hosts stay for all modules; each module gives their volplugs its settings.
"""

from collections.abc import Iterator, Mapping
from itertools import count

import pytest

from tests.follow.backend import BACKENDS
from tests.follow.scene import Scene, Site
from tests.follow.watch import Watch
from tests.lab.fork_server import ForkServer
from tests.lab.host import Hosts
from tests.lab.leftovers import settled_difference, snapshot


@pytest.fixture(scope="package", params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    """The cloud that a test runs on."""
    name: str = request.param
    return name


@pytest.fixture(scope="package")
def site(backend: str) -> Iterator[Site]:
    """The hosts and their cloud; it fails if anything of them stays."""
    before = snapshot()
    with (
        ForkServer(with_ec2=True) as forks,
        Hosts("a", "b", beside=forks.beside) as hosts,
        BACKENDS[backend](hosts) as cloud,
    ):
        try:
            own = {host.name: cloud.settings(host) for host in hosts}
            hosts.power_on(own)
            yield Site(hosts, cloud, own, count(1))
        finally:
            hosts.close()  # before the cloud takes its devices away
    assert settled_difference(before) == []


@pytest.fixture(scope="module")
def settings() -> Mapping[str, str]:
    """What a module sets otherwise than volplug does by default, on both hosts."""
    return {}


@pytest.fixture(scope="module")
def shared_scene(site: Site, settings: Mapping[str, str]) -> Iterator[Scene]:
    """The hosts with a module's settings, and the watch."""
    for host in site.hosts:
        host.restart_volplug(settings={**site.settings[host.name], **settings})
    with Watch(site.hosts, site.cloud) as watch:
        yield Scene(site, watch)


@pytest.fixture
def scene(shared_scene: Scene) -> Iterator[Scene]:
    """The hosts, on and empty before and after each test."""
    yield shared_scene
    shared_scene.hosts.show()
    shared_scene.make_ready()
    shared_scene.watch.check()
    assert shared_scene.left() == []
