"""The refusals of EC2, with its error texts."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode

import pytest
from botocore.exceptions import ClientError

from tests.ec2sim import Ec2Cloud, Slow
from tests.ec2sim.clients import Caller, caller, error_of
from tests.ec2sim.conftest import INSTANCE, OTHER
from tests.ec2sim.facts import REGION, ZONE

FAR = "i-0000000000000fa00"
NOWHERE = "vol-00000000000000000"


class World:
    """The cloud of one case, with volumes in different states."""

    def __init__(self, cloud: Ec2Cloud, ec2: Caller) -> None:
        self.cloud, self.ec2 = cloud, ec2
        cloud.add_instance(FAR, zone=f"{REGION}b")
        self.attached = ec2.made()
        ec2.attach(self.attached, INSTANCE, "/dev/sdf")
        self.free = ec2.made()

    def creating(self) -> str:
        """Return a volume that stays creating."""
        self.cloud.plan.creating = Slow(looks=10**6)
        return self.ec2.made()

    def deleting(self) -> str:
        """Return a volume that stays deleting."""
        self.cloud.plan.deleting = Slow(looks=10**6)
        self.ec2.delete(self.free)
        return self.free

    def attach_to(self, state: str) -> None:
        """Attach to an instance in a state."""
        self.cloud.set_instance_state(OTHER, state)
        self.ec2.attach(self.free, OTHER)

    def attach_too_many(self) -> None:
        """Attach one more than an instance takes."""
        self.cloud.add_instance("i-0000000000000111", attachment_limit=1)
        self.ec2.attach(self.ec2.made(), "i-0000000000000111", "/dev/sdf")
        self.ec2.attach(self.ec2.made(), "i-0000000000000111", "/dev/sdg")


Case = tuple[Callable[[World], object], str, str]
MISMATCH = "The volume '{free}' is not in the same availability zone as instance '{far}'"
CASES: dict[str, Case] = {
    "attach what is attached": (
        lambda w: w.ec2.attach(w.attached, OTHER),
        "VolumeInUse",
        "{attached} is already attached to an instance",
    ),
    "attach what is attached right there": (
        lambda w: w.ec2.attach(w.attached, INSTANCE, "/dev/sdg"),
        "VolumeInUse",
        "{attached} is already attached to an instance",
    ),
    "attach in another zone": (lambda w: w.ec2.attach(w.free, FAR), "InvalidVolume.ZoneMismatch", MISMATCH),
    "attach what is not there": (
        lambda w: w.ec2.attach(NOWHERE, INSTANCE),
        "InvalidVolume.NotFound",
        "The volume '{nowhere}' does not exist.",
    ),
    "attach to an unknown instance": (
        lambda w: w.ec2.attach(w.free, "i-00000000000000000"),
        "InvalidInstanceID.NotFound",
        "The instance ID 'i-00000000000000000' does not exist",
    ),
    "attach what is creating": (
        lambda w: w.ec2.attach(w.creating(), INSTANCE, "/dev/sdg"),
        "IncorrectState",
        "is not 'available'.",
    ),
    "attach what is deleting": (
        lambda w: w.ec2.attach(w.deleting(), INSTANCE, "/dev/sdg"),
        "IncorrectState",
        "is not 'available'.",
    ),
    "attach to an instance that stops": (
        lambda w: w.attach_to("stopping"),
        "IncorrectState",
        f"Instance '{OTHER}' is not 'running'.",
    ),
    "attach to an instance that has ended": (
        lambda w: w.attach_to("terminated"),
        "IncorrectState",
        f"Instance '{OTHER}' is not 'running'.",
    ),
    "attach by a name that is taken": (
        lambda w: w.ec2.attach(w.free, INSTANCE, "/dev/xvdf"),
        "InvalidParameterValue",
        "Invalid value '/dev/xvdf' for unixDevice. Attachment point /dev/xvdf is already in use",
    ),
    "attach by the root's name": (
        lambda w: w.ec2.attach(w.free, INSTANCE, "/dev/sda1"),
        "InvalidParameterValue",
        "Attachment point /dev/sda1 is already in use",
    ),
    "attach by a name that cannot be": (
        lambda w: w.ec2.attach(w.free, INSTANCE, "/dev/nvme1n1"),
        "InvalidParameterValue",
        "/dev/nvme1n1 is not a valid EBS device name.",
    ),
    "attach too many": (
        lambda w: w.attach_too_many(),
        "AttachmentLimitExceeded",
        "You may attach up to 1 devices for this instance type.",
    ),
    "detach what is not attached": (
        lambda w: w.ec2.detach(w.free),
        "IncorrectState",
        "Volume '{free}' is in the 'available' state.",
    ),
    "detach from where it is not": (
        lambda w: w.ec2.detach(w.attached, InstanceId=OTHER),
        "InvalidAttachment.NotFound",
        "Volume '{attached}' is not attached to instance",
    ),
    "detach what is not there": (
        lambda w: w.ec2.detach(NOWHERE),
        "InvalidVolume.NotFound",
        "The volume '{nowhere}' does not exist.",
    ),
    "delete what is attached": (
        lambda w: w.ec2.delete(w.attached),
        "VolumeInUse",
        "Volume {attached} is currently attached to " + INSTANCE,
    ),
    "delete what is deleting": (
        lambda w: w.ec2.delete(w.deleting()),
        "InvalidVolume.NotFound",
        "The volume '{free}' does not exist.",
    ),
    "describe what is no id": (
        lambda w: w.ec2.described("volume"),
        "InvalidParameterValue",
        'Invalid id: "volume" (expecting "vol-...")',
    ),
    "describe what is not there": (
        lambda w: w.ec2.client.describe_volumes(VolumeIds=[w.free, NOWHERE]),
        "InvalidVolume.NotFound",
        "The volume '{nowhere}' does not exist.",
    ),
    "create in no zone": (
        lambda w: w.ec2.made(AvailabilityZone="eu-central-1z"),
        "InvalidZone.NotFound",
        "The zone 'eu-central-1z' does not exist.",
    ),
    "create without what its type needs": (
        lambda w: w.ec2.made(VolumeType="io2", Size=4),
        "InvalidParameterCombination",
        "The parameter iops must be specified for io2 volumes.",
    ),
    "ask for what is not served": (
        lambda w: w.ec2.client.describe_vpcs(),
        "InvalidAction",
        "The action DescribeVpcs is not valid for this web service.",
    ),
    "tag what is not there": (
        lambda w: w.ec2.tag(NOWHERE, a="b"),
        "InvalidVolume.NotFound",
        "The volume '{nowhere}' does not exist.",
    ),
    "tag with a key of AWS's own": (
        lambda w: w.ec2.tag(w.free, **{"aws:a": "b"}),
        "InvalidParameterValue",
        "Tag key 'aws:a' is invalid",
    ),
    "tag what is no volume": (
        lambda w: w.ec2.tag("vpc-00000000", a="b"),
        "InvalidParameterValue",
        'Invalid id: "vpc-00000000" (expecting "vol-...")',
    ),
    "describe several that are not there": (
        lambda w: w.ec2.client.describe_volumes(VolumeIds=[NOWHERE, NOWHERE[:-1] + "1"]),
        "InvalidVolume.NotFound",
        "The volume '{nowhere}, vol-00000000000000001' does not exist.",
    ),
    "describe what is no volume": (
        lambda w: w.ec2.client.describe_volumes(VolumeIds=[INSTANCE]),
        "InvalidParameterValue",
        f'Invalid id: "{INSTANCE}" (expecting "vol-...")',
    ),
    "delete what is no volume": (
        lambda w: w.ec2.delete(INSTANCE),
        "InvalidParameterValue",
        f'Invalid id: "{INSTANCE}" (expecting "vol-...")',
    ),
    "tag with too long a value": (
        lambda w: w.ec2.tag(w.free, a="x" * 257),
        "InvalidParameterValue",
        "maximum length of 256",
    ),
    "tag too often": (
        lambda w: w.ec2.tag(w.free, **{f"k{n}": "" for n in range(51)}),
        "TagLimitExceeded",
        "More than 50 tags",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_with_the_error_of_ec2_and_changes_nothing(
    cloud: Ec2Cloud, ec2: Caller, case: str
) -> None:
    act, code, text = CASES[case]
    world = World(cloud, ec2)
    before = {each.volume_id: each for each in cloud.volumes()}
    with pytest.raises(ClientError) as caught:
        act(world)
    names = {"free": world.free, "attached": world.attached, "far": FAR, "nowhere": NOWHERE}
    said = error_of(caught.value)
    assert (said[0], said[2]) == (code, 400)
    assert text.format(**names) in said[1]
    if "deleting" not in case:
        assert {each.volume_id: each for each in cloud.volumes()}.items() >= before.items()


def test_a_stopped_instance_takes_volumes(cloud: Ec2Cloud, ec2: Caller) -> None:
    cloud.set_instance_state(INSTANCE, "stopped")
    assert ec2.attach(ec2.made(), INSTANCE) == "attaching"


def test_denied_actions_name_the_permission(cloud: Ec2Cloud, ec2: Caller) -> None:
    cloud.plan.denied = frozenset({"CreateVolume"})
    with pytest.raises(ClientError) as caught:
        ec2.made()
    code, text, status = error_of(caught.value)
    assert (code, status) == ("UnauthorizedOperation", 403)
    assert "is not authorized to perform: ec2:CreateVolume" in text
    assert "Encoded authorization failure message: " in text
    assert cloud.volumes() == []
    assert cloud.calls.log()[0].outcome == "UnauthorizedOperation"


@pytest.mark.parametrize(
    ("denied", "answer"),
    [(set(), ("DryRunOperation", 412)), ({"DeleteVolume"}, ("UnauthorizedOperation", 403))],
)
def test_a_dry_run_tells_what_is_permitted_and_does_nothing(
    cloud: Ec2Cloud, ec2: Caller, denied: set[str], answer: tuple[str, int]
) -> None:
    volume_id = ec2.made()
    cloud.plan.denied = frozenset(denied)
    with pytest.raises(ClientError) as caught:
        ec2.client.delete_volume(VolumeId=volume_id, DryRun=True)
    assert error_of(caught.value)[::2] == answer
    assert [each.volume_id for each in cloud.volumes()] == [volume_id]


def test_a_clock_of_its_own_is_shown_and_no_signature_older_than_five_minutes_accepted(
    cloud: Ec2Cloud, ec2: Caller
) -> None:
    cloud.plan.clock_ahead_s = 200.0
    shown = ec2.client.describe_volumes()["ResponseMetadata"]["HTTPHeaders"]["date"]
    assert 190 < parsedate_to_datetime(shown).timestamp() - time.time() <= 200
    cloud.plan.clock_ahead_s = -301.0
    with pytest.raises(ClientError) as caught:
        ec2.client.describe_volumes()
    assert error_of(caught.value)[::2] == ("AuthFailure", 401)


def test_credentials_for_another_region_are_refused(cloud: Ec2Cloud) -> None:
    with caller(cloud.endpoint, region="us-east-1") as elsewhere, pytest.raises(ClientError) as caught:
        elsewhere.made(AvailabilityZone=ZONE)
    assert error_of(caught.value)[::2] == ("AuthFailure", 401)


def _call(cloud: Ec2Cloud, **form: str) -> tuple[int, str]:
    """Make a call that the SDK would not make."""
    scope = f"AKIATEST/20260101/{REGION}/ec2/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}
    signed = headers if form.pop("signed", "") != "no" else {}
    request = urllib.request.Request(cloud.endpoint, urlencode(form).encode(), signed)  # noqa: S310 - the cloud's own
    with pytest.raises(urllib.error.HTTPError) as caught, urllib.request.urlopen(request, timeout=30):  # noqa: S310
        pass
    with caught.value as refused:
        return refused.code, refused.read().decode()


@pytest.mark.parametrize(
    ("form", "status", "said"),
    [
        ({"Action": "DeleteVolume"}, 400, "The request must contain the parameter volumeId"),
        (
            {"Action": "DescribeVolumes", "MaxResults": "many"},
            400,
            "Value (many) for parameter MaxResults is invalid. It has to be a number",
        ),
        ({"Action": "DescribeVolumes", "signed": "no"}, 401, "AuthFailure"),
        (
            {"Action": "CreateVolume", "AvailabilityZone": ZONE},
            400,
            "The request must contain the parameter size/snapshot",
        ),
    ],
)
def test_a_call_that_no_sdk_makes_is_refused(
    cloud: Ec2Cloud, form: dict[str, str], status: int, said: str
) -> None:
    answered, text = _call(cloud, **form)
    assert answered == status
    assert said in text


def test_tags_for_other_resource_types_are_ignored(ec2: Caller) -> None:
    tags = [{"Key": "a", "Value": "b"}]
    wanted = [{"ResourceType": kind, "Tags": tags} for kind in ("snapshot", "volume")]
    assert ec2.described(ec2.made(TagSpecifications=wanted))["Tags"] == tags
