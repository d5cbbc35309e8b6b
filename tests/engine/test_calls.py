"""Calls that reach the plugin, and results for the user, in the basic scenarios of a volume plugin."""

import json
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.engine.pairs import AS_SERVICE, Pair
from tests.engine.recorder import Recorder
from tests.engine.sharing import left_empty
from tests.engine.use import (
    IMAGE,
    create,
    execute,
    inspect,
    is_no_such_volume,
    mounted,
    refusal,
    run,
    start,
    volumes,
    wait_until_released,
)
from tests.engine.versions import DOCKER_20, DOCKER_26, EngineVersion
from tests.lab.engine import Engine
from tests.lab.fork_server import ForkServer
from tests.lab.plugin import VolplugProcess
from tests.lab.requirements import ENGINE
from tests.served.volumes import image_of, record_of

pytestmark = [*ENGINE, AS_SERVICE]

# Not in the image: if the image has the directory, Docker mounts once more to copy its content.
_PLACE = "/volume"
_WHOLE_LIFE = {"Create": 1, "Mount": 1, "Unmount": 1, "Remove": 1}


@pytest.fixture(scope="module")
def recorded_volplug(own_engine: Engine, pair: Pair, forks: ForkServer) -> VolplugProcess:
    """``volplug serve``, behind the recorder."""
    machine = pair.machine(own_engine, forks)
    return VolplugProcess(machine, socket=Path("/run/volplug-behind.sock")).start()


@pytest.fixture(scope="module")
def recorder(own_engine: Engine, recorded_volplug: VolplugProcess) -> Iterator[Recorder]:
    """The recorder in place of the plugin."""
    found = own_engine.path("/run/docker/plugins/volplug.sock")
    with Recorder(found, own_engine.path(recorded_volplug.socket)) as recorder:
        yield recorder


@pytest.fixture
def empty_engine(
    own_engine: Engine, recorded_volplug: VolplugProcess, recorder: Recorder
) -> Iterator[Engine]:
    """The engine, empty before and after each test."""
    with left_empty(own_engine, recorded_volplug):
        yield own_engine


def test_a_named_volume(empty_engine: Engine, recorder: Recorder, recorded_volplug: VolplugProcess) -> None:
    options = ("--volume-driver=volplug", "-v", f"named:{_PLACE}")
    run(empty_engine, *options, script=f"echo content >{_PLACE}/file")
    assert recorder.calls.changing("named") == {"Create": 1, "Mount": 1, "Unmount": 1}
    empty_engine.docker("volume", "rm", "named")
    assert recorder.calls.changing("named") == _WHOLE_LIFE
    assert not image_of(recorded_volplug, "named").exists()


@pytest.mark.parametrize("end", ["--rm", "rm -fv"])
def test_an_unnamed_volume_goes_with_its_container(
    empty_engine: Engine, recorder: Recorder, recorded_volplug: VolplugProcess, end: str
) -> None:
    calls = recorder.since_now()
    options = ("--name=user", "--volume-driver=volplug", "-v", _PLACE, IMAGE, "touch", f"{_PLACE}/file")
    if end == "--rm":
        empty_engine.docker("run", "--rm", *options)
    else:
        empty_engine.docker("run", *options)
        empty_engine.docker("rm", "-fv", "user")
    (created,) = calls.of("Create")
    assert re.fullmatch("[0-9a-f]{64}", created.name)
    assert calls.changing(created.name) == _WHOLE_LIFE
    assert not image_of(recorded_volplug, created.name).exists()


def test_volumes_from_shares_a_volume(empty_engine: Engine, recorder: Recorder) -> None:
    calls = recorder.since_now()
    writer = ("--name=first", "--volume-driver=volplug", "-v", _PLACE)
    empty_engine.docker("run", *writer, IMAGE, "sh", "-c", f"echo shared >{_PLACE}/file")
    assert run(empty_engine, "--volumes-from=first", script=f"cat {_PLACE}/file") == "shared\n"
    (created,) = calls.of("Create")
    assert calls.changing(created.name) == {"Create": 1, "Mount": 2, "Unmount": 2}
    empty_engine.docker("rm", "-fv", "first")
    assert calls.of("Remove", created.name)


