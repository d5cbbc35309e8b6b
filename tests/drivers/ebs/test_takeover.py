"""Volumes of stopped instances are taken, by force only where that is allowed; instances are stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.drivers.ebs.clouds import IMPATIENT, QUICK, Site
from tests.ec2sim import Ec2Cloud, Slow
from volplug.drivers.ebs import EbsDriver
from volplug.errors import (
    BackendDenied,
    ConfigurationError,
    OperationTimeout,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.models import HolderState, Volume
from volplug.testing.conformance.calls import located

pytestmark = [pytest.mark.loop, pytest.mark.ebs]


async def test_volume_of_a_stopped_instance_is_taken(
    cloud: Ec2Cloud, driver: EbsDriver, other: EbsDriver, site: Site, volume: Volume
) -> None:
    await driver.attach(volume)
    node_id = site.instance.instance_id
    with pytest.raises(VolumeInUse, match=r"not proven dead: .* is running") as alive:
        await other.take_from(volume, node_id)
    assert alive.value.holder == node_id
    cloud.set_instance_state(node_id, "stopped")
    await other.take_from(volume, node_id)
    assert await other.get("v") == volume
    await other.take_from(volume, node_id)
    await other.attach(volume)
    await other.take_from(volume, node_id)
    assert await located(other, volume) is not None, "it is not the dead node's any more"


@pytest.mark.parametrize("may_force", [False, True])
async def test_force_is_used_only_where_allowed_and_after_all_else(
    cloud: Ec2Cloud,
    driver: EbsDriver,
    other_site: Site,
    site: Site,
    cluster: str,
    volume: Volume,
    tmp_path: Path,
    may_force: bool,
) -> None:
    await driver.attach(volume)
    cloud.set_plan(busy_volumes=frozenset({volume.volume_id}))
    node_id = site.instance.instance_id
    cloud.set_instance_state(node_id, "stopped")
    limits = replace(IMPATIENT, transition_s=0.7)
    taker = Site(cloud, other_site.instance, force_detach=may_force).driver(tmp_path, cluster, limits)
    if may_force:
        await taker.take_from(volume, node_id)
    else:
        with pytest.raises(VolumeInUse, match="although it is stopped"):
            await taker.take_from(volume, node_id)
    forced = [call.parameters.get("Force") for call in cloud.calls.log() if call.action == "DetachVolume"]
    assert forced == ([None, "true"] if may_force else [None])


async def test_fence_stops_the_instance_and_waits_for_proof(
    cloud: Ec2Cloud, other: EbsDriver, site: Site
) -> None:
    cloud.set_plan(stopping=Slow(0.05))
    await other.fence(site.instance.instance_id)
    assert (await other.holder_state(site.instance.instance_id)).state is HolderState.DEAD


@pytest.mark.parametrize("limits", [QUICK], ids=["quick"])
async def test_fence_without_proof_ends_and_without_permission_does_not_begin(
    cloud: Ec2Cloud, other: EbsDriver, site: Site
) -> None:
    cloud.set_plan(stops_by_hand=True)
    with pytest.raises(OperationTimeout, match="is stopping"):
        await other.fence(site.instance.instance_id)
    cloud.set_plan(denied=frozenset({"StopInstances"}))
    with pytest.raises(BackendDenied, match="StopInstances"):
        await other.fence(site.instance.instance_id)


async def test_deleted_volume_cannot_be_taken(
    cloud: Ec2Cloud, driver: EbsDriver, other: EbsDriver, site: Site, volume: Volume
) -> None:
    await driver.delete(volume)
    cloud.set_instance_state(site.instance.instance_id, "stopped")
    with pytest.raises(VolumeNotFound):
        await other.take_from(volume, site.instance.instance_id)


async def test_no_instance_stops_itself(cloud: Ec2Cloud, driver: EbsDriver, site: Site) -> None:
    with pytest.raises(ConfigurationError, match="does not stop itself"):
        await driver.fence(site.instance.instance_id)
    assert cloud.calls.counts()["StopInstances"] == 0
