"""What `diagnose` finds on a simulated EC2."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.drivers.ebs.clouds import Site, settings_of, spec_of
from tests.ec2sim import Slow
from tests.ec2sim.facts import NewVolume
from tests.pages import ROOT
from volplug.drivers.base import BackendConfig
from volplug.drivers.ebs import EbsDriver
from volplug.drivers.ebs.diagnosis import STATEMENTS
from volplug.drivers.ebs.driver import build
from volplug.drivers.ebs.tags import as_list, as_mapping, tags_of
from volplug.findings import Finding, Level
from volplug.models import FilesystemPhase, FilesystemTag
from volplug.testing.conformance.calls import problem_of

pytestmark = pytest.mark.ebs

RED, YELLOW, GREEN = Level.RED, Level.YELLOW, Level.GREEN
FORMATTED = FilesystemTag(FilesystemPhase.FORMATTED, "ext4", "0c6f6d3c-9a0b-4f0e-8a4e-111122223333")
NEVER = Slow(looks=10**6)
LATE_S = 200.0  # longer than any transition may last, and less than EC2 refuses
HERE, OTHER = "i-0000000000000000a", "i-0000000000000000b"
CHECKS = [
    *("metadata-service", "credentials", "identity", "permissions"),
    *("transitions", "duplicates", "volume-errors", "clock-skew"),
]


def tagged(name: str, **more: str) -> dict[str, str]:
    return {**as_mapping({"Tags": tags_of(spec_of(name), "test", {})}), **more}


def of(findings: list[Finding], check: str) -> list[Finding]:
    return [each for each in findings if each.check == check]


async def diagnosed(driver: EbsDriver) -> list[Finding]:
    """Diagnose; whatever is found is well-formed."""
    found = list(await driver.diagnose())
    assert [each for each in found if problem_of(each)] == []
    return found


class World:
    """The cloud of one case, and a driver on one of its instances."""

    def __init__(self, site: Site, driver: EbsDriver) -> None:
        self.cloud, self.ec2, self.driver = site.cloud, site.ec2, driver

    def add(self, name: str = "db", **tags: str) -> str:
        return self.cloud.add_volumes([NewVolume(tagged(name, **tags))])[0]

    async def attach(self, volume_id: str, instance_id: str = HERE) -> str:
        await self.ec2.call("AttachVolume", VolumeId=volume_id, InstanceId=instance_id, Device="/dev/sdf")
        return volume_id

    async def attach_stuck(self) -> None:
        volume_id = self.add()
        self.cloud.set_plan(stuck_volumes=frozenset({volume_id}))
        await self.attach(volume_id)

    async def detach_stuck(self, **more: object) -> None:
        volume_id = await self.attach(self.add(), OTHER)
        await self.ec2.call("DescribeVolumes")
        self.cloud.set_plan(detaching=NEVER)
        await self.ec2.call("DetachVolume", VolumeId=volume_id)

    async def create(self, tags: Mapping[str, str] = MappingProxyType({}), **plan: object) -> None:
        self.cloud.set_plan(**plan)
        of_volume = [{"ResourceType": "volume", "Tags": as_list(tagged("db", **tags))}]
        await self.ec2.call(
            "CreateVolume",
            AvailabilityZone="eu-central-1a",
            Size=4,
            TagSpecifications=of_volume,
            ClientToken="t",
        )
        await self.ec2.call("DescribeVolumes")

    async def late(self, arranged: Awaitable[object]) -> None:
        """Let time pass in the cloud after something was arranged."""
        await arranged
        self.cloud.set_plan(clock_ahead_s=LATE_S)

    async def plan(self, **changes: object) -> None:
        self.cloud.set_plan(**changes)

    async def set_state(self, state: str) -> None:
        self.cloud.set_instance_state(HERE, state)


@pytest.fixture
def world(sites: list[Site], on_a: EbsDriver) -> World:
    return World(sites[0], on_a)


async def test_all_is_well_and_nothing_is_changed(world: World) -> None:
    """With a volume in use and an idle one every action is tried."""
    world.add("idle", **{"volplug:fs": "ext4", "volplug:fs-uuid": FORMATTED.uuid})
    await world.attach(world.add("used"))
    before = world.cloud.volumes()
    world.cloud.calls.reset()
    found = await diagnosed(world.driver)
    assert [(each.check, each.level) for each in found] == [(check, GREEN) for check in CHECKS]
    texts = {each.check: each.message for each in found}
    assert f"this host is {HERE} in eu-central-1a: EC2 says it is running" in texts["identity"]
    assert "from volplug's settings" in texts["credentials"]
    assert "not checked, as" not in texts["permissions"]
    assert world.cloud.volumes() == before
    tried = {each.action for each in world.cloud.calls.log() if each.outcome == "DryRunOperation"}
    assert tried == STATEMENTS.keys()


async def test_what_no_volume_suits_is_said_to_be_unchecked(world: World) -> None:
    (found,) = of(await diagnosed(world.driver), "permissions")
    unchecked = "ec2:CreateTags, ec2:AttachVolume, ec2:DetachVolume, ec2:DeleteVolume"
    assert f"not checked, as no volume is in a state that suits: {unchecked};" in found.message
    assert found.level is GREEN


async def test_a_few_calls_are_enough_for_many_volumes(world: World) -> None:
    world.cloud.add_volumes(NewVolume(tagged(f"v{number}")) for number in range(300))
    await diagnosed(world.driver)
    assert world.cloud.calls.counts().total() <= len(STATEMENTS) + 3


@pytest.mark.parametrize("action", STATEMENTS)
async def test_a_missing_permission_is_named_with_its_place_in_the_policy(world: World, action: str) -> None:
    world.add("idle", **{"volplug:fs": "ext4", "volplug:fs-uuid": FORMATTED.uuid})
    await world.attach(world.add("used"), OTHER)
    world.cloud.set_plan(denied=frozenset({action}))
    (found,) = of(await diagnosed(world.driver), "permissions")
    assert (found.level, found.subject) == (RED, "ebs")
    assert found.message.startswith(f"EC2 denied {action}: UnauthorizedOperation")
    assert found.remedy.startswith(
        f"Allow ec2:{action} in the IAM policy of this host; docs/drivers/ebs.md has it"
    )
    policy = (ROOT / "docs/drivers/ebs.md").read_text()
    quoted = re.findall(r'"(?:Action|aws:TagKeys|ec2:CreateAction)": (?:\[.*?\]|".*?")', found.remedy)
    assert quoted
    assert [line for line in quoted if line not in policy] == []


@pytest.mark.parametrize(
    ("ignored", "tried"),
    [
        (frozenset(STATEMENTS), {"DescribeInstances", "DescribeInstanceStatus", "DescribeVolumes"}),
        (frozenset({"DeleteVolume", "DetachVolume", "CreateTags"}), set(STATEMENTS)),
    ],
)
async def test_an_endpoint_that_ignores_dry_runs_loses_nothing(
    world: World, ignored: frozenset[str], tried: set[str]
) -> None:
    world.add("idle", **{"volplug:fs": "ext4", "volplug:fs-uuid": FORMATTED.uuid})
    await world.attach(world.add("used"))
    before = {each.volume_id: each for each in world.cloud.volumes()}
    world.cloud.set_plan(dry_runs_ignored=ignored)
    world.cloud.calls.reset()
    found = of(await diagnosed(world.driver), "permissions")
    assert {each.level for each in found} == {YELLOW}
    assert len(found) == len(ignored & tried)
    assert {each.volume_id: each for each in world.cloud.volumes()} == before
    assert {each.action for each in world.cloud.calls.log()} == tried


Arrange = Callable[[World], Awaitable[object]]
# What is arranged, and the findings of one check of what it is: level, subject, message and remedy.
CASES: dict[str, tuple[Arrange, str, Level, str, str, str]] = {
    "a volume that is created for too long": (
        lambda w: w.late(w.create(creating=NEVER)),
        "transitions",
        *(RED, "db", r"vol-\w+ is creating, for \d+ s"),
        r"Nothing is on it yet, delete it: aws ec2 delete-volume --volume-id vol-\w+",
    ),
    "a volume that is being created": (
        lambda w: w.create(creating=NEVER),
        "transitions",
        *(GREEN, "ebs", "no volume is stuck in a transition among the 1 of cluster 'test'", ""),
    ),
    "an attach that is stuck": (
        lambda w: w.late(w.attach_stuck()),
        "transitions",
        *(RED, "db", rf"vol-\w+ is attaching at {HERE}, for \d+ s"),
        rf"aws ec2 detach-volume --volume-id vol-\w+ --instance-id {HERE}, then start .*",
    ),
    "a detach, which may be stuck": (
        lambda w: w.detach_stuck(),
        "transitions",
        *(YELLOW, "db", rf"vol-\w+ is detaching at {OTHER}; EC2 does not tell for how long"),
        rf"If it is still so in 10 s: Stop what uses it on {OTHER}; else aws ec2 stop-instances"
        rf" --instance-ids {OTHER}, and once it has stopped aws ec2 detach-volume --volume-id vol-\w+"
        rf" --instance-id {OTHER} --force",
    ),
    "a creation that has failed": (
        lambda w: w.create(creation_ends="error"),
        "volume-errors",
        *(RED, "db", r"vol-\w+: EC2 could not create the volume"),
        r"Nothing is on it yet: aws ec2 delete-volume --volume-id vol-\w+, then create it again",
    ),
    "a volume whose hardware has failed": (
        lambda w: w.create(
            creation_ends="error", tags={"volplug:fs": "ext4", "volplug:fs-uuid": FORMATTED.uuid}
        ),
        "volume-errors",
        *(RED, "db", r"vol-\w+: EC2 reports that its hardware has failed, and its data is lost"),
        "Restore it from a snapshot: docs/operations.md, Restore an EBS volume",
    ),
    "tags that cannot be read": (
        lambda w: _done(w.add(**{"volplug:spec": "x"})),
        "volume-errors",
        *(RED, "db", r"vol-\w+: the volume's tag volplug:spec cannot be read .*"),
        r"Correct its tags, aws ec2 describe-tags --filters Name=resource-id,Values=vol-\w+ shows them; .*",
    ),
    "two volumes of one name": (
        lambda w: _done(w.add(), w.add()),
        "duplicates",
        *(RED, "db", r"2 volumes carry this name: vol-\w+ \(available, never formatted, of .*\), vol-\w+ .*"),
        "Delete the one without your data: aws ec2 delete-volume --volume-id ID; or rename one: aws ec2"
        " create-tags --resources ID --tags Key=volplug:name,Value=OTHER-NAME",
    ),
    "two volumes of one name, one of which is blank": (
        lambda w: _done(w.add(), w.add(**{"volplug:fs": "xfs", "volplug:fs-uuid": FORMATTED.uuid})),
        "duplicates",
        *(RED, "db", r"2 volumes carry this name: .*\(available, formatted, .*"),
        r"Delete the one without your data: aws ec2 delete-volume --volume-id vol-\w+; .*",
    ),
    "a clock that is two minutes slow": (
        lambda w: w.plan(clock_ahead_s=120),
        "clock-skew",
        *(
            YELLOW,
            "ebs",
            r"this host's clock is 1[12]\d s behind that of EC2, which refuses calls from 300 s on",
        ),
        "Synchronise it: timedatectl set-ntp true",
    ),
    "a clock that is ten minutes fast": (
        lambda w: w.plan(clock_ahead_s=-600),
        "clock-skew",
        *(
            RED,
            "ebs",
            r"this host's clock is 60\d s ahead of that of EC2, which refuses .*",
            "Synchronise it: .*",
        ),
    ),
    "a clock for which EC2 accepts no signature": (
        lambda w: w.plan(clock_ahead_s=600),
        "credentials",
        *(RED, "ebs", "EC2 denied DescribeVolumes: AuthFailure: .*", "Check access key and secret, .*"),
    ),
    "an instance that fails its checks": (
        lambda w: w.plan(impaired_instances=frozenset({HERE})),
        "identity",
        *(YELLOW, "ebs", f"{HERE} in eu-central-1a: EC2 says it is running and fails its status checks"),
        f"See aws ec2 describe-instance-status --include-all-instances --instance-ids {HERE}",
    ),
    "an instance that cannot be this one": (
        lambda w: w.set_state("stopped"),
        "identity",
        *(RED, "ebs", f"this host takes itself for {HERE} in eu-central-1a, which does not run: .* stopped"),
        "Check which it is: aws ec2 describe-instance-status .*",
    ),
    "an instance that may not be asked about": (
        lambda w: w.plan(denied=frozenset({"DescribeInstances"})),
        "identity",
        *(
            RED,
            "ebs",
            f"{HERE} in .*: EC2 does not say how instance {HERE} is: EC2 denied .*",
            "See aws ec2 .*",
        ),
    ),
    "an EC2 that does not answer": (
        lambda w: w.plan(error_rate=1.0),
        "volumes",
        *(RED, "ebs", "EC2 did not answer DescribeVolumes: .*", "See the log of volplug, .*"),
    ),
}


async def _done(*_: object) -> None:
    pass


@pytest.mark.parametrize("case", CASES)
async def test_what_is_wrong_is_found_with_its_remedy(world: World, case: str) -> None:
    arrange, check, level, subject, message, remedy = CASES[case]
    await arrange(world)
    (found,) = of(await diagnosed(world.driver), check)
    assert (found.level, found.subject) == (level, subject)
    assert re.fullmatch(message, found.message), found.message
    assert re.fullmatch(remedy, found.remedy), found.remedy


def test_each_check_of_volumes_clock_and_identity_has_a_case() -> None:
    wrong = {check for _, check, level, *_ in CASES.values() if level is not GREEN}
    assert wrong | {"permissions", "metadata-service", "volumes"} == {*CHECKS, "volumes"}


SETTINGS: dict[str, tuple[dict[str, object], str, Level, str, str]] = {
    "the role of the instance": (
        {"access_key": "", "secret_key": "", "session_token": ""},
        "credentials",
        *(GREEN, r"EC2 accepts the key ASIA\w+, from the role of the instance", ""),
    ),
    "no credentials": (
        {"access_key": "", "secret_key": "", "session_token": "", "imds_endpoint": "http://127.0.0.1:1"},
        "credentials",
        *(RED, "there are no credentials for EC2: none are found", "Give the instance a role, or set .*"),
    ),
    "credentials that are not accepted": (
        {"session_token": "WrongSessionToken1"},
        "credentials",
        *(RED, "EC2 denied DescribeVolumes: AuthFailure: .*", "Check access key and secret, .*"),
    ),
    "no metadata service, but all is known without it": (
        {"imds_endpoint": "http://127.0.0.1:1", "availability_zone": "eu-central-1a"},
        "metadata-service",
        *(
            YELLOW,
            "the instance metadata service at .* does not tell this host's instance-id: Connection refused",
        ),
        ".*: aws ec2 modify-instance-metadata-options --instance-id INSTANCE --http-endpoint enabled"
        " --http-put-response-hop-limit 2",
    ),
    "no metadata service, which is needed": (
        {"imds_endpoint": "http://127.0.0.1:1"},
        "identity",
        *(
            RED,
            "the instance metadata service at .* does not tell this host's placement/availability-zone: .*",
        ),
        "Enable the service, or set region and availability_zone",
    ),
}


@pytest.mark.parametrize("case", SETTINGS)
async def test_what_is_wrong_with_credentials_or_metadata_is_found(
    world: World, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "1")
    more, check, level, message, remedy = SETTINGS[case]
    asset = tmp_path / "sys/devices/virtual/dmi/id/board_asset_tag"
    asset.parent.mkdir(parents=True)
    asset.write_text(HERE)
    table = settings_of(world.cloud, world.cloud.instances()[0], sys_root=str(tmp_path / "sys"))
    driver = build(BackendConfig("ebs", "unused", "test", tmp_path, {**table, "dev_root": "/dev", **more}))
    (found,) = of(await diagnosed(driver), check)
    assert found.level is level
    assert re.fullmatch(message, found.message), found.message
    assert re.fullmatch(remedy, found.remedy), found.remedy
