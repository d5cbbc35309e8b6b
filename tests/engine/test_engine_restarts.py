"""The engine ends and starts again, in order or by SIGKILL, with and without live-restore."""

from collections.abc import Iterator

import pytest

from tests.engine.installations import EACH_INSTALLATION
from tests.engine.use import (
    create,
    execute,
    inspect,
    run,
    start,
    volumes,
    wait_until_released,
)
from tests.engine.versions import EngineVersion
from tests.lab import checker
from tests.lab.engine import Engine
from tests.lab.managed import Volplug
from tests.lab.requirements import ENGINE
from tests.lab.waiting import wait_until

pytestmark = [*ENGINE, EACH_INSTALLATION]


@pytest.fixture
def live_restore() -> bool:
    return False


@pytest.fixture
def engine(clean_machine: None, engine_version: EngineVersion, live_restore: bool) -> Iterator[Engine]:
    with Engine(system=engine_version.system(), live_restore=live_restore) as engine:
        engine.import_busybox()
        yield engine


def _end_and_start(engine: Engine, end: str) -> None:
    getattr(engine, end)()
    engine.start()


@pytest.mark.parametrize("live_restore", [False, True], ids=["plain", "live-restore"])
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_container_that_always_restarts_comes_back_with_its_data(
    engine: Engine, volplug: Volplug, end: str, live_restore: bool
) -> None:
    create(engine, "db", "--opt=size=64MiB")
    records = checker.start(engine, "db", "--restart=always")
    started = inspect(engine, "container", records.name)["State"]["StartedAt"]
    _end_and_start(engine, end)
    wait_until(records.is_running, 30, f"{records.name} runs again")
    is_same_life = inspect(engine, "container", records.name)["State"]["StartedAt"] == started
    assert is_same_life == live_restore
    records.goes_on()
    records.verify()
    records.stop()
    wait_until_released(engine, volplug)
    records.verify()
    engine.docker("volume", "rm", "db")


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_volume_is_known_and_usable_after_a_restart(engine: Engine, volplug: Volplug, end: str) -> None:
    create(engine, "db", "--label=team=web")
    run(engine, "-v", "db:/volume", script="echo kept >/volume/file")
    _end_and_start(engine, end)
    assert volumes(engine) == ["db"]
    assert inspect(engine, "volume", "db")["Labels"] == {"team": "web"}
    assert run(engine, "-v", "db:/volume", script="cat /volume/file") == "kept\n"
    engine.docker("volume", "rm", "db")


def test_a_container_that_ended_with_its_engine_does_not_keep_its_volume(
    engine: Engine, volplug: Volplug
) -> None:
    """The engine that starts again ends what its predecessor left, and sends no Unmount for it."""
    for name in ("again", "removed"):
        create(engine, name)
        start(engine, name, "-v", f"{name}:/volume")
    execute(engine, "again", "echo kept >/volume/file && sync /volume/file")
    _end_and_start(engine, "kill")
    engine.docker("rm", "removed")
    engine.docker("volume", "rm", "removed")
    engine.docker("start", "again")
    assert execute(engine, "again", "cat /volume/file") == "kept\n"
    engine.docker("stop", "again")
    wait_until_released(engine, volplug)
    engine.docker("rm", "again")
    engine.docker("volume", "rm", "again")


@pytest.mark.parametrize("live_restore", [True], ids=["live-restore"])
def test_docker_cp_after_a_restart_leaves_a_live_container_its_volume(
    engine: Engine, volplug: Volplug
) -> None:
    """Docker then unmounts with the container's own ID, and sends no Unmount when the container stops."""
    create(engine, "db", "--opt=size=64MiB")
    records = checker.start(engine, "db")
    _end_and_start(engine, "stop")
    target = engine.directory / "copied"
    engine.docker("cp", f"{records.name}:/data/records", str(target))
    assert target.read_text().startswith("1\n2\n3\n")
    records.goes_on()
    records.verify()
    records.goes_on()
    records.stop()
    wait_until_released(engine, volplug)
    records.verify()
    engine.docker("volume", "rm", "db")
