"""A container writes during all faults of its machine; no acknowledged record is lost."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engine.pairs import AS_SERVICE, Pair
from tests.engine.use import IMAGE, create, inspect, start, use_until_released
from tests.lab import checker
from tests.lab.checker import Checker
from tests.lab.engine import Engine
from tests.lab.fork_server import ForkServer
from tests.lab.plugin import VolplugProcess
from tests.lab.requirements import ENGINE
from tests.lab.waiting import wait_until

pytestmark = [*ENGINE, AS_SERVICE, pytest.mark.faults]


@pytest.fixture
def engine(clean_machine: None, pair: Pair, live_restore: bool) -> Iterator[Engine]:
    with Engine(system=pair.version.system(), live_restore=live_restore) as engine:
        engine.import_busybox()
        yield engine


@pytest.fixture
def volplug(engine: Engine, pair: Pair, forks: ForkServer) -> Iterator[VolplugProcess]:
    """With a short grace period, so that trial releases run while the container writes."""
    with VolplugProcess(pair.machine(engine, forks), env={"VOLPLUG_MOUNT_GRACE_S": "1"}) as process:
        yield process


def _volplug_is_killed(engine: Engine, volplug: VolplugProcess) -> None:
    volplug.kill()
    volplug.start()


def _the_state_is_deleted(engine: Engine, volplug: VolplugProcess) -> None:
    volplug.kill()
    for file in volplug.state_dir.glob("state.sqlite*"):
        file.unlink()
    volplug.start()


def _the_engine_is_killed(engine: Engine, volplug: VolplugProcess) -> None:
    engine.kill()
    engine.start()


def _both_are_killed(engine: Engine, volplug: VolplugProcess) -> None:
    engine.kill()
    volplug.kill()
    volplug.start()
    engine.start()


def _the_machine_is_bound_into_a_container(engine: Engine, volplug: VolplugProcess) -> None:
    start(engine, "onlooker", "--restart=always", "-v", "/:/rootfs")


def _volplug_crashes_repeatedly(engine: Engine, volplug: VolplugProcess) -> None:
    """While another container starts and ends; it does not matter whether it succeeds."""
    with ThreadPoolExecutor(1) as other:
        for _ in range(3):
            short = other.submit(engine.docker, "run", "--rm", "-v", "db:/volume", IMAGE, "true", check=False)
            volplug.kill()
            volplug.start()
            short.result()


_STORY: list[Callable[[Engine, VolplugProcess], None]] = [
    _volplug_is_killed,
    _the_machine_is_bound_into_a_container,
    _the_state_is_deleted,
    _the_engine_is_killed,
    _volplug_crashes_repeatedly,
    _both_are_killed,
]


@pytest.mark.timeout(300)
# A container that survives all of it shows most: with live-restore it does not end with the engine.
@pytest.mark.parametrize(
    "live_restore",
    [
        pytest.param(True, id="live-restore"),
        pytest.param(False, id="plain", marks=pytest.mark.slow),
    ],
    indirect=True,
)
def test_every_acknowledged_record_is_there(
    engine: Engine, volplug: VolplugProcess, live_restore: bool
) -> None:
    create(engine, "db", "--opt=size=64MiB")
    records = checker.start(engine, "db", "--restart=always")
    for happens in _STORY:
        happens(engine, volplug)
        wait_until(records.is_running, 60, f"the container runs after {happens.__name__}")
        records.await_progress()
        assert inspect(engine, "volume", "db")["Status"]["state"] == "in-use"
    records.verify()
    _ends_well(engine, volplug, records)


def _ends_well(engine: Engine, volplug: VolplugProcess, records: Checker) -> None:
    """Once the container is gone the volume is detached and can be removed, whatever else sees its mount."""
    records.stop()
    use_until_released(engine, volplug, "db")
    records.verify()
    engine.docker("volume", "rm", "db")
    engine.docker("rm", "--force", "onlooker")
