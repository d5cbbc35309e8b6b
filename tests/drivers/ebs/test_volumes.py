"""What EC2 is asked, and how its answers are read; and what becomes of a name whose tokens are used up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.drivers.ebs.clouds import spec_of
from tests.drivers.ebs.scripted import Answer, Script, described, parts_of
from tests.drivers.ebs.turns import turns_until
from volplug.drivers.ebs.creation import token_of
from volplug.drivers.ebs.errors import Ec2Refused
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.drivers.ebs.volumes import ClusterVolumes, read_volume
from volplug.errors import BackendError, BackendUnavailable, VolumeExists

pytestmark = pytest.mark.ebs


def volumes_of(
    script: Script, cluster: str = "c", clock: Callable[[], float] = lambda: 0.0
) -> ClusterVolumes:
    return ClusterVolumes(script, cluster, "ebs", Ec2Timeouts(), clock)


async def test_concurrent_look_ups_are_one_call() -> None:
    script = Script(DescribeVolumes=[{"Volumes": [described("a"), described("b", "vol-2")]}])
    asked = volumes_of(script)
    found = await asyncio.gather(*(asked.by_name(name) for name in ("a", "b", "c", "a")))
    assert [[each.volume.volume_id for each in one] for one in found] == [["vol-1"], ["vol-2"], [], ["vol-1"]]
    (parameters,) = script.made("DescribeVolumes")
    filters = {each["Name"]: each["Values"] for each in parameters["Filters"]}
    assert filters["tag:volplug:name"] == ["a", "b", "c"]
    assert filters["tag:volplug:cluster"] == ["c"]
    assert "deleting" not in filters["status"]


def test_what_ec2_says_of_type_speed_encryption_and_zone_is_shown() -> None:
    more: dict[str, Any] = {
        "VolumeType": "gp3",
        "Iops": 3000,
        "Throughput": 125,
        "Encrypted": True,
        "KmsKeyId": "arn:aws:kms:eu-central-1:1:key/2",
        "AvailabilityZone": "eu-central-1b",
    }
    details = read_volume(described("a", **more), "ebs").volume.details
    assert details == (
        ("type", "gp3"),
        ("iops", 3000),
        ("throughput", 125),
        ("encrypted", True),
        ("kmsKey", "arn:aws:kms:eu-central-1:1:key/2"),
        ("zone", "eu-central-1b"),
    )
    assert read_volume(described("a", Encrypted=False, KmsKeyId=""), "ebs").volume.details == (
        ("encrypted", False),
    )


async def test_look_up_asked_while_another_runs_begins_after_it_was_asked() -> None:
    """Its answer would be older than the question."""
    script = Script(DescribeVolumes=[{"Volumes": []}, {"Volumes": [described("a")]}])
    asked = volumes_of(script)
    first = asyncio.ensure_future(asked.by_name("a"))
    await turns_until(lambda: script.calls)
    assert len(await asked.by_name("a")) == 1
    assert await first == []


async def test_failed_look_up_fails_for_all_its_callers_and_for_no_later_one() -> None:
    script = Script(DescribeVolumes=[BackendUnavailable("away"), {"Volumes": []}])
    asked = volumes_of(script)
    failed = await asyncio.gather(asked.by_name("a"), asked.by_name("b"), return_exceptions=True)
    assert [type(each) for each in failed] == [BackendUnavailable] * 2
    assert await asked.by_name("a") == []


async def test_cancelled_question_leaves_the_others_their_answer() -> None:
    asked = volumes_of(Script(DescribeVolumes=[{"Volumes": [described("a")]}]))
    waiting = [asyncio.ensure_future(asked.by_name("a")) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    assert len(await waiting[1]) == 1


async def test_pages_are_read_to_the_end_although_one_is_empty() -> None:
    pages: list[Answer] = [
        {"Volumes": [described("a")], "NextToken": "1"},
        {"Volumes": [], "NextToken": "2"},
        {"Volumes": [described("b", "vol-2")]},
    ]
    script = Script(DescribeVolumes=pages)
    assert [each.volume.name for each in await volumes_of(script).all()] == ["a", "b"]
    assert [call.get("NextToken") for call in script.made("DescribeVolumes")] == [None, "1", "2"]


@pytest.mark.parametrize("look_up", ["all", "by_name", "by_id"])
async def test_look_up_that_ec2_refuses_is_an_error_of_the_backend(look_up: str) -> None:
    """As by an endpoint that is not EC2's."""
    volumes = volumes_of(
        Script(DescribeVolumes=[Ec2Refused("DescribeVolumes", "InvalidAction", "no such action")])
    )
    with pytest.raises(BackendError, match="EC2 refused DescribeVolumes: InvalidAction: no such action"):
        await (volumes.all() if look_up == "all" else getattr(volumes, look_up)("vol-1"))


