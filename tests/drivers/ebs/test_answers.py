"""What EC2 refuses or never finishes, and what the driver makes of it; EC2 answers by a script."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.ebs.clouds import SIZE, spec_of
from tests.drivers.ebs.scripted import DONE, Answer, Parts, Script, described, parts_of, shown
from tests.drivers.ebs.turns import pass_time, turns_until
from tests.host.sysfs_tree import Tree
from volplug.drivers.ebs.errors import Ec2Refused
from volplug.drivers.ebs.instance import Identity
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.errors import (
    BackendError,
    DeviceNotFound,
    HostError,
    OperationTimeout,
    UnexpectedState,
    VolplugError,
    VolumeExists,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.models import Volume, VolumeState

pytestmark = pytest.mark.ebs

NODE = Identity("i-here", "", "eu-central-1")
VOLUME = Volume("v", "vol-1", "ebs", SIZE, VolumeState.AVAILABLE, spec_of())
PERSISTENT = Ec2Timeouts(
    quiet_s=0, poll_first_s=0.001, poll_longest_s=0.001, attach_requests=2, attach_tries=1, delete_requests=3
)
"""Waits for what comes."""

HASTY = replace(
    PERSISTENT,
    attaching_s=0.01,
    transition_s=0.01,
    detach_s=0.01,
    create_s=0.01,
    search_s=0.01,
)
"""Waits for nothing, where nothing comes."""

FREE = described("v")
CREATING = described("v", State="creating")
DELETING = described("v", State="deleting")
BROKEN = described("v", State="error")


def attached(state: str, instance_id: str = "i-here") -> dict[str, Any]:
    attachment = {"State": state, "InstanceId": instance_id, "Device": "/dev/sdf"}
    return described("v", State="in-use", Attachments=[attachment])


def no(code: str, message: str = "no", *, was_repeated: bool = False) -> Ec2Refused:
    return Ec2Refused("AnyAction", code, message, was_repeated=was_repeated)


NOT_FOUND = no("InvalidVolume.NotFound")


@pytest.fixture
def host(tmp_path: Path) -> Tree:
    """A host with one disk, which is no volume's."""
    tree = Tree(tmp_path)
    (tree.sys / "block" / "sda").mkdir()
    return tree


def keep_disk(host: Tree) -> None:
    """Let the host show the volume's disk as one that is about to go: it has no size any more."""
    host.add("nvme1n1", 0, serial="vol1", has_node=False)


def parts(host: Tree, limits: Ec2Timeouts, looks: list[dict[str, Any]], **answers: list[Answer]) -> Parts:
    described: list[Answer] = [shown(*filter(None, [look])) for look in looks]
    return parts_of(Script(DescribeVolumes=described, **answers), host.sys.parent, limits)


def made(of: Parts, action: str) -> int:
    return len(of.script.made(action))


# Attaching


@pytest.mark.parametrize(
    ("code", "look", "error", "words"),
    [
        ("IncorrectState", DELETING, VolumeNotFound, "vol-1 does not exist"),
        ("IncorrectState", BROKEN, UnexpectedState, "vol-1: EC2 could not create the volume"),
        ("IncorrectState", CREATING, UnexpectedState, "vol-1 is still creating"),
        (
            "VolumeInUse",
            attached("detaching", "i-other"),
            VolumeInUse,
            r"vol-1 is still detaching after .* on i-other",
        ),
        (
            "VolumeInUse",
            attached("attached", "i-other"),
            VolumeInUse,
            "vol-1 is attached to i-other",
        ),
    ],
)
async def test_refused_attach_is_explained_by_a_look(
    host: Tree, code: str, look: dict[str, Any], error: type[VolplugError], words: str
) -> None:
    of = parts(host, HASTY, [look], AttachVolume=[no(code)])
    with pytest.raises(error, match=words) as refused:
        await of.attachments.attach(VOLUME, NODE)
    assert getattr(refused.value, "holder", None) == ("i-other" if "i-other" in words else None)


async def test_every_name_is_tried_once_and_not_for_ever(host: Tree) -> None:
    of = parts(host, HASTY, [FREE], AttachVolume=[no("InvalidDevice.InUse")])
    with pytest.raises(BackendError):
        await of.attachments.attach(VOLUME, NODE)
    first, second = (each["Device"] for each in of.script.made("AttachVolume"))
    assert first != second


@pytest.mark.parametrize(("is_seen", "tries"), [(True, 2), (False, 1)])
async def test_new_volume_that_attach_does_not_know_is_asked_for_once_it_shows(
    host: Tree, is_seen: bool, tries: int
) -> None:
    of = parts(
        host,
        PERSISTENT if is_seen else HASTY,
        [{}, {}, FREE] if is_seen else [{}],
        AttachVolume=[NOT_FOUND, no("OperationNotPermitted")],
    )
    of.volumes.own.created(VOLUME)
    with pytest.raises(BackendError if is_seen else VolumeNotFound):
        await of.attachments.attach(VOLUME, NODE)
    assert made(of, "AttachVolume") == tries


@pytest.mark.parametrize(
    ("taken_back", "error"),
    [
        (DONE, DeviceNotFound),
        (no("IncorrectState"), DeviceNotFound),  # EC2 has given it up itself
        (no("OperationNotPermitted"), BackendError),
    ],
)
async def test_attach_that_leads_nowhere_is_taken_back(
    host: Tree, taken_back: Answer, error: type[VolplugError]
) -> None:
    of = parts(host, HASTY, [FREE], AttachVolume=[DONE], DetachVolume=[taken_back])
    with pytest.raises(error):
        await of.attachments.attach(VOLUME, NODE)
    assert made(of, "DetachVolume") == 1


