"""The engines have the expected versions; features of some versions only."""

import pytest

from tests.engine.pairs import ON_EACH, SINCE_26
from tests.engine.use import IMAGE, create, execute, inspect, refusal, run, start, wait_until_released
from tests.engine.versions import EngineVersion
from tests.lab.engine import Engine
from tests.lab.managed import Volplug
from tests.lab.requirements import ENGINE

pytestmark = ENGINE


@ON_EACH
def test_the_engine_is_of_its_version(shared_engine: Engine, engine_version: EngineVersion) -> None:
    output = shared_engine.docker("version", "--format={{.Server.Version}}").stdout
    assert output.startswith(f"{engine_version.number}.")


@SINCE_26
def test_containers_have_directories_of_one_volume(empty_engine: Engine, shared_volplug: Volplug) -> None:
    create(empty_engine, "shelf")
    run(empty_engine, "-v", "shelf:/shelf", script="mkdir -p /shelf/red/deep /shelf/blue")
    for colour in ("red", "blue"):
        mount = f"--mount=type=volume,source=shelf,target=/data,volume-subpath={colour}"
        start(empty_engine, colour, mount)
        execute(empty_engine, colour, f"echo {colour} >/data/colour")
    assert execute(empty_engine, "red", "ls /data && cat /data/colour") == "colour\ndeep\nred\n"
    assert inspect(empty_engine, "volume", "shelf")["Status"]["mountCount"] == 2
    empty_engine.docker("rm", "-f", "red", "blue")
    wait_until_released(empty_engine, shared_volplug)
    shown = run(empty_engine, "-v", "shelf:/shelf", script="cat /shelf/red/colour /shelf/blue/colour")
    assert shown == "red\nblue\n"
    empty_engine.docker("volume", "rm", "shelf")


@SINCE_26
@pytest.mark.parametrize(
    ("path", "cause"),
    [("nowhere", "no such file or directory"), ("out", "path concatenation escapes the base directory")],
)
def test_a_directory_outside_of_the_volume_is_refused_and_keeps_nothing(
    empty_engine: Engine, shared_volplug: Volplug, path: str, cause: str
) -> None:
    create(empty_engine, "shelf")
    run(empty_engine, "-v", "shelf:/shelf", script="ln -s /etc /shelf/out")
    mount = f"--mount=type=volume,source=shelf,target=/data,volume-subpath={path}"
    assert cause in refusal(empty_engine, "run", "--rm", mount, IMAGE, "true")
    wait_until_released(empty_engine, shared_volplug)
    empty_engine.docker("volume", "rm", "shelf")