async def test_cluster_is_taken_literally() -> None:
    """In a filter `*` matches anything, which must not show another cluster."""
    script = Script(DescribeVolumes=[{"Volumes": [described("a", cluster="prod")]}])
    asked = volumes_of(script, "p*d")
    assert await asked.by_name("a") == []
    assert await asked.all() == []
    assert await asked.by_id("vol-1") is None
    assert script.made("DescribeVolumes")[0]["Filters"][0]["Values"] == [r"p\*d"]


async def test_absence_is_known_for_some_seconds_and_for_one_creation() -> None:
    now = 100.0
    script = Script(DescribeVolumes=[{"Volumes": []}])
    asked = volumes_of(script, clock=lambda: now)
    assert not asked.was_absent("a")
    await asked.by_name("a")
    now += 11
    assert not asked.was_absent("a")
    await asked.by_name("a")
    assert asked.was_absent("a")
    assert not asked.was_absent("a"), "the creation may have had its effect"


def test_volumes_seen_longest_ago_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those are asked for again when they are needed; age alone says nothing, for mounts last for weeks."""
    monkeypatch.setattr("volplug.drivers.cloud.timeouts.VOLUMES_KNOWN", 3)
    asked = volumes_of(Script())
    for number in (1, 2, 3, 1, 4):
        asked.read(described("v", f"vol-{number}"))
    assert [asked.is_known(f"vol-{number}") for number in (1, 2, 3, 4)] == [True, False, True, True]


# Tokens


def burnt() -> Ec2Refused:
    return Ec2Refused("CreateVolume", "IdempotentParameterMismatch", "other parameters")


def test_tokens_are_the_same_on_every_host_and_differ_for_everything_else() -> None:
    tokens = {token_of(*each) for each in (("c", "a", 0), ("c", "a", 1), ("c", "b", 0), ("ca", "", 0))}
    assert token_of("c", "a", 0) in tokens
    assert len(tokens) == 4
    assert {len(token) for token in tokens} == {64}


async def test_used_token_is_left_only_after_looking_for_five_seconds() -> None:
    nothing: list[Answer] = [{"Volumes": []}]
    looks = [*nothing * 7, {"Volumes": [described("a")]}]
    script = Script(DescribeVolumes=looks, CreateVolume=[burnt(), described("a")])
    of = parts_of(script, limits=Ec2Timeouts(poll_first_s=0.001, poll_longest_s=0.001))
    await of.volumes.by_name("a")
    assert (await of.creation.create(spec_of("a"), "z")).volume_id == "vol-1"
    assert sum(of.slept) == 5
    used = [call["ClientToken"] for call in script.made("CreateVolume")]
    assert used == [token_of("c", "a", 0), token_of("c", "a", 1)]


async def test_volume_that_shows_late_is_not_made_twice() -> None:
    nothing: list[Answer] = [{"Volumes": []}]
    late = [*nothing * 3, {"Volumes": [described("a")]}]
    script = Script(DescribeVolumes=late, CreateVolume=[burnt()])
    made = parts_of(script).creation
    with pytest.raises(VolumeExists, match="vol-1"):
        await made.create(spec_of("a"), "z")
    assert len(script.made("CreateVolume")) == 1