# Detaching


async def test_disk_that_stays_after_its_detach_is_reported(host: Tree) -> None:
    keep_disk(host)
    of = parts(host, HASTY, [FREE], DetachVolume=[DONE])
    with pytest.raises(HostError, match=r"disk of vol-1 is still there .* which EC2 calls available"):
        await of.attachments.detach(VOLUME, NODE)


@pytest.mark.parametrize(
    ("look", "error", "words"),
    [
        ({}, VolumeNotFound, "vol-1 does not exist"),
        (DELETING, VolumeNotFound, "vol-1 does not exist"),
        (attached("detaching"), VolumeInUse, "vol-1 is still being detached from i-here"),
    ],
)
async def test_volume_that_this_host_does_not_show_is_detached_by_what_ec2_says(
    host: Tree, look: dict[str, Any], error: type[VolplugError], words: str
) -> None:
    of = parts(host, HASTY, [look], DetachVolume=[no("IncorrectState")])
    with pytest.raises(error, match=words):
        await of.attachments.detach(VOLUME, NODE)


# Deleting


@pytest.mark.parametrize(
    ("code", "look", "error", "tries"),
    [
        ("OperationNotPermitted", FREE, BackendError, 1),
        ("IncorrectState", FREE, UnexpectedState, 3),
        ("IncorrectState", CREATING, VolumeInUse, 1),
        ("VolumeInUse", attached("detaching", "i-other"), VolumeInUse, 1),
        ("VolumeInUse", attached("attached", "i-other"), VolumeInUse, 1),
    ],
)
async def test_refused_deletion_is_asked_again_only_where_it_may_help(
    host: Tree, code: str, look: dict[str, Any], error: type[VolplugError], tries: int
) -> None:
    of = parts(host, HASTY, [look], DeleteVolume=[no(code)])
    with pytest.raises(error):
        await of.deletion.delete(VOLUME)
    assert made(of, "DeleteVolume") == tries
    assert not of.volumes.own.is_deleted("vol-1")


@pytest.mark.parametrize(
    "refused",
    [no("IncorrectState"), no("InvalidVolume.NotFound", was_repeated=True)],
    ids=lambda each: each.code,
)
async def test_volume_that_is_being_deleted_already_is_deleted(host: Tree, refused: Ec2Refused) -> None:
    of = parts(host, HASTY, [DELETING], DeleteVolume=[refused])
    await of.deletion.delete(VOLUME)
    assert made(of, "DeleteVolume") == 1
    assert of.volumes.own.is_deleted("vol-1")


# Creating

KEY = "arn:aws:kms:eu-central-1:123456789012:key/0123"


async def created(of: Parts) -> Volume:
    await of.volumes.by_name("v")
    return await of.creation.create(spec_of(kms_key_id=KEY), "z")


async def test_new_volume_is_waited_for_although_ec2_shows_it_late(host: Tree) -> None:
    of = parts(host, PERSISTENT, [{}, {}, CREATING, FREE], CreateVolume=[CREATING])
    assert (await created(of)).state is VolumeState.AVAILABLE


@pytest.mark.parametrize("looks", [[{}], [{}, CREATING, {}], [{}, DELETING]])
async def test_new_volume_may_come_to_nothing(host: Tree, looks: list[dict[str, Any]]) -> None:
    """EC2 finds out late that it may not use the key; the volume goes as if it had never been there."""
    of = parts(host, PERSISTENT, looks, CreateVolume=[CREATING])
    with pytest.raises(UnexpectedState, match=f"EC2 gave up creating vol-1, .* KMS key {KEY}"):
        await created(of)
    assert await of.volumes.by_name("v") == []


async def test_new_volume_without_a_key_that_comes_to_nothing_blames_none(host: Tree) -> None:
    of = parts(host, PERSISTENT, [{}, CREATING, {}], CreateVolume=[CREATING])
    with pytest.raises(UnexpectedState) as given_up:
        await of.creation.create(spec_of(), "z")
    assert str(given_up.value) == "EC2 gave up creating vol-1. Try again."


async def test_new_volume_that_stays_creating_is_not_waited_for_for_ever(
    host: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = parts(host, PERSISTENT, [{}, CREATING], CreateVolume=[CREATING])
    creating = asyncio.create_task(created(of))
    await turns_until(lambda: made(of, "DescribeVolumes") > 2)  # the look before this one has been read
    pass_time(monkeypatch, PERSISTENT.create_s)
    with pytest.raises(OperationTimeout, match="EC2 is still creating vol-1"):
        await creating
    (shown,) = await of.volumes.by_name("v")
    assert shown.state is VolumeState.CREATING


async def test_volume_that_another_host_is_creating_is_found_behind_its_token(host: Tree) -> None:
    """The token came with other tags, which every host adds by its own settings."""
    mismatch = no("IdempotentParameterMismatch", "other parameters")
    of = parts(host, PERSISTENT, [{}, CREATING], CreateVolume=[mismatch])
    with pytest.raises(VolumeExists, match="vol-1 has this name"):
        await created(of)
    assert made(of, "CreateVolume") == 1


async def test_name_of_a_volume_deleted_here_is_created_with_the_next_token_at_once(host: Tree) -> None:
    other = described("v", "vol-2")
    looks = [{}, FREE, {}, other]
    of = parts(host, PERSISTENT, looks, CreateVolume=[FREE, other], DeleteVolume=[DONE])
    volume = await created(of)
    await of.deletion.delete(volume)
    of.creation.deleted(volume)
    assert (await created(of)).volume_id == "vol-2"
    first, second = (each["ClientToken"] for each in of.script.made("CreateVolume"))
    assert first != second
