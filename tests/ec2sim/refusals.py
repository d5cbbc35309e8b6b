"""The errors of EC2, as EC2 says them.

Codes: https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html. Texts are not documented; they
are those that people have quoted, at the address below github.com that each names. "Own words": none found.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error to be answered without any effect.

    Attributes:
        code: Such as InsufficientVolumeCapacity.
        message: As EC2 would say it.
        status: The HTTP status.
    """

    code: str
    message: str = "as planned"
    status: int = 400


class Refused(Exception):
    """An action was refused, without effect."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.code}: {refusal.message}")
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Words:
    """An error whose text has gaps; called with what fills them, it is the exception to raise."""

    code: str
    text: str
    status: int = 400

    def __call__(self, *said: object) -> Refused:
        return Refused(Refusal(self.code, self.text.format(*said), self.status))


# The service, whatever the action

# https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html
THROTTLED: Final = Refusal("RequestLimitExceeded", "Request limit exceeded.", 503)
INTERNAL_ERROR: Final = Refusal("InternalError", "An internal error has occurred", 500)
UNAVAILABLE: Final = Refusal("Unavailable", "The service is unavailable. Please try again shortly.", 503)
BAD_CREDENTIALS: Final = Words(  # unknown, or for another region
    "AuthFailure", "AWS was not able to validate the provided access credentials", 401
)
UNAUTHORIZED: Final = Words(  # the encoded message is what DecodeAuthorizationMessage takes
    "UnauthorizedOperation",
    "You are not authorized to perform this operation. User: "
    "arn:aws:sts::123456789012:assumed-role/volplug/{1} is not authorized to perform: ec2:{0} on resource: "
    "arn:aws:ec2:*:123456789012:* because no identity-based policy allows the ec2:{0} action. "
    "Encoded authorization failure message: " + "Zm9vYmFy" * 40,
    403,
)
# joshlarsen/aws-recon/issues/138
NO_ACTION: Final = Words("InvalidAction", "The action {} is not valid for this web service.")
# getmoto/moto/issues/1980
DRY_RUN: Final = Words("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)

# Parameters

MISSING: Final = Words("MissingParameter", "The request must contain the parameter {}")
BAD_VALUE: Final = Words("InvalidParameterValue", "Value ({1}) for parameter {0} is invalid. {2}")
BAD_ID: Final = Words("InvalidParameterValue", 'Invalid id: "{}" (expecting "vol-...")')
BAD_FILTER: Final = Words("InvalidParameterValue", "The filter '{}' is invalid")
BAD_TOKEN: Final = Words("InvalidPaginationToken", "The pagination token is not valid.")  # own words
# 200: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html; own words
TOO_MANY_FILTER_VALUES: Final = Words(
    "FilterLimitExceeded", "The maximum number of filter values specified on a single call is 200"
)
IDS_AND_PAGES: Final = Words(  # own words
    "InvalidParameterCombination", "The parameter volumeSet cannot be used with the parameter maxResults"
)
# rancher/rancher/issues/28146. Where iops are missing, EC2 has other words:
# kubernetes-sigs/aws-ebs-csi-driver/issues/766
NEEDS: Final = Words("InvalidParameterDependency", "The parameter {} requires the parameter {} to be set.")

# What is not there

# kubernetes-sigs/aws-ebs-csi-driver/issues/918
NO_VOLUME: Final = Words("InvalidVolume.NotFound", "The volume '{}' does not exist.")
NO_VOLUMES: Final = Words("InvalidVolume.NotFound", "The volumes '{}' do not exist.")  # own words
NO_INSTANCE: Final = Words("InvalidInstanceID.NotFound", "The instance ID '{}' does not exist")
NO_SNAPSHOT: Final = Words("InvalidSnapshot.NotFound", "Snapshot does not exist")  # kvnn/OrdControl/issues/13
NO_ZONE: Final = Words("InvalidZone.NotFound", "The zone '{}' does not exist.")

# CreateVolume and DeleteVolume; those of limits are own words

BAD_TYPE: Final = Words("InvalidParameterValue", "Value ({}) for parameter volumeType is invalid.")
NOT_OF_TYPE: Final = Words("InvalidParameterCombination", "The parameter {} is not supported for {} volumes.")
TOO_SMALL: Final = Words(
    "InvalidParameterValue", "Volume {} of {} is too small for volume type {}; minimum is {}."
)
TOO_LARGE: Final = Words(
    "InvalidParameterValue", "Volume {} of {} is too large for volume type {}; maximum is {}."
)
TOO_MUCH: Final = Words("InvalidParameterValue", "{} ratio of {:f} is too high; maximum is {}")
TOO_MANY_VOLUMES: Final = Words(
    "VolumeLimitExceeded", "You have exceeded your limit of {} volumes in this region."
)
ATTACHED_STILL: Final = Words("VolumeInUse", "Volume {} is currently attached to {}")  # own words
# kubernetes-sigs/aws-ebs-csi-driver/issues/1038
LONG_TOKEN: Final = Words("InvalidParameterValue", "Client token must be less than or equal to 64 characters")
# kubernetes-sigs/aws-ebs-csi-driver/issues/1428
OTHER_PARAMETERS: Final = Words(
    "IdempotentParameterMismatch",
    "Parameters on this idempotent request are inconsistent with parameters used in previous request(s)",
)
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/troubleshoot-ebs-volumes.html; that it has this
# code: kubernetes-sigs/aws-ebs-csi-driver/issues/1022
TOKEN_OF_DELETED: Final = Words(
    "IdempotentParameterMismatch",
    "The client token you have provided is associated with a resource that is already deleted. "
    "Please use a different client token.",
)

# Tags; own words

TOO_MANY_TAGS: Final = Words("TagLimitExceeded", "More than {} tags specified")
BAD_TAG_KEY: Final = Words("InvalidParameterValue", "Tag key '{}' is invalid")
LONG_TAG_VALUE: Final = Words(
    "InvalidParameterValue", "Tag value exceeds the maximum length of {} characters"
)


def no_resource(resource_id: str) -> Refused:
    """CreateTags of what is no volume: as moto 5.2 says it."""
    kind = resource_id.partition("-")[0].capitalize()
    return Words(f"Invalid{kind}ID.NotFound", f"{kind}ID {{}} does not exist.")(resource_id)


# AttachVolume and DetachVolume

# portworx/px-dev/issues/42
ATTACHED_ALREADY: Final = Words("VolumeInUse", "{} is already attached to an instance")
# andsens/build-debian-cloud/issues/85
NOT_AVAILABLE: Final = Words("IncorrectState", "{} is not 'available'.")
# ansible-collections/amazon.aws/issues/497
NOT_RUNNING: Final = Words("IncorrectState", "Instance '{}' is not 'running'.")
# kubernetes-sigs/aws-ebs-csi-driver/issues/52
ZONE_MISMATCH: Final = Words(
    "InvalidVolume.ZoneMismatch", "The volume '{}' is not in the same availability zone as instance '{}'"
)
# evergreen-ci/evergreen/issues/3403
BAD_NAME: Final = Words(
    "InvalidParameterValue",
    "Value ({0}) for parameter device is invalid. {0} is not a valid EBS device name.",
)
# rexray/rexray/issues/425
NAME_IN_USE: Final = Words(
    "InvalidParameterValue", "Invalid value '{0}' for unixDevice. Attachment point {0} is already in use"
)
# kubernetes-sigs/aws-ebs-csi-driver/pull/2500
TOO_MANY_ATTACHED: Final = Words(
    "AttachmentLimitExceeded",
    "You may attach up to {} devices for this instance type. Please use a larger instance size to attach "
    "more volumes.",
)
# kubernetes-sigs/aws-ebs-csi-driver/issues/1801
IN_STATE: Final = Words("IncorrectState", "Volume '{}' is in the '{}' state.")
NOT_ATTACHED: Final = Words(  # own words
    "InvalidAttachment.NotFound", "Volume '{}' is not attached to instance '{}'."
)

# Instances; own words

CANNOT_BE: Final = Words(
    "IncorrectInstanceState", "This instance '{}' is not in a state from which it can be {}."
)
