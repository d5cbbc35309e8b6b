"""Engine tests leave the machine as they found it.

Scenarios that do not disturb each other share one engine per module (`shared_engine`, with
`shared_volplug` or, to see what Docker asks of it, `recorder`); each of them has to leave that engine
empty. The others get an engine of their own (`engine`, `volplug`). All of them run on each version of
Docker Engine (`engine_version`).
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.recorder import Recorder
from tests.engine.use import everything_left, remove_everything
from tests.engine.versions import DOCKER_20, DOCKER_26, EngineVersion, on
from tests.lab import slow
from tests.lab.engine import Engine
from tests.lab.leftovers import settled_difference, snapshot
from tests.lab.managed import Installation, ManagedVolplug, Volplug
from tests.lab.plugin import VolplugProcess
from tests.lab.programs import tail


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if item.get_closest_marker("in_pairs") and not _is_a_pair(item)]
    if left_out and not slow.is_asked_for():
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def _is_a_pair(item: pytest.Item) -> bool:
    assert isinstance(item, pytest.Function)
    chosen = item.callspec.params
    is_newest = chosen.get("engine_version", DOCKER_26) is DOCKER_26
    return is_newest == (chosen.get("installation") is ManagedVolplug)


@pytest.fixture(scope="module", params=on(DOCKER_20, DOCKER_26))
def engine_version(request: pytest.FixtureRequest) -> EngineVersion:
    """The Docker Engine that a test runs on."""
    version: EngineVersion = request.param
    return version


@pytest.fixture
def clean_machine() -> Iterator[None]:
    """Fails the test if it leaves anything behind, also when it failed."""
    before = snapshot()
    yield
    assert settled_difference(before) == []


@pytest.fixture
def engine(clean_machine: None, engine_version: EngineVersion) -> Iterator[Engine]:
    """A private engine with the image ``busybox:local``."""
    with Engine(system=engine_version.system()) as engine:
        engine.import_busybox()
        yield engine
        _show_dockerd(engine)


@pytest.fixture
def volplug(engine: Engine, installation: Installation) -> Iterator[Volplug]:
    """volplug, without any configuration, beside that engine or in it."""
    with installation(engine) as volplug:
        yield volplug
        _show_volplug(volplug)


@pytest.fixture(scope="module")
def clean_machine_after_module(engine_version: EngineVersion) -> Iterator[None]:
    """Fails the module if it leaves anything behind."""
    before = snapshot()
    yield
    assert settled_difference(before) == []


@pytest.fixture(scope="module")
def installation(request: pytest.FixtureRequest) -> Installation:
    """How volplug is installed: beside the engine, and as what else the module is marked with."""
    installation: Installation = getattr(request, "param", VolplugProcess)
    return installation


@pytest.fixture(scope="module")
def shared_engine(
    clean_machine_after_module: None, engine_version: EngineVersion, installation: Installation
) -> Iterator[Engine]:
    """One engine for the module and each installation, with the image ``busybox:local``."""
    with Engine(system=engine_version.system()) as engine:
        engine.import_busybox()
        yield engine


@pytest.fixture(scope="module")
def shared_volplug(shared_engine: Engine, installation: Installation) -> Iterator[Volplug]:
    """Volplug for the module, where Docker finds it."""
    with installation(shared_engine) as volplug:
        yield volplug


@pytest.fixture(scope="module")
def recorded_volplug(shared_engine: Engine) -> Iterator[VolplugProcess]:
    """``volplug serve`` for the module, behind the recorder."""
    with VolplugProcess(shared_engine, socket=Path("/run/volplug-behind.sock")) as process:
        yield process


@pytest.fixture(scope="module")
def recorder(shared_engine: Engine, recorded_volplug: VolplugProcess) -> Iterator[Recorder]:
    """Stands where Docker finds the plugin, for the module."""
    found = shared_engine.path("/run/docker/plugins/volplug.sock")
    with Recorder(found, shared_engine.path(recorded_volplug.socket)) as recorder:
        yield recorder


@pytest.fixture
def empty_engine(shared_engine: Engine, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The module's engine, empty before and after each test: containers, volumes, mounts, loop devices."""
    plugin = "recorded_volplug" if "recorder" in request.fixturenames else "shared_volplug"
    volplug: Volplug = request.getfixturevalue(plugin)
    yield shared_engine
    _show_dockerd(shared_engine)
    _show_volplug(volplug)
    if not volplug.running:  # without it, Docker waits in vain for 15 s again and again
        volplug.start()
    left = everything_left(shared_engine)
    if left:
        remove_everything(shared_engine)
    assert left == []


def _show_dockerd(engine: Engine) -> None:
    _show("dockerd warned last", tail(engine.log, without="level=info"))


def _show_volplug(volplug: Volplug) -> None:
    _show("volplug said last", volplug.log_tail())


def _show(what: str, text: str) -> None:
    # pytest keeps what is written here for the tests that failed.
    sys.stderr.write(f"--- {what}:\n{text}\n")
