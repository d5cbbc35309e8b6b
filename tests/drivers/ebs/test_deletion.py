"""What is gone, and what only seems to be."""

from pathlib import Path

import pytest

from tests.drivers.ebs.clouds import Site, spec_of
from tests.ec2sim import Ec2Cloud, Refusal, Slow
from volplug.drivers.ebs import EbsDriver
from volplug.errors import BackendUnavailable, VolumeNotFound

pytestmark = pytest.mark.ebs

NOT_KNOWN_YET = Refusal("InvalidVolume.NotFound", "does not exist")


async def test_what_ec2_has_just_created_and_does_not_know_yet_is_deleted_all_the_same(
    memory_cloud: Ec2Cloud, on_a: EbsDriver
) -> None:
    volume = await on_a.create(spec_of())
    memory_cloud.set_plan(script={"DeleteVolume": [NOT_KNOWN_YET]})
    await on_a.delete(volume)
    assert memory_cloud.volumes() == []


async def test_volume_that_ec2_keeps_calling_unknown_is_not_taken_for_gone(
    memory_cloud: Ec2Cloud, sites: list[Site], tmp_path: Path
) -> None:
    driver = sites[0].driver(tmp_path / "a")
    volume = await driver.create(spec_of())
    memory_cloud.set_plan(script={"DeleteVolume": [NOT_KNOWN_YET] * 10})
    with pytest.raises(BackendUnavailable, match="does not know it yet"):
        await driver.delete(volume)
    assert await driver.get("v") is not None
    assert len(memory_cloud.volumes()) == 1


@pytest.mark.parametrize("deleting", [Slow(), Slow(looks=9)], ids=["not shown", "shown as deleting"])
async def test_what_was_created_here_and_deleted_elsewhere_is_gone(
    memory_cloud: Ec2Cloud, on_a: EbsDriver, on_b: EbsDriver, deleting: Slow
) -> None:
    volume = await on_a.create(spec_of())
    assert await on_a.get("v") is not None
    memory_cloud.set_plan(deleting=deleting)
    await on_b.delete(volume)
    assert await on_a.get(volume.volume_id) is None, "this is a volume's name, too"
    with pytest.raises(VolumeNotFound):
        await on_a.delete(volume)


async def test_volume_that_is_deleted_while_it_is_waited_for_is_asked_for_anew(
    memory_cloud: Ec2Cloud, on_a: EbsDriver, on_b: EbsDriver
) -> None:
    """The core decides by name what its absence means."""
    volume = await on_a.create(spec_of())
    memory_cloud.set_plan(deleting=Slow(looks=9))
    await on_b.delete(volume)
    assert await on_a.wait_settled(volume, 30.0) is None