def test_an_existing_volume_is_found_without_naming_the_driver(
    empty_engine: Engine, recorder: Recorder
) -> None:
    create(empty_engine, "external")
    start(empty_engine, "user", "-v", f"external:{_PLACE}")
    (shown,) = inspect(empty_engine, "container", "user")["Mounts"]
    assert (shown["Type"], shown["Name"], shown["Driver"]) == ("volume", "external", "volplug")
    assert (shown["Destination"], shown["RW"]) == (_PLACE, True)
    empty_engine.docker("rm", "-f", "user")
    empty_engine.docker("volume", "rm", "external")
    assert recorder.calls.changing("external") == _WHOLE_LIFE


def test_volume_ls_asks_once_and_shows_exactly_what_is_there(
    empty_engine: Engine, recorder: Recorder
) -> None:
    create(empty_engine, "listed")
    calls = recorder.since_now()
    assert empty_engine.docker("volume", "ls", "--format={{.Driver}} {{.Name}}").stdout == "volplug listed\n"
    assert len(calls.of("List")) == 1
    empty_engine.docker("volume", "rm", "listed")


def test_an_unknown_name_is_asked_for_once(empty_engine: Engine, recorder: Recorder) -> None:
    run(empty_engine, "--volume-driver=volplug", "-v", _PLACE)  # so that Docker knows the plugin
    assert is_no_such_volume(empty_engine, "inspect", "nobody")
    assert len(recorder.calls.of("Get", "nobody")) == 1


async def test_the_status_reaches_the_user_as_it_is(
    empty_engine: Engine, recorded_volplug: VolplugProcess, recorder: Recorder
) -> None:
    create(empty_engine, "known")
    start(empty_engine, "user", "-v", f"known:{_PLACE}")
    async with Dockerd(empty_engine.path(recorded_volplug.socket)) as client:
        answered = (await client.ok("Get", Name="known"))["Volume"]
    shown = inspect(empty_engine, "volume", "known")
    assert shown["Status"] == answered["Status"]
    assert shown["Status"]["mountCount"] == 1
    assert shown["Mountpoint"] == answered["Mountpoint"]
    assert shown["Mountpoint"].endswith("/known/data")
    empty_engine.docker("rm", "-f", "user")
    empty_engine.docker("volume", "rm", "known")


def test_every_start_of_a_container_has_one_id_of_its_own(empty_engine: Engine, recorder: Recorder) -> None:
    create(empty_engine, "counted")
    start(empty_engine, "user", "-v", f"counted:{_PLACE}")
    empty_engine.docker("restart", "--time=0", "user")
    empty_engine.docker("rm", "-f", "user")
    mounts = [call.body["ID"] for call in recorder.calls.of("Mount", "counted")]
    assert [call.body["ID"] for call in recorder.calls.of("Unmount", "counted")] == mounts
    assert len(set(mounts)) == 2
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in mounts)
    empty_engine.docker("volume", "rm", "counted")


def test_an_engine_activates_the_plugin_once_and_never_asks_for_a_path(
    empty_engine: Engine, recorder: Recorder
) -> None:
    for name in ("scope-one", "scope-two"):
        create(empty_engine, name)
        run(empty_engine, "-v", f"{name}:{_PLACE}")
        assert inspect(empty_engine, "volume", name)["Scope"] == "local"
        assert name in volumes(empty_engine)
        empty_engine.docker("volume", "rm", name)
    asked = {verb: len(recorder.calls.of(verb)) for verb in ("Activate", "Capabilities", "Path")}
    assert asked == {"Activate": 1, "Capabilities": 1, "Path": 0}


def _delete_out_of_band(volplug: VolplugProcess, name: str) -> None:
    image_of(volplug, name).unlink()
    record_of(volplug, name).unlink()


def test_a_volume_deleted_out_of_band_is_gone_for_docker_too(
    empty_engine: Engine, recorder: Recorder, recorded_volplug: VolplugProcess
) -> None:
    create(empty_engine, "lost")
    run(empty_engine, "-v", f"lost:{_PLACE}")
    wait_until_released(empty_engine, recorded_volplug)
    _delete_out_of_band(recorded_volplug, "lost")
    calls = recorder.since_now()
    for command in ("inspect", "rm"):
        assert is_no_such_volume(empty_engine, command, "lost")
    assert len(calls.of("Get", "lost")) == 2
    assert volumes(empty_engine) == []


