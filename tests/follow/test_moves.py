"""A volume follows its container to another host: by hand, with Compose, and with a Swarm service."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests import pages
from tests.follow.backend import ON_ALL_BACKENDS
from tests.follow.measures import Measures
from tests.follow.scene import HOSTS, IMAGE, TIMEOUT_S, Scene
from tests.lab import checker
from tests.lab.compose import COMPOSE_2
from tests.lab.host import Host, join_swarm
from tests.lab.operator import Operator
from tests.lab.requirements import MULTIHOST
from tests.lab.waiting import wait_until

pytestmark = [*MULTIHOST, HOSTS]

_SETTLED_RECORDS = 5


@pytest.fixture(scope="module")
def settings() -> Mapping[str, str]:
    return {"VOLPLUG_LINGER_S": "0"}


def _wait_for_records(scene: Scene, more_than: int) -> None:
    wait_until(
        lambda: scene.count() >= more_than + _SETTLED_RECORDS,
        TIMEOUT_S,
        f"more than {more_than} records are acknowledged",
    )


@ON_ALL_BACKENDS
def test_docker_run_on_another_host_and_back_again_finds_every_record(
    scene: Scene, measures: Measures
) -> None:
    scene.restart_volplug(scene.a, VOLPLUG_LINGER_S="")  # the default, only in this test
    scene.create(scene.a)
    scene.write(scene.a).stop()
    count = scene.count()
    scene.watch.check(scene.volume)
    records = scene.write(scene.b)
    measures.downtime(
        "docker rm on one host, docker run on the other, with the default linger", scene.downtime_s(count)
    )
    scene.watch.check(scene.volume)
    records.stop()
    scene.verify(scene.a)
    scene.watch.check(scene.volume)


_COMPOSE = """\
services:
  writer:
    image: busybox:local
    command: ["sh", "-c", {script}]
    stop_grace_period: 0s
    volumes:
      - diary:/data
      - {acknowledged}:/acknowledged
volumes:
  diary:
    name: {name}
    driver: volplug
    driver_opts: {options}
