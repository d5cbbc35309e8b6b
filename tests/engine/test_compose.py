"""The files of docs/compose.md work as described, with Compose v2 and with docker-compose 1.29."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.engine.documented import FILES
from tests.engine.pairs import NEWEST, OLDEST, ON_NEWEST, ON_OLDEST, on_each
from tests.engine.use import inspect, run, volumes
from tests.engine.versions import DOCKER_26, EngineVersion
from tests.lab.compose import COMPOSE_1, COMPOSE_2, Compose
from tests.lab.engine import Engine
from tests.lab.managed import Volplug
from tests.lab.programs import checked
from tests.lab.requirements import ENGINE

pytestmark = [
    *ENGINE,
    pytest.mark.prepare(by=COMPOSE_1.tree),
    pytest.mark.prepare(by=COMPOSE_2.tree),
    pytest.mark.timeout(300),  # every command of Compose takes a second, or several
]

_FILE = FILES["compose.yaml"]

Project = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def project(empty_engine: Engine, tmp_path: Path) -> Project:
    """Makes the directory of the project `notes` with files in it."""
    empty_engine.import_busybox("busybox")

    def write(files: Mapping[str, str]) -> Path:
        directory = tmp_path / "notes"
        directory.mkdir(exist_ok=True)
        for old in directory.iterdir():
            old.unlink()
        for name, text in files.items():
            (directory / name).write_text(text)
        return directory

    return write


def _file_2_4(volplug: Volplug) -> str:
    """The same for docker-compose, which needs the driver's name as Docker shows it."""
    return f'version: "2.4"\n{_FILE}'.replace("driver: volplug", f"driver: {volplug.driver}")


def _starts(output: str) -> int:
    """How many starts a diary shows: a line with a date for each."""
    return output.count(" UTC 20")


@ON_NEWEST
def test_a_volume_outlives_its_project_until_it_is_removed(
    empty_engine: Engine, shared_volplug: Volplug, project: Project
) -> None:
    files = project({"compose.yaml": _FILE})
    assert _starts(COMPOSE_2(empty_engine, files, "up")) == 1
    shown = inspect(empty_engine, "volume", "notes_diary")
    assert (shown["Driver"], shown["Options"]) == (shared_volplug.driver, {"size": "2GiB", "fs": "xfs"})
    assert (shown["Status"]["size"], shown["Status"]["fs"]) == ("2GiB", "xfs")
    COMPOSE_2(empty_engine, files, "down")
    assert _starts(COMPOSE_2(empty_engine, files, "up")) == 2
    COMPOSE_2(empty_engine, files, "down", "--volumes")
    assert volumes(empty_engine) == []


@ON_NEWEST
def test_a_changed_option_changes_no_volume(empty_engine: Engine, project: Project) -> None:
    COMPOSE_2(empty_engine, project({"compose.yaml": _FILE}), "up")
    changed = project({"compose.yaml": _FILE.replace("2GiB", "3GiB")})
    assert _starts(COMPOSE_2(empty_engine, changed, "up")) == 2
    assert inspect(empty_engine, "volume", "notes_diary")["Status"]["size"] == "2GiB"
    COMPOSE_2(empty_engine, changed, "down", "--volumes")


@ON_NEWEST
def test_a_misspelt_option_creates_nothing(empty_engine: Engine, project: Project) -> None:
    misspelt = project({"compose.yaml": _FILE.replace("size:", "sise:")})
    error = COMPOSE_2.refusal(empty_engine, misspelt, "up")
    assert "unknown option 'sise' [create \"notes_diary\"]. Did you mean 'size'? All options are " in error
    assert volumes(empty_engine) == []
    COMPOSE_2(empty_engine, misspelt, "down")


@ON_NEWEST
def test_a_directory_of_a_volume(
    empty_engine: Engine, engine_version: EngineVersion, project: Project
) -> None:
    empty_engine.docker("volume", "create", "--driver=volplug", "diary")
    script = "cd /all && mkdir old && echo all >starts && echo old >old/starts"
    run(empty_engine, "-v", "diary:/all", script=script)
    mount = "{type: volume, source: diary, target: /data, volume: {subpath: old}}"
    files = project({"compose.yaml": FILES["external.yaml"].replace("diary:/data:ro", mount)})
    COMPOSE_2(empty_engine, files, "up")  # which may miss the output of such a short container
    output = COMPOSE_2(empty_engine, files, "logs").splitlines()
    (line,) = [line for line in output if line.endswith((" old", " all"))]
    assert line.endswith(" old" if engine_version == DOCKER_26 else " all")
    COMPOSE_2(empty_engine, files, "down")
    empty_engine.docker("volume", "rm", "diary")


@ON_NEWEST
def test_a_stack_gets_the_whole_volume(empty_engine: Engine, project: Project) -> None:
    """As docs/compose.md warns; what `docker stack config` shows is what is deployed."""
    mount = "type: volume\n        source: diary\n        target: /data\n        volume: {subpath: old}"
    files = project({"stack.yaml": FILES["stack.yaml"].replace("diary:/data", mount)})
    shown = checked(COMPOSE_2.shell(empty_engine, files, "docker stack config --compose-file stack.yaml"))
    assert "target: /data\n      volume: {}\n" in shown.stdout


