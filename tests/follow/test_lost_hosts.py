"""A host that has a volume is lost: the next one gets the volume once the host is proven dead, not before."""

from collections.abc import Callable, Mapping

import pytest

from tests.follow.backend import ON_ALL_BACKENDS
from tests.follow.measures import Measures
from tests.follow.scene import HOSTS, TIMEOUT_S, Scene
from tests.follow.watch import mounted
from tests.lab.host import Host
from tests.lab.network import Wire
from tests.lab.requirements import MULTIHOST
from tests.lab.waiting import wait_until

pytestmark = [*MULTIHOST, HOSTS]


@pytest.fixture(scope="module")
def settings() -> Mapping[str, str]:
    return {"VOLPLUG_LINGER_S": "0", "VOLPLUG_RELEASE_WAIT_S": "0", "VOLPLUG_MOUNT_GRACE_S": "1"}


def _refuses(scene: Scene, host: Host, holder: Host) -> None:
    """Assert that a host refuses the volume, with its holder and the remedy."""
    error = scene.refusal(host)
    assert f"node {holder.name} holds the volume" in error
    assert scene.cloud.stop_command(holder) in error
    scene.watch.check(scene.volume)


def _is_taken_over_once_it_is_stopped(scene: Scene, lose: Callable[[Host], None], measures: Measures) -> None:
    scene.create(scene.a)
    scene.write(scene.a)
    lose(scene.a)
    _refuses(scene, scene.b, holder=scene.a)
    scene.stop(scene.a)
    count = scene.count()
    records = scene.write(scene.b)
    measures.downtime(f"host {lose.__name__}, refused, then stopped: takeover", scene.downtime_s(count))
    scene.watch.check(scene.volume)
    scene.start(scene.a)
    assert mounted(scene.a) == {}
    _refuses(scene, scene.a, holder=scene.b)
    records.await_progress()
    records.stop()
    scene.wait_until_free()
    scene.verify(scene.a)
    scene.watch.check(scene.volume)


@ON_ALL_BACKENDS
def test_a_volume_of_a_killed_host_is_taken_over_once_that_is_stopped_and_stays_so_when_it_is_back(
    scene: Scene, measures: Measures
) -> None:
    _is_taken_over_once_it_is_stopped(scene, Host.kill, measures)


@pytest.mark.parametrize("lose", [Host.freeze, Host.partition], ids=["frozen", "cut"])
def test_a_volume_of_a_lost_host_is_taken_over_once_that_is_stopped_and_stays_so_when_it_is_back(
    scene: Scene, lose: Callable[[Host], None], measures: Measures
) -> None:
    _is_taken_over_once_it_is_stopped(scene, lose, measures)


def test_a_frozen_host_continues_after_the_thaw(scene: Scene) -> None:
    scene.create(scene.a)
    records = scene.write(scene.a)
    scene.a.freeze()
    _refuses(scene, scene.b, holder=scene.a)
    scene.a.thaw()
    records.await_progress()
    records.stop()
    scene.wait_until_free()
    scene.write(scene.b).stop()
    scene.verify(scene.b)


@ON_ALL_BACKENDS
def test_a_host_without_its_cloud_continues_and_detaches_when_the_cloud_is_back(scene: Scene) -> None:
    scene.create(scene.a)
    records = scene.write(scene.a)
    scene.a.partition([Wire.CLOUD])
    records.await_progress()
    records.stop()
    _refuses(scene, scene.b, holder=scene.a)
    scene.a.heal()
    scene.wait_until_free()
    scene.write(scene.b).stop()
    scene.verify(scene.b)


@ON_ALL_BACKENDS
def test_a_host_that_boots_again_detaches_unused_volumes(scene: Scene) -> None:
    scene.create(scene.a)
    scene.write(scene.a)
    scene.a.reboot()
    scene.wait_until_free()
    scene.write(scene.b).stop()
    scene.wait_until_free()
    scene.verify(scene.a)


def test_a_host_that_boots_again_keeps_what_its_containers_use(scene: Scene) -> None:
    scene.create(scene.a)
    records = scene.write(scene.a, "--restart=always")
    scene.a.reboot()
    wait_until(records.is_running, TIMEOUT_S, "the container runs again")
    records.await_progress()
    _refuses(scene, scene.b, holder=scene.a)
    records.await_progress()
    records.stop()
    scene.wait_until_free()
    scene.verify(scene.b)


def test_with_takeover_never_even_a_stopped_host_keeps_its_volumes(scene: Scene) -> None:
    scene.create(scene.a)
    scene.write(scene.a)
    scene.stop(scene.a)
    scene.restart_volplug(scene.b, VOLPLUG_TAKEOVER="never")
    assert f"node {scene.cloud.node_id(scene.a)} ({scene.a.name}) holds the volume" in scene.refusal(scene.b)
    assert scene.cloud.holders(scene.volume) == {"a"}
    scene.watch.check(scene.volume)


@ON_ALL_BACKENDS
def test_a_host_in_an_unknown_state_is_stopped_first_where_that_is_allowed(scene: Scene) -> None:
    scene.create(scene.a)
    scene.write(scene.a)
    scene.lose(scene.a)
    _refuses(scene, scene.b, holder=scene.a)
    scene.restart_volplug(scene.b, VOLPLUG_TAKEOVER="fence")
    scene.write(scene.b).stop()
    scene.verify(scene.b)


def test_a_host_that_is_known_to_run_is_never_stopped(scene: Scene) -> None:
    scene.create(scene.a)
    records = scene.write(scene.a)
    scene.a.partition()
    scene.restart_volplug(scene.b, VOLPLUG_TAKEOVER="fence")
    _refuses(scene, scene.b, holder=scene.a)
    scene.a.heal()
    records.await_progress()
    records.stop()
    scene.verify(scene.a)
