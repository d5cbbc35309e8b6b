"""Two hosts for each module and each cloud; every test finds them as they were at first."""

from collections.abc import Iterator, Mapping

import pytest

from tests.follow.backend import BACKENDS
from tests.follow.measures import Measures
from tests.follow.scene import Scene
from tests.follow.watch import Watch
from tests.lab.host import Hosts
from tests.lab.leftovers import settled_difference, snapshot

_measures = pytest.StashKey[Measures]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_measures] = Measures()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    lines = config.stash[_measures].lines()
    if lines:
        terminalreporter.section("no record was acknowledged during a move for")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def measures(request: pytest.FixtureRequest) -> Measures:
    """How long moves took, for the end of the report."""
    return request.config.stash[_measures]


@pytest.fixture(scope="module", params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    """The cloud that a test runs on."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def settings() -> Mapping[str, str]:
    """What modules set otherwise than volplug does by default, on both hosts."""
    return {}


@pytest.fixture(scope="module")
def shared_scene(backend: str, settings: Mapping[str, str]) -> Iterator[Scene]:
    """The hosts of a module; it fails if anything of them stays."""
    before = snapshot()
    with Hosts("a", "b") as hosts, BACKENDS[backend](hosts) as cloud:
        try:
            each = {host.name: {**cloud.settings(host), **settings} for host in hosts}
            hosts.power_on(each)
            with Watch(hosts, cloud) as watch:
                yield Scene(hosts, cloud, watch)
        finally:
            hosts.close()  # before the cloud takes its devices away
    assert settled_difference(before) == []


@pytest.fixture
def scene(shared_scene: Scene) -> Iterator[Scene]:
    """The hosts, on and empty before and after each test."""
    yield shared_scene
    shared_scene.hosts.show()
    shared_scene.make_ready()
    shared_scene.watch.check()
    assert shared_scene.left() == []
