"""Two hosts want one volume at the same time."""

import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.follow.backend import ON_ALL_BACKENDS
from tests.follow.scene import HOSTS, IMAGE, Scene
from tests.lab.requirements import MULTIHOST

pytestmark = [*MULTIHOST, HOSTS, ON_ALL_BACKENDS]


@pytest.fixture(scope="module")
def settings() -> Mapping[str, str]:
    return {"VOLPLUG_LINGER_S": "0"}


def _run_on_both(scene: Scene, *command: str) -> dict[str, subprocess.CompletedProcess[str]]:
    """Run the same container on both hosts at once, with a volume that does not exist yet."""

    def run(name: str) -> subprocess.CompletedProcess[str]:
        return scene.hosts[name].engine.docker("run", scene.mount(), *command, check=False)

    with ThreadPoolExecutor(2) as threads:
        return dict(zip("ab", threads.map(run, "ab"), strict=True))


def test_of_two_hosts_that_create_and_mount_it_one_has_it_and_the_error_of_the_other_names_it(
    scene: Scene,
) -> None:
    for host in scene.hosts:
        scene.restart_volplug(host, VOLPLUG_RELEASE_WAIT_S="1")
    done = _run_on_both(scene, "--detach", "--stop-timeout=0", IMAGE, "sleep", "1000")
    assert sorted(each.returncode for each in done.values()) == [0, 125], done
    has_it, has_not = sorted(done, key=lambda name: done[name].returncode)
    assert f"node {scene.hosts[has_it].name} holds the volume" in done[has_not].stderr
    assert scene.cloud.holders(scene.volume) == {has_it}
    scene.watch.check(scene.volume)


def test_of_two_hosts_that_use_it_for_a_moment_one_waits_for_the_other(scene: Scene) -> None:
    done = _run_on_both(scene, "--rm", IMAGE, "sh", "-c", "echo here >>/data/visitors && sync")
    assert [each.returncode for each in done.values()] == [0, 0], done
    shown = scene.b.engine.output_of(scene.mount(), image=IMAGE, script="cat /data/visitors")
    assert shown == "here\nhere\n"
    scene.watch.check(scene.volume)