"""


@pytest.mark.prepare(by=COMPOSE_2.tree)
def test_a_compose_project_continues_on_another_host(scene: Scene, measures: Measures) -> None:
    project = scene.hosts.directory / "notes"
    project.mkdir()
    scene.numbers.parent.mkdir(exist_ok=True)
    (project / "compose.yaml").write_text(
        _COMPOSE.format(
            script=json.dumps(checker.WRITE.replace("$", "$$")),
            name=scene.volume,
            acknowledged=scene.numbers.parent,
            options=json.dumps(dict(scene.cloud.volume_options)),
        )
    )
    COMPOSE_2(scene.a.engine, project, "up", "--detach")
    _wait_for_records(scene, 0)
    COMPOSE_2(scene.a.engine, project, "down")
    count = scene.count()
    scene.watch.check(scene.volume)
    COMPOSE_2(scene.b.engine, project, "up", "--detach")
    _wait_for_records(scene, count)
    measures.downtime("docker compose down on one host, up on the other", scene.downtime_s(count))
    scene.watch.check(scene.volume)
    COMPOSE_2(scene.b.engine, project, "down")
    scene.verify(scene.b)


@pytest.fixture(scope="module")
def hosts_in_swarm(shared_scene: Scene) -> Iterator[None]:
    """Both hosts are nodes of one Swarm, which `a` manages."""
    a, b = shared_scene.hosts
    join_swarm(a, b)
    yield
    for host in (b, a):
        host.docker("swarm", "leave", "--force")


@pytest.fixture
def swarm(scene: Scene, hosts_in_swarm: None) -> Iterator[Host]:
    """The manager of a Swarm of both hosts; in the end there is no task any more."""
    yield scene.a
    for service in scene.a.docker("service", "ls", "--quiet").split():
        scene.a.docker("service", "rm", service)
    for host in scene.hosts:
        _wait_for_the_end_of_tasks(host)


def _wait_for_the_end_of_tasks(host: Host) -> None:
    wait_until(
        lambda: host.docker("ps", "--all", "--quiet") == "", TIMEOUT_S, f"no task is left on {host.name}"
    )


def _create_service(scene: Scene, *options: str) -> None:
    scene.numbers.parent.mkdir(exist_ok=True)
    mounts = [scene.mount(), f"--mount=type=bind,source={scene.numbers.parent},target=/acknowledged"]
    common = ["--detach", "--no-resolve-image", "--stop-grace-period=0s", "--constraint=node.hostname==a"]
    scene.a.docker(
        "service", "create", "--name=writer", *common, *options, *mounts, IMAGE, "sh", "-c", checker.WRITE
    )
    _wait_for_records(scene, 0)


def _move_service(scene: Scene) -> None:
    constraints = ("--constraint-rm=node.hostname==a", "--constraint-add=node.hostname==b")
    scene.a.docker("service", "update", "--detach", *constraints, "writer")


@ON_ALL_BACKENDS
def test_swarm_moves_a_service_with_its_volume(scene: Scene, swarm: Host, measures: Measures) -> None:
    _create_service(scene, "--update-order=stop-first")
    scene.watch.check(scene.volume)
    _move_service(scene)
    wait_until(lambda: scene.a.docker("ps", "--quiet") == "", TIMEOUT_S, "the task on a has ended")
    count = scene.count()
    _wait_for_records(scene, count)
    measures.downtime("docker service update, from one node to another", scene.downtime_s(count))
    scene.watch.check(scene.volume)
    swarm.docker("service", "rm", "writer")
    _wait_for_the_end_of_tasks(scene.b)
    scene.verify(scene.b)


def test_a_start_first_update_is_refused_with_a_hint_and_the_old_task_continues(
    scene: Scene, swarm: Host
) -> None:
    scene.restart_volplug(scene.b, VOLPLUG_RELEASE_WAIT_S="1")
    _create_service(scene, "--update-order=start-first")
    task = scene.a.docker("ps", "--quiet")
    _move_service(scene)
    columns = "--format={{.Node}} {{.Error}}"

    def is_refused() -> bool:
        tasks = swarm.docker("service", "ps", "--no-trunc", columns, "writer").splitlines()
        return any(line.startswith("b ") and "stop-first" in line for line in tasks)

    wait_until(is_refused, TIMEOUT_S, "service ps shows the hint")
    scene.watch.check(scene.volume)
    assert scene.a.docker("ps", "--quiet") == task
    _wait_for_records(scene, scene.count())


def test_the_stack_of_the_walk_through_leaves_a_node_that_is_drained(
    scene: Scene, swarm: Host, tmp_path: Path
) -> None:
    page = "docs/aws-swarm.md"
    a, b = scene.hosts
    for host in (a, b):
        host.docker("tag", IMAGE, "busybox")
    named = f"  diary:\n    driver: volplug\n    name: {scene.volume}-{{{{.Task.Slot}}}}\n"
    stack = pages.files(page)["diary.yaml"].replace("  diary:\n    driver: volplug\n", named)
    (tmp_path / "diary.yaml").write_text(stack.replace("eu-central-1a", scene.cloud.zone))
    names = {
        "diary.yaml": str(tmp_path / "diary.yaml"),
        "NODE": "b",
        "eu-central-1a": scene.cloud.zone,
        "stack deploy": "stack deploy --resolve-image=never",
    }
    operator = Operator(a.engine.run, names, tmp_path)
    operator.does(page, "2. volplug on each node", 1)
    for host in (b, a):
        operator.knows({"NODE": host.name})
        operator.does(page, "3. The Swarm", 1)
    a.docker("node", "update", "--availability=drain", "b")
    operator.does(page, "4. A stack")

    def starts(host: Host) -> str:
        container = host.docker("ps", "--quiet")
        return host.docker("exec", container.strip(), "cat", "/data/starts", check=False) if container else ""

    wait_until(lambda: len(starts(a).splitlines()) == 1, TIMEOUT_S, "the task runs on a")
    scene.watch.check(f"{scene.volume}-1")
    a.docker("node", "update", "--availability=active", "b")
    drain, activate = pages.commands(page, "5. Drain a node")[0].splitlines()
    operator.types(drain)
    wait_until(lambda: len(starts(b).splitlines()) == 2, TIMEOUT_S, "the task runs on b")
    scene.watch.check(f"{scene.volume}-1")
    operator.types(activate)
    a.docker("stack", "rm", "notes")
