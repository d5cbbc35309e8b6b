"""A Swarm service on a volume of volplug, on one node without a network."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.engine.documented import FILES
from tests.engine.pairs import AS_SERVICE
from tests.engine.use import IMAGE, run, volumes, wait_until_released
from tests.lab.compose import COMPOSE_2
from tests.lab.engine import Engine
from tests.lab.plugin import VolplugProcess
from tests.lab.programs import checked
from tests.lab.requirements import ENGINE
from tests.lab.waiting import wait_until
from tests.served.volumes import mount_of

pytestmark = [*ENGINE, AS_SERVICE, pytest.mark.prepare(by=COMPOSE_2.tree)]

_ADDRESS = "10.9.9.1"
_TASK_TIMEOUT_S = 60.0
_MOUNT = "type=volume,source=db,target=/data,volume-driver=volplug"
# Records its start, and ends at once on SIGTERM.
_NOTE = 'trap "exit 0" TERM; echo $VERSION >>/data/starts && sync; while :; do usleep 50000; done'


@pytest.fixture(scope="module")
def node(own_engine: Engine, own_volplug: VolplugProcess) -> Iterator[Engine]:
    """A Swarm of one node."""
    own_engine.run(["ip", "address", "add", f"{_ADDRESS}/24", "dev", "lo"], check=True)
    own_engine.docker("volume", "ls")  # a node offers a socket plugin once its engine has used it
    own_engine.docker("swarm", "init", f"--advertise-addr={_ADDRESS}", f"--listen-addr={_ADDRESS}")
    yield own_engine
    own_engine.docker("swarm", "leave", "--force")


@pytest.fixture
def swarm(node: Engine, own_empty_engine: Engine) -> Engine:
    """That Swarm, without services before and after each test."""
    return own_empty_engine


def _service(engine: Engine, name: str, *options: str) -> None:
    common = ("--detach", "--no-resolve-image", "--update-order=stop-first", "--stop-grace-period=1s")
    engine.docker("service", "create", f"--name={name}", *common, *options, IMAGE, "sh", "-c", _NOTE)


def _tasks(engine: Engine, service: str, field: str, *options: str) -> list[str]:
    return engine.docker(
        "service", "ps", "--no-trunc", f"--format={{{{.{field}}}}}", *options, service
    ).stdout.splitlines()


def _wait_until_tasks_are_gone(engine: Engine) -> None:
    def is_gone() -> bool:
        return engine.docker("ps", "--all", "--quiet").stdout == ""

    wait_until(is_gone, _TASK_TIMEOUT_S, "the tasks are gone")


def _starts(engine: Engine) -> str:
    return run(engine, "-v", "db:/data", script="cat /data/starts 2>/dev/null || true")


@pytest.mark.slow  # the documented stack below does the same
def test_an_updated_service_finds_its_data(swarm: Engine, own_volplug: VolplugProcess) -> None:
    _service(swarm, "writer", f"--mount={_MOUNT},volume-opt=size=64MiB", "--env=VERSION=one")
    wait_until(lambda: volumes(swarm) == ["db"], _TASK_TIMEOUT_S, "the volume is made")
    wait_until(lambda: _starts(swarm) == "one\n", _TASK_TIMEOUT_S, "the first version runs")
    swarm.docker("service", "update", "--detach", "--env-add=VERSION=two", "writer")
    wait_until(lambda: _starts(swarm) == "one\ntwo\n", _TASK_TIMEOUT_S, "the second version runs")
    swarm.docker("service", "rm", "writer")
    _wait_until_tasks_are_gone(swarm)
    wait_until_released(swarm, own_volplug)
    assert _starts(swarm) == "one\ntwo\n"
    swarm.docker("volume", "rm", "db")


def test_a_service_without_its_volume_shows_the_error(swarm: Engine) -> None:
    _service(swarm, "writer", f"--mount={_MOUNT},volume-opt=sise=64MiB")
    error = "create db: VolumeDriver.Create: unknown option 'sise' [create \"db\"]. Did you mean 'size'? "

    def is_reported() -> bool:
        return any(error in line for line in _tasks(swarm, "writer", "Error"))

    wait_until(is_reported, _TASK_TIMEOUT_S, "service ps shows the error")
    assert "Rejected" in _tasks(swarm, "writer", "CurrentState")[-1]
    swarm.docker("service", "rm", "writer")
    _wait_until_tasks_are_gone(swarm)
    assert volumes(swarm) == []


def test_the_stack_of_the_documentation_runs_its_tasks_one_after_the_other(
    swarm: Engine, own_volplug: VolplugProcess
) -> None:
    swarm.import_busybox("busybox")
    directory = swarm.directory / "notes"
    directory.mkdir()
    (directory / "stack.yaml").write_text(FILES["stack.yaml"])
    deploy = "docker stack deploy --resolve-image=never --compose-file stack.yaml notes"
    checked(COMPOSE_2.shell(swarm, directory, deploy))
    diary = swarm.path(mount_of(own_volplug, "notes_diary") / "data" / "starts")
    wait_until(lambda: _lines(diary) == 1, _TASK_TIMEOUT_S, "the first task runs")
    swarm.docker("service", "update", "--detach", "--force", "notes_diary")
    wait_until(lambda: _lines(diary) == 2, _TASK_TIMEOUT_S, "the second task runs")
    # Repeated if it fails: Docker may still count the network as used by a task that it has just removed.
    is_removed = partial(swarm.docker, "stack", "rm", "notes", check=False)
    wait_until(lambda: is_removed().returncode == 0, _TASK_TIMEOUT_S, "the stack is removed")
    _wait_until_tasks_are_gone(swarm)
    wait_until_released(swarm, own_volplug)
    swarm.docker("volume", "rm", "notes_diary")


def test_each_replica_has_a_volume_of_its_own(swarm: Engine) -> None:
    source = _MOUNT.replace("source=db", "source=db-{{.Task.Slot}}")
    _service(swarm, "writer", "--replicas=2", f"--mount={source},volume-opt=size=16MiB", "--env=VERSION=one")
    # An engine that is creating a container counts its volumes as used, and does not list it yet.
    running = ("ps", "--quiet", "--filter=status=running")
    wait_until(
        lambda: len(swarm.docker(*running).stdout.splitlines()) == 2, _TASK_TIMEOUT_S, "both tasks run"
    )
    assert volumes(swarm) == ["db-1", "db-2"]
    swarm.docker("service", "rm", "writer")
    _wait_until_tasks_are_gone(swarm)
    swarm.docker("volume", "rm", "db-1", "db-2")


def _lines(file: Path) -> int:
    """How many lines a file of a volume has; none while that is not mounted."""
    try:
        return len(file.read_text().splitlines())
    except OSError:
        return 0
