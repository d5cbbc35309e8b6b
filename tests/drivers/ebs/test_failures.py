"""What goes wrong at EC2 or on the instance, what the driver makes of it, and what it costs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.drivers.ebs.clouds import IMPATIENT, QUICK, Site, spec_of
from tests.ec2sim import Ec2Cloud, Refusal, Slow
from volplug.drivers.ebs import EbsDriver
from volplug.drivers.ebs.device_names import NITRO_NAMES, DeviceNames
from volplug.errors import (
    BackendDenied,
    ConfigurationError,
    DeviceNotFound,
    HostError,
    InvalidOption,
    InvalidRequest,
    LimitExceeded,
    UnexpectedState,
    VolplugError,
    VolumeExists,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.models import FilesystemTag, Volume
from volplug.testing.conformance.calls import located

pytestmark = [pytest.mark.loop, pytest.mark.ebs]


def first_name_of(volume: Volume) -> str:
    return DeviceNames(lambda: 0.0).take(volume.volume_id, NITRO_NAMES)


def names_asked(cloud: Ec2Cloud) -> list[str]:
    return [call.parameters["Device"] for call in cloud.calls.log() if call.action == "AttachVolume"]


# Attaching


@pytest.mark.parametrize("limits", [replace(QUICK, attaching_s=1.0)], ids=["quick"])
async def test_name_on_which_attaches_get_stuck_is_left_for_another(
    cloud: Ec2Cloud, driver: EbsDriver, volume: Volume
) -> None:
    stuck = first_name_of(volume)
    cloud.set_plan(stuck_devices=frozenset({stuck}))
    source = await driver.attach(volume)
    assert await located(driver, volume) == source
    first, second = names_asked(cloud)
    assert first == stuck != second
    assert cloud.calls.counts()["DetachVolume"] == 1


@pytest.mark.parametrize("limits", [QUICK], ids=["quick"])
async def test_attach_that_is_always_stuck_is_given_up_and_taken_back(
    cloud: Ec2Cloud, driver: EbsDriver, volume: Volume
) -> None:
    cloud.set_plan(stuck_volumes=frozenset({volume.volume_id}))
    with pytest.raises(DeviceNotFound, match=f"{volume.volume_id} did not appear .* 3 times"):
        await driver.attach(volume)
    assert len(set(names_asked(cloud))) == 3
    cloud.settle()
    assert await driver.get("v") == volume


async def test_name_that_another_party_took_is_left_for_the_next(
    cloud: Ec2Cloud, site: Site, driver: EbsDriver, volume: Volume
) -> None:
    taken = await driver.create(spec_of("taken"))
    parameters = {"VolumeId": taken.volume_id, "InstanceId": site.instance.instance_id}
    await site.caller.call("AttachVolume", Device=first_name_of(volume), **parameters)
    cloud.calls.reset()
    await driver.attach(volume)
    assert [call.outcome for call in cloud.calls.log()] == ["InvalidParameterValue", "ok"]
    assert len(set(names_asked(cloud))) == 2


@pytest.mark.parametrize("limits", [replace(IMPATIENT, quiet_s=0.01)], ids=["asks soon"])
async def test_stale_reads_do_not_end_an_attach(cloud: Ec2Cloud, driver: EbsDriver, volume: Volume) -> None:
    cloud.set_plan(attaching=Slow(looks=4), stale_looks=(2, 2), stale_after=frozenset({"AttachVolume"}))
    await driver.attach(volume)
    counts = cloud.calls.counts()
    assert (counts["AttachVolume"], counts["DetachVolume"]) == (1, 0)


@pytest.mark.parametrize("limits", [replace(IMPATIENT, quiet_s=0.05)], ids=["asks soon"])
async def test_device_that_comes_late_is_waited_for(
    cloud: Ec2Cloud, driver: EbsDriver, volume: Volume
) -> None:
    cloud.set_plan(device="after", device_lag_s=0.2)  # longer than nothing is asked
    source = await driver.attach(volume)
    assert source.serial == volume.volume_id.replace("-", "")
    assert names_asked(cloud) == [first_name_of(volume)]


async def test_volume_of_another_zone_is_refused_naming_both(cloud: Ec2Cloud, driver: EbsDriver) -> None:
    volume = await driver.create(spec_of(availability_zone=f"{cloud.region}b"))
    cloud.calls.reset()
    with pytest.raises(InvalidRequest, match=f"zone {cloud.region}b, this host in {cloud.region}a"):
        await driver.attach(volume)
    assert cloud.calls.counts() == {"AttachVolume": 1, "DescribeVolumes": 1}


async def test_full_instance_says_how_many_volumes_it_has(cloud: Ec2Cloud, driver: EbsDriver) -> None:
    volumes = [await driver.create(spec_of(f"v{number}")) for number in range(4)]
    for each in volumes[:3]:
        await driver.attach(each)
    cloud.calls.reset()
    with pytest.raises(LimitExceeded, match="takes no more volumes, it has 4 with its root"):
        await driver.attach(volumes[3])
    assert cloud.calls.counts() == {"AttachVolume": 1}


async def test_instance_that_is_not_running_is_reported(
    cloud: Ec2Cloud, site: Site, driver: EbsDriver, volume: Volume
) -> None:
    cloud.set_instance_state(site.instance.instance_id, "stopping")
    with pytest.raises(UnexpectedState, match=r"is not 'running'"):
        await driver.attach(volume)


async def test_volume_that_leaves_another_host_is_waited_for(
    cloud: Ec2Cloud, driver: EbsDriver, other: EbsDriver, volume: Volume
) -> None:
    await driver.attach(volume)
    cloud.set_plan(detaching=Slow(0.1))
    await driver.detach(volume)
    source = await other.attach(volume)
    assert await located(other, volume) == source


async def test_volume_that_another_host_keeps_is_refused_naming_it(
    site: Site, driver: EbsDriver, other: EbsDriver, volume: Volume
) -> None:
    await driver.attach(volume)
    with pytest.raises(VolumeInUse, match=volume.volume_id) as used:
        await other.attach(volume)
    assert used.value.holder == site.instance.instance_id


# Detaching


async def test_device_in_use_is_found_before_anything_is_changed(
    cloud: Ec2Cloud, driver: EbsDriver, volume: Volume
) -> None:
    source = await driver.attach(volume)
    cloud.calls.reset()
    holder = os.open(source.device, os.O_RDWR | os.O_EXCL)
    try:
        with pytest.raises(VolumeInUse, match="in use on this host"):
            await driver.detach(volume)
    finally:
        os.close(holder)
    assert cloud.calls.counts() == {}
    await driver.detach(volume)


@pytest.mark.parametrize("limits", [QUICK], ids=["quick"])
async def test_detach_that_stays_busy_is_explained_and_ends_before_the_next_attach(
    cloud: Ec2Cloud, driver: EbsDriver, volume: Volume
) -> None:
    await driver.attach(volume)
    cloud.set_plan(busy_volumes=frozenset({volume.volume_id}))
    with pytest.raises(VolumeInUse, match=r"still being detached .*\(busy\): something on this host uses it"):
        await driver.detach(volume)
    attaching = asyncio.ensure_future(driver.attach(volume))
    cloud.set_plan(busy_volumes=frozenset())
    await attaching
    assert await located(driver, volume) is not None
    await driver.detach(volume)
    assert await driver.get("v") == volume


async def test_what_ec2_attached_but_this_host_does_not_show_is_detached(
    cloud: Ec2Cloud, site: Site, driver: EbsDriver, volume: Volume
) -> None:
    """As a crash between the call and the disk leaves it."""
    await driver.attach(await driver.create(spec_of("shown")))
    cloud.set_plan(stuck_volumes=frozenset({volume.volume_id}))
    parameters = {"VolumeId": volume.volume_id, "InstanceId": site.instance.instance_id}
    await site.caller.call("AttachVolume", Device="/dev/sdf", **parameters)
    await driver.detach(volume)
    assert await driver.get("v") == volume


async def test_nothing_is_concluded_from_a_host_that_shows_no_disks(
    cloud: Ec2Cloud, driver: EbsDriver, site: Site, cluster: str, volume: Volume, tmp_path: Path
) -> None:
    await driver.attach(volume)
    (tmp_path / "block").mkdir()
    blind = Site(cloud, site.instance, sys_root=tmp_path).driver(tmp_path, cluster)
    cloud.calls.reset()
    with pytest.raises(HostError, match="shows no disks at all"):
        await blind.detach(volume)
    (tmp_path / "block").rmdir()
    for call in (blind.detach, blind.attach):
        with pytest.raises(HostError, match="cannot be read"):
            await call(volume)
    with pytest.raises(HostError, match="cannot be read"):
        await located(blind, volume)
    assert cloud.calls.counts()["DetachVolume"] == 0


# Answers that got lost


@pytest.mark.parametrize("fault", ["lost", "closed"])
async def test_calls_whose_answers_got_lost_are_not_made_twice(
    cloud: Ec2Cloud, driver: EbsDriver, fault: str
) -> None:
    actions = ("CreateVolume", "AttachVolume", "DetachVolume", "DeleteVolume")
    cloud.calls.reset()
    cloud.set_plan(script={action: [fault] for action in actions})
    volume = await driver.create(spec_of())
    assert await driver.list() == [volume]
    await driver.attach(volume)
    await driver.detach(volume)
    await driver.delete(volume)
    assert await driver.list() == []
    assert {cloud.calls.counts()[action] for action in actions} == {2}


# What is refused at once


async def attach_of(driver: EbsDriver) -> None:
    await driver.attach(await driver.create(spec_of()))


async def create_of(driver: EbsDriver) -> None:
    await driver.create(spec_of())


@pytest.mark.parametrize(
    ("action", "refusal", "step", "error"),
    [
        ("AttachVolume", Refusal("UnauthorizedOperation", "no", 403), attach_of, BackendDenied),
        ("CreateVolume", Refusal("UnauthorizedOperation", "no", 403), create_of, BackendDenied),
        ("CreateVolume", Refusal("VolumeLimitExceeded", "no"), create_of, LimitExceeded),
        ("CreateVolume", Refusal("InvalidParameterCombination", "no"), create_of, InvalidOption),
    ],
    ids=lambda value: getattr(value, "code", None),
)
async def test_permissions_quotas_and_wrong_values_fail_at_once(
    cloud: Ec2Cloud,
    driver: EbsDriver,
    action: str,
    refusal: Refusal,
    step: Callable[[EbsDriver], Awaitable[None]],
    error: type[VolplugError],
) -> None:
    cloud.calls.reset()
    cloud.set_plan(script={action: [refusal] * 5})
    with pytest.raises(error):
        await step(driver)
    assert cloud.calls.counts()[action] == 1


@pytest.mark.parametrize(
    ("action", "code", "error", "words"),
    [
        ("AttachVolume", "InvalidVolume.NotFound", VolumeNotFound, "{volume_id} does not exist"),
        ("AttachVolume", "InvalidVolume.ZoneMismatch", InvalidRequest, "in availability zone"),
        ("AttachVolume", "InvalidInstanceID.NotFound", ConfigurationError, "region is that of this"),
        ("DetachVolume", "InvalidVolume.NotFound", VolumeNotFound, "InvalidVolume.NotFound"),
        ("DetachVolume", "InvalidInstanceID.NotFound", ConfigurationError, "region is that of this"),
        ("CreateTags", "InvalidVolume.NotFound", VolumeNotFound, "InvalidVolume.NotFound"),
        ("CreateTags", "TagLimitExceeded", LimitExceeded, "EC2 refused CreateTags: TagLimitExceeded"),
    ],
)
async def test_what_ec2_refuses_of_a_volume_of_another_host_is_asked_once(
    cloud: Ec2Cloud,
    other: EbsDriver,
    volume: Volume,
    action: str,
    code: str,
    error: type[VolplugError],
    words: str,
) -> None:
    if action == "DetachVolume":
        await other.attach(volume)
    cloud.calls.reset()
    cloud.set_plan(script={action: [Refusal(code)]})
    calls: dict[str, Callable[[Volume], Awaitable[object]]] = {
        "AttachVolume": other.attach,
        "DetachVolume": other.detach,
        "CreateTags": lambda each: other.tag_filesystem(each, FilesystemTag()),
    }
    with pytest.raises(error, match=words.format(volume_id=volume.volume_id)):
        await calls[action](volume)
    assert cloud.calls.counts()[action] == 1


@pytest.mark.parametrize("call", ["create", "get", "list", "attach", "delete", "health"])
async def test_without_a_cluster_nothing_is_done(
    cloud: Ec2Cloud, site: Site, volume: Volume, tmp_path: Path, call: str
) -> None:
    nobodys = site.driver(tmp_path, "")
    arguments = {"create": (volume.spec,), "get": ("v",), "attach": (volume,), "delete": (volume,)}
    cloud.calls.reset()
    with pytest.raises(ConfigurationError, match="cluster") as refused:
        await getattr(nobodys, call)(*arguments.get(call, ()))
    assert "VOLPLUG_CLUSTER" in refused.value.remedy
    assert [str(error) for error in nobodys.unmet_requirements()] == [str(refused.value)]
    assert cloud.calls.counts() == {}


async def test_a_check_of_the_backend_is_one_call(cloud: Ec2Cloud, site: Site, tmp_path: Path) -> None:
    driver = site.driver(tmp_path)
    cloud.calls.reset()
    await driver.health()
    assert (driver.unmet_requirements(), cloud.calls.counts()) == ([], {"DescribeVolumes": 1})


async def test_a_volume_that_is_missed_may_be_in_another_cluster(
    cloud: Ec2Cloud, driver: EbsDriver, cluster: str
) -> None:
    assert str(await driver.absence("db")) == (
        f"cluster '{cluster}' has no such volume. "
        "Check VOLPLUG_CLUSTER, or create it: docker volume create -d volplug db."
    )
    assert cloud.calls.counts() == {}, "nothing remote is asked"


# Creating


@pytest.mark.parametrize("ends", ["error", "gone"])
async def test_key_that_ec2_may_not_use_is_named(cloud: Ec2Cloud, driver: EbsDriver, ends: str) -> None:
    """EC2 takes the call and finds out later."""
    key = "arn:aws:kms:eu-central-1:123456789012:key/0123"
    cloud.set_plan(bad_kms_keys=frozenset({key}), creation_ends=ends, creating=Slow(looks=1))
    with pytest.raises(UnexpectedState, match="KMS key"):
        await driver.create(spec_of(kms_key_id=key))
    assert (await driver.get("v") is None) == (ends == "gone")


async def test_name_of_a_volume_that_another_host_deleted_can_be_used(
    cloud: Ec2Cloud, driver: EbsDriver, other: EbsDriver, volume: Volume
) -> None:
    """Its token is burnt, which this host has to find out."""
    await driver.delete(volume)
    again = await other.create(replace(volume.spec, fs_type="xfs"))
    assert again.volume_id != volume.volume_id
    assert await other.list() == [again]


async def test_two_hosts_that_disagree_on_a_name_make_one_volume(driver: EbsDriver, other: EbsDriver) -> None:
    specs = spec_of(), replace(spec_of(), fs_type="xfs")
    made = await asyncio.gather(driver.create(specs[0]), other.create(specs[1]), return_exceptions=True)
    volumes = [each for each in made if isinstance(each, Volume)]
    assert [type(each) for each in made if each not in volumes] == [VolumeExists]
    assert await driver.list() == volumes
