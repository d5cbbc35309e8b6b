"""The engine ends and starts again, in order or by SIGKILL, with and without live-restore."""

from collections.abc import Collection

import pytest

from tests.engine.pairs import NEWEST, OLDEST, Pair, on_each
from tests.engine.use import (
    create,
    execute,
    inspect,
    run,
    start,
    use_until_released,
    volumes,
    wait_until_released,
)
from tests.lab import checker
from tests.lab.engine import Engine
from tests.lab.managed import ManagedVolplug, Volplug
from tests.lab.requirements import ENGINE
from tests.lab.waiting import wait_until

pytestmark = ENGINE

_ENDS = {
    "kill-plain": ("kill", False),
    "stop-plain": ("stop", False),
    "kill-live-restore": ("kill", True),
    "stop-live-restore": ("stop", True),
}


def _ends(*names: str, oldest: Collection[str], newest: Collection[str] = ()) -> pytest.MarkDecorator:
    """Run a test for these ends on every pair; by default for those named of the oldest and of the newest."""
    cases, default = {name: _ENDS[name] for name in names}, {OLDEST: oldest, NEWEST: newest}
    return on_each(("end", "live_restore"), cases, default, ["live_restore"], _is_reliable)


def _is_reliable(pair: Pair, name: str) -> bool:
    """Whether Docker handles every such end correctly.

    Without live-restore, a dockerd that starts after a SIGKILL ends the managed plugins of its predecessor
    and starts them again. When one has ended, it unmounts what is mounted for it, and sometimes does that
    only after the new start: containers then do not see their volumes before the plugin is enabled again.
    """
    return name != "kill-plain" or pair.form is not ManagedVolplug


def _end_and_start(engine: Engine, end: str) -> None:
    getattr(engine, end)()
    engine.start()


@_ends(*_ENDS, oldest=["kill-plain", "stop-live-restore"], newest=["stop-plain", "kill-live-restore"])
def test_a_container_that_always_restarts_comes_back_with_its_data(
    own_empty_engine: Engine, own_volplug: Volplug, end: str, live_restore: bool
) -> None:
    engine, volplug = own_empty_engine, own_volplug
    create(engine, "db", "--opt=size=64MiB")
    records = checker.start(engine, "db", "--restart=always")
    started = inspect(engine, "container", records.name)["State"]["StartedAt"]
    _end_and_start(engine, end)
    wait_until(records.is_running, 30, f"{records.name} runs again")
    is_same_life = inspect(engine, "container", records.name)["State"]["StartedAt"] == started
    assert is_same_life == live_restore
    records.await_progress()
    records.verify()
    records.stop()
    use_until_released(engine, volplug, "db")
    records.verify()
    engine.docker("volume", "rm", "db")


@_ends("kill-plain", "stop-plain", oldest=["stop-plain"])
def test_a_volume_is_known_and_usable_after_a_restart(own_empty_engine: Engine, end: str) -> None:
    engine = own_empty_engine
    create(engine, "db", "--label=team=web")
    run(engine, "-v", "db:/volume", script="echo kept >/volume/file")
    _end_and_start(engine, end)
    assert volumes(engine) == ["db"]
    assert inspect(engine, "volume", "db")["Labels"] == {"team": "web"}
    assert run(engine, "-v", "db:/volume", script="cat /volume/file") == "kept\n"
    engine.docker("volume", "rm", "db")


@_ends("kill-plain", oldest=["kill-plain"])
def test_a_container_that_ended_with_its_engine_does_not_keep_its_volume(
    own_empty_engine: Engine, own_volplug: Volplug, end: str
) -> None:
    """The engine ends the leftover containers of its predecessor, and sends no Unmount for them."""
    engine, volplug = own_empty_engine, own_volplug
    for name in ("again", "removed"):
        create(engine, name)
        start(engine, name, "-v", f"{name}:/volume")
    execute(engine, "again", "echo kept >/volume/file && sync /volume/file")
    _end_and_start(engine, end)
    engine.docker("rm", "removed")
    engine.docker("volume", "rm", "removed")
    engine.docker("start", "again")
    assert execute(engine, "again", "cat /volume/file") == "kept\n"
    engine.docker("stop", "again")
    wait_until_released(engine, volplug)
    engine.docker("rm", "again")
    engine.docker("volume", "rm", "again")


@_ends("stop-live-restore", oldest=["stop-live-restore"])
def test_docker_cp_after_a_restart_leaves_a_live_container_its_volume(
    own_empty_engine: Engine, own_volplug: Volplug, end: str
) -> None:
    """Docker then unmounts with the container's own ID, and sends no Unmount when the container stops."""
    engine, volplug = own_empty_engine, own_volplug
    create(engine, "db", "--opt=size=64MiB")
    records = checker.start(engine, "db")
    _end_and_start(engine, end)
    target = engine.directory / "copied"
    engine.docker("cp", f"{records.name}:/data/records", str(target))
    assert target.read_text().startswith("1\n2\n3\n")
    records.await_progress()
    records.verify()
    records.await_progress()
    records.stop()
    use_until_released(engine, volplug, "db")
    records.verify()
    engine.docker("volume", "rm", "db")
