"""A forked volplug is a process of its host like any other."""

import os
import signal
from pathlib import Path

import pytest

from tests.follow.scene import HOSTS, TIMEOUT_S, Scene
from tests.lab.requirements import MULTIHOST
from tests.lab.waiting import wait_until

pytestmark = [*MULTIHOST, HOSTS]


def _place(pid: int) -> list[str]:
    """The namespaces and the root directory of a process."""
    process = Path(f"/proc/{pid}")
    links = [*(process / "ns" / kind for kind in ("mnt", "net", "pid", "uts")), process / "root"]
    return [os.readlink(link) for link in links]


def test_it_runs_in_its_host_alone(scene: Scene) -> None:
    places = [_place(host.volplug.pid) for host in scene.hosts]
    assert places == [_place(host.engine.first_pid) for host in scene.hosts]
    assert places[0] != places[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_it_ends_by_signals_with_their_codes(scene: Scene, number: signal.Signals, code: int) -> None:
    volplug = scene.a.volplug
    os.kill(volplug.pid, number)
    wait_until(lambda: not volplug.running, TIMEOUT_S, "it has ended")
    assert volplug.kill() == code


def test_it_ends_with_its_host(scene: Scene) -> None:
    volplug = scene.a.volplug
    scene.a.kill()
    assert not volplug.running
