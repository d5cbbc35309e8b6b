import pytest

from volplug.drivers.ebs.errors import Ec2Refused, translated
from volplug.errors import (
    BackendDenied,
    BackendError,
    BackendUnavailable,
    ConfigurationError,
    ErrorContext,
    InvalidOption,
    InvalidSize,
    LimitExceeded,
    UnexpectedState,
    VolplugError,
    VolumeInUse,
    VolumeNotFound,
)

# As AWS words it since 2023; the encoded part has some thousand characters.
NO_PERMISSION = (
    "You are not authorized to perform this operation. User: "
    "arn:aws:sts::123456789012:assumed-role/volplug/i-0123456789abcdef0 is not authorized to perform: "
    "ec2:CreateTags on resource: arn:aws:ec2:eu-central-1:123456789012:volume/* because no identity-based "
    "policy allows the ec2:CreateTags action. Encoded authorization failure message: " + "H8F0jDN9KPpy" * 200
)


@pytest.mark.parametrize(
    ("action", "code", "message", "error"),
    [
        ("AttachVolume", "InvalidVolume.NotFound", "The volume 'vol-1' does not exist.", VolumeNotFound),
        ("AttachVolume", "InvalidVolumeID.Malformed", "", VolumeNotFound),
        ("AttachVolume", "InvalidInstanceID.NotFound", "", ConfigurationError),
        ("AttachVolume", "VolumeInUse", "vol-1 is already attached to an instance", VolumeInUse),
        ("AttachVolume", "IncorrectState", "", UnexpectedState),
        ("AttachVolume", "AttachmentLimitExceeded", "", LimitExceeded),
        ("CreateVolume", "VolumeLimitExceeded", "", LimitExceeded),
        ("CreateVolume", "MaxIOPSLimitExceeded", "", LimitExceeded),
        ("CreateVolume", "InsufficientVolumeCapacity", "", LimitExceeded),
        (
            "CreateVolume",
            "InvalidParameterValue",
            "Volume of 5GiB is too small for volume type st1; minimum is 125GiB.",
            InvalidSize,
        ),
        (
            "CreateVolume",
            "InvalidParameterValue",
            "Volume iops of 90000 is too high; maximum is 80000.",
            InvalidOption,
        ),
        ("CreateVolume", "InvalidZone.NotFound", "The zone 'x' does not exist.", InvalidOption),
        ("CreateVolume", "InvalidSnapshot.NotFound", "", InvalidOption),
        ("CreateVolume", "UnknownVolumeType", "", InvalidOption),
        # Elsewhere the parameters are ours, not the user's.
        ("AttachVolume", "InvalidParameterValue", "Value (/dev/sdf) is already in use", BackendError),
        ("AttachVolume", "SomethingNew", "", BackendError),
        ("AttachVolume", "UnauthorizedOperation", "", BackendDenied),
        ("AttachVolume", "ExpiredToken", "", BackendDenied),
        ("AttachVolume", "RequestLimitExceeded", "", BackendUnavailable),
    ],
)
def test_a_refusal_is_translated(action: str, code: str, message: str, error: type[VolplugError]) -> None:
    said = translated(Ec2Refused(action, code, message))
    assert type(said) is error
    assert action in said.cause
    assert code in said.cause
    assert message.rstrip(".") in said.cause


def test_a_missing_permission_is_named_as_aws_names_it() -> None:
    denied = translated(Ec2Refused("CreateVolume", "UnauthorizedOperation", NO_PERMISSION))
    assert denied.remedy == "Allow ec2:CreateTags in the IAM policy of this host"
    assert "H8F0jDN9KPpy" not in denied.cause


def test_a_missing_permission_that_aws_does_not_name_is_that_of_the_action() -> None:
    message = "You are not authorized to perform this operation. Encoded authorization failure message: H8F0j"
    denied = translated(Ec2Refused("AttachVolume", "UnauthorizedOperation", message))
    assert denied.remedy.startswith("Allow ec2:AttachVolume in the IAM policy of this host")
    assert denied.cause == (
        "EC2 denied AttachVolume: UnauthorizedOperation: You are not authorized to perform this operation"
    )


def test_the_line_that_users_see_keeps_what_to_do() -> None:
    denied = translated(Ec2Refused("CreateVolume", "UnauthorizedOperation", NO_PERMISSION))
    denied.in_context(ErrorContext("cannot create volume", "todolist", "ebs", "", "i-0123456789abcdef0"))
    assert len(str(denied)) <= 300
    assert str(denied).endswith("Allow ec2:CreateTags in the IAM policy of this host.")