@pytest.mark.parametrize(
    ("driver", "options", "shown"),
    [("volplug", ["--opt", "size=24MiB"], {"size": "24MiB"}), ("local", [], None)],
)
def test_after_an_out_of_band_deletion_the_name_is_free_for_any_driver(
    empty_engine: Engine,
    recorder: Recorder,
    recorded_volplug: VolplugProcess,
    driver: str,
    options: list[str],
    shown: dict[str, str] | None,
) -> None:
    create(empty_engine, "again")
    run(empty_engine, "-v", f"again:{_PLACE}", script=f"echo old >{_PLACE}/file")
    wait_until_released(empty_engine, recorded_volplug)
    _delete_out_of_band(recorded_volplug, "again")
    calls = recorder.since_now()
    empty_engine.docker("volume", "create", f"--driver={driver}", *options, "again")
    assert [call.body["Opts"] for call in calls.of("Create", "again")] == ([shown] if shown else [])
    described = inspect(empty_engine, "volume", "again")
    assert (described["Driver"], described["Options"] or None) == (driver, shown)
    assert run(empty_engine, "-v", f"again:{_PLACE}", script=f"ls -A {_PLACE}") == ""
    empty_engine.docker("volume", "rm", "again")
    assert len(calls.of("Remove", "again")) == (driver == "volplug")


_STARTING = "error while mounting volume '': "
# A working directory makes Docker mount volumes before the start, which not every engine reports.
_CREATING = {DOCKER_20: "", DOCKER_26: f"failed to populate volume: {_STARTING}"}


@pytest.mark.parametrize("options", [(), ("--workdir=/volume/below",)], ids=["plain", "workdir"])
def test_a_mount_that_fails_is_not_unmounted(
    empty_engine: Engine,
    recorder: Recorder,
    recorded_volplug: VolplugProcess,
    engine_version: EngineVersion,
    options: tuple[str, ...],
) -> None:
    create(empty_engine, "broken")
    run(empty_engine, "-v", f"broken:{_PLACE}")
    wait_until_released(empty_engine, recorded_volplug)
    image = image_of(recorded_volplug, "broken")
    record = json.loads(record_of(recorded_volplug, "broken").read_text())["volume"]
    with image.open("r+b") as file:
        file.write(b"garbage " * 1024)
    calls = recorder.since_now()
    error = refusal(empty_engine, "run", "--rm", "-v", f"broken:{_PLACE}", *options, IMAGE, "true")
    prefix = _CREATING[engine_version] if options else _STARTING
    assert error == (
        f"{prefix}VolumeDriver.Mount: the volume holds data at byte 0 that no known filesystem claims, not "
        f"its ext4 filesystem {record['filesystem']['uuid']}; it is not formatted "
        f'[mount "broken", loop {record["volume_id"]}, node {platform.node()}]. '
        "Run e2fsck -f on its unused device or image if its superblock is damaged, else restore a backup."
    )
    assert calls.changing("broken") == {"Mount": 1}
    assert mounted(empty_engine, recorded_volplug) == []
    wait_until_released(empty_engine, recorded_volplug)
    assert image.read_bytes().startswith(b"garbage garbage")
    empty_engine.docker("volume", "rm", "broken")


def test_docker_cp_repeats_the_id_of_a_running_container_without_harm(
    empty_engine: Engine, recorder: Recorder, recorded_volplug: VolplugProcess
) -> None:
    create(empty_engine, "copied")
    start(empty_engine, "user", "-v", f"copied:{_PLACE}")
    execute(empty_engine, "user", f"echo before >{_PLACE}/file")
    assert recorder.calls.changing("copied") == {"Create": 1, "Mount": 1}

    target = empty_engine.directory / "copied"
    empty_engine.docker("cp", f"user:{_PLACE}/file", str(target))
    assert target.read_text() == "before\n"
    assert recorder.calls.changing("copied") == {"Create": 1, "Mount": 2, "Unmount": 1}
    assert len({call.body["ID"] for call in recorder.calls.of("Mount", "copied")}) == 1

    assert len(mounted(empty_engine, recorded_volplug)) == 1
    assert inspect(empty_engine, "volume", "copied")["Status"]["mountCount"] == 1
    execute(empty_engine, "user", f"echo after >>{_PLACE}/file && sync {_PLACE}/file")
    assert run(empty_engine, "-v", f"copied:{_PLACE}", script=f"cat {_PLACE}/file") == "before\nafter\n"

    calls = recorder.since_now()
    empty_engine.docker("kill", "user")
    empty_engine.docker("wait", "user")
    empty_engine.docker("rm", "user")
    assert calls.changing("copied") == {"Unmount": 1}
    wait_until_released(empty_engine, recorded_volplug)
    empty_engine.docker("volume", "rm", "copied")