@on_each(
    ("compose", "prefix"),
    {"v2": (COMPOSE_2, ""), "v1": (COMPOSE_1, 'version: "2.4"\n')},
    default={OLDEST: ["v1"], NEWEST: ["v2"]},
)
def test_an_external_volume_belongs_to_no_project(
    empty_engine: Engine, project: Project, compose: Compose, prefix: str
) -> None:
    files = project({"docker-compose.yml": prefix + FILES["external.yaml"]})
    assert "diary" in compose.refusal(empty_engine, files, "up")
    assert volumes(empty_engine) == []
    empty_engine.docker("volume", "create", "--driver=volplug", "diary")
    run(empty_engine, "-v", "diary:/data", script="date >/data/starts")
    assert _starts(compose(empty_engine, files, "up")) == 1
    compose(empty_engine, files, "down", "--volumes")
    assert volumes(empty_engine) == ["diary"]
    empty_engine.docker("volume", "rm", "diary")


@ON_NEWEST
def test_compose_v2_refuses_a_driver_in_a_service(empty_engine: Engine, project: Project) -> None:
    line = "    image: busybox\n"
    files = project({"compose.yaml": _FILE.replace(line, f"{line}    volume_driver: volplug\n")})
    error = COMPOSE_2.refusal(empty_engine, files, "up")
    assert "services.diary Additional property volume_driver is not allowed" in error


@ON_OLDEST
def test_docker_compose_accepts_the_same_file(
    empty_engine: Engine, shared_volplug: Volplug, project: Project
) -> None:
    files = project({"docker-compose.yml": _file_2_4(shared_volplug)})
    assert _starts(COMPOSE_1(empty_engine, files, "up")) == 1
    assert _starts(COMPOSE_1(empty_engine, files, "up")) == 2
    assert inspect(empty_engine, "volume", "notes_diary")["Status"]["size"] == "2GiB"
    COMPOSE_1(empty_engine, files, "down")
    assert _starts(COMPOSE_1(empty_engine, files, "up")) == 3
    COMPOSE_1(empty_engine, files, "down", "--volumes")
    assert volumes(empty_engine) == []


@ON_OLDEST
def test_docker_compose_replaces_a_container_unless_the_engine_is_too_new_for_it(
    empty_engine: Engine, engine_version: EngineVersion, shared_volplug: Volplug, project: Project
) -> None:
    text = _file_2_4(shared_volplug)
    COMPOSE_1(empty_engine, project({"docker-compose.yml": text}), "up")
    changed = project({"docker-compose.yml": text.replace("cat /data", "sort /data")})
    if engine_version == DOCKER_26:
        assert "KeyError: 'ContainerConfig'" in COMPOSE_1.refusal(empty_engine, changed, "up")
        COMPOSE_1(empty_engine, changed, "down")
    assert _starts(COMPOSE_1(empty_engine, changed, "up")) == 2
    COMPOSE_1(empty_engine, changed, "down", "--volumes")
    assert volumes(empty_engine) == []


@on_each(
    ("what",),
    {"option": ["option"], "driver": ["driver"]},
    {OLDEST: ["option"], NEWEST: ["driver"]},
)
def test_docker_compose_compares_volumes(
    empty_engine: Engine, shared_volplug: Volplug, project: Project, what: str
) -> None:
    text, driver = _file_2_4(shared_volplug), shared_volplug.driver
    other = "volplug" if ":" in driver else "volplug:latest"  # the same plugin for Docker
    old, new, shown = {
        "option": ("size: 2GiB", "size: 3GiB", '"size" driver_opt (2GiB)'),
        "driver": (f"driver: {driver}", f"driver: {other}", f"driver ({driver})"),
    }[what]
    COMPOSE_1(empty_engine, project({"docker-compose.yml": text}), "up")
    changed = project({"docker-compose.yml": text.replace(old, new)})
    error = COMPOSE_1.refusal(empty_engine, changed, "up")
    assert f"a volume with the same name uses a different {shown}" in error
    COMPOSE_1(empty_engine, changed, "down", "--volumes")
    assert volumes(empty_engine) == []


@ON_OLDEST
def test_docker_compose_accepts_a_driver_in_a_service_of_a_file_without_version(
    empty_engine: Engine, shared_volplug: Volplug, project: Project
) -> None:
    files = project({"docker-compose.yml": FILES["docker-compose.yml"]})
    assert _starts(COMPOSE_1(empty_engine, files, "up")) == 1
    COMPOSE_1(empty_engine, files, "rm", "--force", "-v")
    assert inspect(empty_engine, "volume", "diary")["Driver"] == shared_volplug.driver
    assert _starts(COMPOSE_1(empty_engine, files, "up")) == 2
    COMPOSE_1(empty_engine, files, "rm", "--force", "-v")
    empty_engine.docker("volume", "rm", "diary")


@ON_OLDEST
def test_docker_compose_refuses_a_driver_in_a_service_of_other_files(
    empty_engine: Engine, shared_volplug: Volplug, project: Project
) -> None:
    line = "    image: busybox\n"
    text = _file_2_4(shared_volplug).replace(line, f"{line}    volume_driver: volplug\n")
    error = COMPOSE_1.refusal(empty_engine, project({"docker-compose.yml": text}), "up")
    assert "Unsupported config option for services.diary: 'volume_driver'" in error
