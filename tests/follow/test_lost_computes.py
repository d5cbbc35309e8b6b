"""A host is lost, and so is the compute service of its server, without which SHUTOFF proves nothing."""

from collections.abc import Mapping

import pytest

from tests.follow.backend import ON_CINDER
from tests.follow.scene import HOSTS, Scene
from tests.lab.cinder import CinderCloud
from tests.lab.requirements import MULTIHOST

pytestmark = [*MULTIHOST, HOSTS, ON_CINDER]


@pytest.fixture(scope="module")
def settings() -> Mapping[str, str]:
    return {"VOLPLUG_LINGER_S": "0", "VOLPLUG_RELEASE_WAIT_S": "0", "VOLPLUG_TAKEOVER": "fence"}


@pytest.fixture
def cloud(scene: Scene) -> CinderCloud:
    assert isinstance(scene.cloud, CinderCloud)
    return scene.cloud


def test_its_volume_is_not_taken_before_the_service_is_back_although_nova_shows_the_server_as_off(
    scene: Scene, cloud: CinderCloud
) -> None:
    server_id = cloud.node_id(scene.a)
    scene.create(scene.a)
    scene.write(scene.a)
    scene.stop(scene.a)
    cloud.lose_compute(scene.a)
    error = scene.refusal(scene.b)
    assert f"{server_id} is not proven dead: its compute service is down" in error
    assert f"Once its host is off: openstack server evacuate {server_id}" in error
    assert cloud.holders(scene.volume) == {"a"}
    scene.watch.check(scene.volume)
    cloud.recover_compute(scene.a)
    scene.write(scene.b).stop()
    scene.verify(scene.b)
