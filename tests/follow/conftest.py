"""Two hosts for all tests here that run in one lane, on each cloud; each test gets them in their first state.

The hosts stay for all modules; each module gives their volplugs its settings.
"""

from collections.abc import Iterator, Mapping
from itertools import count

import pytest

from tests.follow.backend import ALL_WITH_SLOW, BACKENDS
from tests.follow.scene import Scene, SharedHosts
from tests.follow.watch import Watch
from tests.lab.fork_server import ForkServer
from tests.lab.host import Hosts
from tests.lab.leftovers import settled_difference, snapshot


@pytest.fixture(scope="package", params=ALL_WITH_SLOW)
def backend(request: pytest.FixtureRequest) -> str:
    """The cloud that a test runs on."""
    name: str = request.param
    return name


@pytest.fixture(scope="package")
def shared_hosts(backend: str, request: pytest.FixtureRequest) -> Iterator[SharedHosts]:
    """The hosts and their cloud; fails if anything of them is left over."""
    cloud_of = BACKENDS[backend](request)
    before = snapshot()
    with (
        ForkServer(driver=backend) as forks,
        Hosts("a", "b", machine_of=forks.machine_of) as hosts,
        cloud_of(hosts) as cloud,
    ):
        try:
            own = {host.name: cloud.settings(host) for host in hosts}
            hosts.power_on(own)
            yield SharedHosts(hosts, cloud, own, count(1))
        finally:
            hosts.close()  # before the cloud removes its devices
    assert settled_difference(before) == []


@pytest.fixture(scope="module")
def settings() -> Mapping[str, str]:
    """The settings of a module that differ from the defaults, on both hosts."""
    return {}


@pytest.fixture(scope="module")
def shared_scene(shared_hosts: SharedHosts, settings: Mapping[str, str]) -> Iterator[Scene]:
    """The hosts with a module's settings, and the watch."""
    for host in shared_hosts.hosts:
        host.restart_volplug(settings={**shared_hosts.settings[host.name], **settings})
    with Watch(shared_hosts.hosts, shared_hosts.cloud) as watch:
        yield Scene(shared_hosts, watch)


@pytest.fixture
def scene(shared_scene: Scene) -> Iterator[Scene]:
    """The hosts, on and empty before and after each test."""
    yield shared_scene
    shared_scene.hosts.show()
    shared_scene.make_ready()
    shared_scene.watch.check()
    assert shared_scene.left() == []
