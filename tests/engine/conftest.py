"""Engine tests leave the machine as they found it.

They run on pairs of an engine and a form of volplug (pairs.py). Tests that do not disturb each other share
the engine of their pair, which each of them has to leave empty (`empty_engine`, `shared_volplug`); they may
end volplug. Tests that restart or alter the engine share one with their module (`own_empty_engine`,
`own_volplug`), and those that need a fresh one get it (`engine`, `volplug`).
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.pairs import Pair
from tests.engine.sharing import left_empty, show_dockerd, show_volplug, started
from tests.engine.versions import EngineVersion
from tests.lab.engine import Engine
from tests.lab.fork_server import ForkServer
from tests.lab.leftovers import settled_difference, snapshot
from tests.lab.managed import Volplug

_HERE = Path(__file__).parent
# They come last: a plugin whose process was ended once is disabled only after 10 s.
_LAST = ("test_managed.py",)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Put tests that share an engine into one lane."""
    if isinstance(item, pytest.Function) and "shared_engine" in item.fixturenames:
        item.add_marker(pytest.mark.lane(f"engine-{item.callspec.params['pair']}"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by the engine that they share, so that each is made once."""
    places = [place for place, item in enumerate(items) if item.path.parent == _HERE]
    ours = sorted((items[place] for place in places), key=_engine_of)
    for place, item in zip(places, ours, strict=True):
        items[place] = item


def _engine_of(item: pytest.Item) -> tuple[str, bool, str, bool]:
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    module = item.path.name
    return str(params.get("pair", "")), module in _LAST, module, bool(params.get("live_restore"))


@pytest.fixture(scope="package")
def pair(request: pytest.FixtureRequest) -> Pair:
    """The pair that a test runs on; its module names them with a mark of pairs.py."""
    pair: Pair = request.param
    return pair


@pytest.fixture(scope="package")
def engine_version(pair: Pair) -> EngineVersion:
    """The Docker Engine that a test runs on."""
    return pair.version


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """Starts volplug as a service in a fifth of the time; it runs before anything is compared with later."""
    with ForkServer() as forks:
        yield forks


@pytest.fixture(scope="package")
def clean_after_shared_engine(forks: ForkServer, pair: Pair) -> Iterator[None]:
    """Fails the last test of a shared engine if that engine leaves anything over."""
    before = snapshot()
    yield
    assert settled_difference(before) == []


@pytest.fixture(scope="package")
def shared_engine(clean_after_shared_engine: None, pair: Pair) -> Iterator[Engine]:
    """The engine of a pair for all tests of a lane, with the image ``busybox:local``."""
    with Engine(system=pair.version.system()) as engine:
        engine.import_busybox()
        yield engine


@pytest.fixture(scope="package")
def shared_volplug(shared_engine: Engine, pair: Pair, forks: ForkServer) -> Volplug:
    """Volplug for that engine, as a plugin or a service; it ends with the engine."""
    return started(pair.volplug(shared_engine, forks))


@pytest.fixture
def empty_engine(shared_engine: Engine, shared_volplug: Volplug) -> Iterator[Engine]:
    """The shared engine, empty before and after each test: containers, volumes, mounts, loop devices."""
    with left_empty(shared_engine, shared_volplug):
        yield shared_engine


@pytest.fixture(scope="module")
def clean_after_module(forks: ForkServer, pair: Pair) -> Iterator[None]:
    """Fails the last test of a module if the module leaves anything over."""
    before = snapshot()
    yield
    assert settled_difference(before) == []


@pytest.fixture(scope="module")
def live_restore(request: pytest.FixtureRequest) -> bool:
    """Whether containers survive the end of the module's own engine; by default not."""
    return bool(getattr(request, "param", False))


@pytest.fixture(scope="module")
def own_engine(clean_after_module: None, pair: Pair, live_restore: bool) -> Iterator[Engine]:
    """An engine that the tests of a module may restart and alter, with the image ``busybox:local``."""
    with Engine(system=pair.version.system(), live_restore=live_restore) as engine:
        engine.import_busybox()
        yield engine


@pytest.fixture(scope="module")
def own_volplug(own_engine: Engine, pair: Pair, forks: ForkServer) -> Volplug:
    """Volplug for that engine, as a plugin or a service; it ends with the engine."""
    return started(pair.volplug(own_engine, forks))


@pytest.fixture
def own_empty_engine(own_engine: Engine, own_volplug: Volplug) -> Iterator[Engine]:
    """The module's own engine, empty before and after each test."""
    with left_empty(own_engine, own_volplug):
        yield own_engine


@pytest.fixture
def clean_machine(forks: ForkServer) -> Iterator[None]:
    """Fails the test if it leaves anything over, also when it failed."""
    before = snapshot()
    yield
    assert settled_difference(before) == []


@pytest.fixture
def engine(clean_machine: None, pair: Pair) -> Iterator[Engine]:
    """A fresh engine with the image ``busybox:local``."""
    with Engine(system=pair.version.system()) as engine:
        engine.import_busybox()
        yield engine
        show_dockerd(engine)


@pytest.fixture
def volplug(engine: Engine, pair: Pair, forks: ForkServer) -> Iterator[Volplug]:
    """Volplug without any configuration for the fresh engine, as a plugin or a service."""
    with pair.volplug(engine, forks) as volplug:
        yield volplug
        show_volplug(volplug)
