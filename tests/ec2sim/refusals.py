"""The errors of EC2, with its texts.

Codes: https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html. Texts are not documented; they
are as quoted on github.com, at the path that each names. "Own words": no source found.
"""

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error to be answered without any effect; a call of it returns the exception to raise.

    Attributes:
        code: Such as InsufficientVolumeCapacity.
        message: EC2's text, with placeholders for the arguments of the call.
        status: The HTTP status.
    """

    code: str
    message: str = "as planned"
    status: int = 400

    def __call__(self, *values: object) -> "Refused":
        return Refused(replace(self, message=self.message.format(*values)))


class Refused(Exception):
    """An action was refused, without effect."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.code}: {refusal.message}")
        self.refusal = refusal


# The service, whatever the action

# https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html
THROTTLED: Final = Refusal("RequestLimitExceeded", "Request limit exceeded.", 503)
INTERNAL_ERROR: Final = Refusal("InternalError", "An internal error has occurred", 500)
UNAVAILABLE: Final = Refusal("Unavailable", "The service is unavailable. Please try again shortly.", 503)
BAD_CREDENTIALS: Final = Refusal(  # unknown, or for another region
    "AuthFailure", "AWS was not able to validate the provided access credentials", 401
)
UNAUTHORIZED: Final = Refusal(  # the encoded message is what DecodeAuthorizationMessage takes
    "UnauthorizedOperation",
    "You are not authorized to perform this operation. User: "
    "arn:aws:sts::123456789012:assumed-role/volplug/{1} is not authorized to perform: ec2:{0} on resource: "
    "arn:aws:ec2:*:123456789012:* because no identity-based policy allows the ec2:{0} action. "
    "Encoded authorization failure message: " + "Zm9vYmFy" * 40,
    403,
)
# aws/aws-cli/issues/3127; that its status is 412: aws/karpenter-provider-aws/issues/8015
WOULD_SUCCEED: Final = Refusal(
    "DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412
)
# joshlarsen/aws-recon/issues/138
NO_ACTION: Final = Refusal("InvalidAction", "The action {} is not valid for this web service.")

# Parameters

NO_SNAPSHOT: Final = Refusal("InvalidSnapshot.NotFound", "The snapshot '{}' does not exist.")
MISSING: Final = Refusal("MissingParameter", "The request must contain the parameter {}")
BAD_VALUE: Final = Refusal("InvalidParameterValue", "Value ({1}) for parameter {0} is invalid. {2}")
BAD_ID: Final = Refusal("InvalidParameterValue", 'Invalid id: "{}" (expecting "vol-...")')
BAD_FILTER: Final = Refusal("InvalidParameterValue", "The filter '{}' is invalid")
BAD_TOKEN: Final = Refusal("InvalidPaginationToken", "The pagination token is not valid.")  # own words
# 200: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html; own words
TOO_MANY_FILTER_VALUES: Final = Refusal(
    "FilterLimitExceeded", "The maximum number of filter values specified on a single call is 200"
)
IDS_AND_PAGES: Final = Refusal(  # own words
    "InvalidParameterCombination", "The parameter volumeSet cannot be used with the parameter maxResults"
)
# kubernetes-sigs/aws-ebs-csi-driver/issues/766
NO_IOPS: Final = Refusal(
    "InvalidParameterCombination", "The parameter iops must be specified for {} volumes."
)

# Unknown ids

# kubernetes-sigs/aws-ebs-csi-driver/issues/918
NO_VOLUME: Final = Refusal("InvalidVolume.NotFound", "The volume '{}' does not exist.")
NO_INSTANCE: Final = Refusal("InvalidInstanceID.NotFound", "The instance ID '{}' does not exist")
NO_ZONE: Final = Refusal("InvalidZone.NotFound", "The zone '{}' does not exist.")

# CreateVolume and DeleteVolume

ATTACHED_STILL: Final = Refusal("VolumeInUse", "Volume {} is currently attached to {}")  # own words
# kubernetes-sigs/aws-ebs-csi-driver/issues/1038
LONG_TOKEN: Final = Refusal(
    "InvalidParameterValue", "Client token must be less than or equal to 64 characters"
)
# kubernetes-sigs/aws-ebs-csi-driver/issues/1428
OTHER_PARAMETERS: Final = Refusal(
    "IdempotentParameterMismatch",
    "Parameters on this idempotent request are inconsistent with parameters used in previous request(s)",
)
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/troubleshoot-ebs-volumes.html; that it has this
# code: kubernetes-sigs/aws-ebs-csi-driver/issues/1022
TOKEN_OF_DELETED: Final = Refusal(
    "IdempotentParameterMismatch",
    "The client token you have provided is associated with a resource that is already deleted. "
    "Please use a different client token.",
)

# Tags; own words

TOO_MANY_TAGS: Final = Refusal("TagLimitExceeded", "More than {} tags specified")
BAD_TAG_KEY: Final = Refusal("InvalidParameterValue", "Tag key '{}' is invalid")
LONG_TAG_VALUE: Final = Refusal(
    "InvalidParameterValue", "Tag value exceeds the maximum length of {} characters"
)

# AttachVolume and DetachVolume

# portworx/px-dev/issues/42
ATTACHED_ALREADY: Final = Refusal("VolumeInUse", "{} is already attached to an instance")
# andsens/build-debian-cloud/issues/85
NOT_AVAILABLE: Final = Refusal("IncorrectState", "{} is not 'available'.")
# ansible-collections/amazon.aws/issues/497
NOT_RUNNING: Final = Refusal("IncorrectState", "Instance '{}' is not 'running'.")
# kubernetes-sigs/aws-ebs-csi-driver/issues/52
ZONE_MISMATCH: Final = Refusal(
    "InvalidVolume.ZoneMismatch", "The volume '{}' is not in the same availability zone as instance '{}'"
)
# evergreen-ci/evergreen/issues/3403
BAD_NAME: Final = Refusal(
    "InvalidParameterValue",
    "Value ({0}) for parameter device is invalid. {0} is not a valid EBS device name.",
)
# rexray/rexray/issues/425
NAME_IN_USE: Final = Refusal(
    "InvalidParameterValue", "Invalid value '{0}' for unixDevice. Attachment point {0} is already in use"
)
# kubernetes-sigs/aws-ebs-csi-driver/pull/2500
TOO_MANY_ATTACHED: Final = Refusal(
    "AttachmentLimitExceeded",
    "You may attach up to {} devices for this instance type. Please use a larger instance size to attach "
    "more volumes.",
)
# kubernetes-sigs/aws-ebs-csi-driver/issues/1801
IN_STATE: Final = Refusal("IncorrectState", "Volume '{}' is in the '{}' state.")
NOT_ATTACHED: Final = Refusal(  # own words
    "InvalidAttachment.NotFound", "Volume '{}' is not attached to instance '{}'."
)

# Instances; own words

CANNOT_BE: Final = Refusal(
    "IncorrectInstanceState", "This instance '{}' is not in a state from which it can be {}."
)
