"""The errors of EC2, as EC2 says them.

Codes: https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html. Texts are not documented; they
are those that people have quoted, at the address below github.com that each names. "Own words": none found.
"""

from __future__ import annotations

from tests.ec2sim.plan import Refusal


class Refused(Exception):
    """An action was refused, without effect."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.code}: {refusal.message}")
        self.refusal = refusal


def refused(code: str, message: str, status: int = 400) -> Refused:
    """Return the exception for a code and a text."""
    return Refused(Refusal(code, message, status))


def throttled() -> Refusal:
    """Too many calls: https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html."""
    return Refusal("RequestLimitExceeded", "Request limit exceeded.", 503)


def internal_error() -> Refusal:
    """An error at EC2, 500."""
    return Refusal("InternalError", "An internal error has occurred", 500)


def unavailable() -> Refusal:
    """An error at EC2, 503."""
    return Refusal("Unavailable", "The service is unavailable. Please try again shortly.", 503)


def unauthorized(action: str, caller: str) -> Refused:
    """Not permitted; the encoded message is what DecodeAuthorizationMessage takes."""
    return refused(
        "UnauthorizedOperation",
        f"You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/"
        f"volplug/{caller or 'user'} is not authorized to perform: ec2:{action} on resource: "
        f"arn:aws:ec2:*:123456789012:* because no identity-based policy allows the ec2:{action} action. "
        f"Encoded authorization failure message: {'Zm9vYmFy' * 40}",
        403,
    )


def no_action(action: str) -> Refused:
    """An action that is not served: joshlarsen/aws-recon/issues/138."""
    return refused("InvalidAction", f"The action {action} is not valid for this web service.")


def dry_run() -> Refused:
    """What is answered instead of an effect: getmoto/moto/issues/1980.

    Parameters are not looked at: "Checks whether you have the required permissions for the action",
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html.
    """
    return refused("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)


def bad_credentials() -> Refused:
    """Credentials that EC2 does not know, or for another region."""
    text = "AWS was not able to validate the provided access credentials"
    return refused("AuthFailure", text, 401)


def no_volume(*volume_ids: str) -> Refused:
    """A volume that is not, or no longer: kubernetes-sigs/aws-ebs-csi-driver/issues/918."""
    if len(volume_ids) > 1:
        text = f"The volumes '{', '.join(volume_ids)}' do not exist."  # own words
    else:
        text = f"The volume '{volume_ids[0]}' does not exist."
    return refused("InvalidVolume.NotFound", text)


def no_instance(instance_id: str) -> Refused:
    """An instance that never was, or that ended an hour ago."""
    return refused("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")


def no_snapshot() -> Refused:
    """A snapshot that is not: kvnn/OrdControl/issues/13."""
    return refused("InvalidSnapshot.NotFound", "Snapshot does not exist")


def no_resource(resource_id: str) -> Refused:
    """CreateTags of what is no volume: as moto 5.2 says it."""
    kind = resource_id.partition("-")[0].capitalize()
    return refused(f"Invalid{kind}ID.NotFound", f"{kind}ID {resource_id} does not exist.")


def no_zone(zone: str) -> Refused:
    """CreateVolume in a zone that the region has not."""
    return refused("InvalidZone.NotFound", f"The zone '{zone}' does not exist.")


def zone_mismatch(volume_id: str, instance_id: str) -> Refused:
    """AttachVolume across zones: kubernetes-sigs/aws-ebs-csi-driver/issues/52."""
    return refused(
        "InvalidVolume.ZoneMismatch",
        f"The volume '{volume_id}' is not in the same availability zone as instance '{instance_id}'",
    )


def attached_already(volume_id: str) -> Refused:
    """AttachVolume of a volume in use: portworx/px-dev/issues/42."""
    return refused("VolumeInUse", f"{volume_id} is already attached to an instance")


def attached_still(volume_id: str, instance_id: str) -> Refused:
    """DeleteVolume of a volume in use: own words."""
    return refused("VolumeInUse", f"Volume {volume_id} is currently attached to {instance_id}")


def not_available(volume_id: str) -> Refused:
    """AttachVolume of a volume that is still being made: andsens/build-debian-cloud/issues/85."""
    return refused("IncorrectState", f"{volume_id} is not 'available'.")


def not_running(instance_id: str) -> Refused:
    """AttachVolume to an instance that starts or ends: ansible-collections/amazon.aws/issues/497."""
    return refused("IncorrectState", f"Instance '{instance_id}' is not 'running'.")


def in_state(volume_id: str, status: str) -> Refused:
    """DetachVolume of a volume that is not attached: kubernetes-sigs/aws-ebs-csi-driver/issues/1801."""
    return refused("IncorrectState", f"Volume '{volume_id}' is in the '{status}' state.")


def not_attached(volume_id: str, instance_id: str) -> Refused:
    """DetachVolume from an instance that has not got it; own words."""
    return refused(
        "InvalidAttachment.NotFound", f"Volume '{volume_id}' is not attached to instance '{instance_id}'."
    )


def name_in_use(device: str) -> Refused:
    """A device name that is taken: rexray/rexray/issues/425."""
    return refused(
        "InvalidParameterValue",
        f"Invalid value '{device}' for unixDevice. Attachment point {device} is already in use",
    )


def bad_name(device: str) -> Refused:
    """A device name that cannot be: evergreen-ci/evergreen/issues/3403."""
    return refused(
        "InvalidParameterValue",
        f"Value ({device}) for parameter device is invalid. {device} is not a valid EBS device name.",
    )


def too_many_attached(limit: int) -> Refused:
    """More volumes than the instance takes: kubernetes-sigs/aws-ebs-csi-driver/pull/2500."""
    return refused(
        "AttachmentLimitExceeded",
        f"You may attach up to {limit} devices for this instance type. Please use a larger instance size to "
        "attach more volumes.",
    )


def too_many_volumes(limit: int) -> Refused:
    """More volumes than the account may have; own words."""
    return refused("VolumeLimitExceeded", f"You have exceeded your limit of {limit} volumes in this region.")


def other_parameters() -> Refused:
    """A ClientToken that came with other parameters: kubernetes-sigs/aws-ebs-csi-driver/issues/1428."""
    return refused(
        "IdempotentParameterMismatch",
        "Parameters on this idempotent request are inconsistent with parameters used in previous request(s)",
    )


def token_of_deleted() -> Refused:
    """A ClientToken whose volume was deleted.

    Text: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/troubleshoot-ebs-volumes.html; that it
    has this code: kubernetes-sigs/aws-ebs-csi-driver/issues/1022.
    """
    return refused(
        "IdempotentParameterMismatch",
        "The client token you have provided is associated with a resource that is already deleted. "
        "Please use a different client token.",
    )


def long_token() -> Refused:
    """A ClientToken of more than 64 characters: kubernetes-sigs/aws-ebs-csi-driver/issues/1038."""
    return refused("InvalidParameterValue", "Client token must be less than or equal to 64 characters")


def needs(parameter: str, other: str) -> Refused:
    """A parameter without one that belongs to it: rancher/rancher/issues/28146.

    For a type that needs iops, EC2 has other words: kubernetes-sigs/aws-ebs-csi-driver/issues/766.
    """
    text = f"The parameter {parameter} requires the parameter {other} to be set."
    return refused("InvalidParameterDependency", text)


def missing(parameter: str) -> Refused:
    """A parameter that has to be given."""
    return refused("MissingParameter", f"The request must contain the parameter {parameter}")


def bad_value(parameter: str, value: str, why: str) -> Refused:
    """A parameter's value that cannot be."""
    return refused("InvalidParameterValue", f"Value ({value}) for parameter {parameter} is invalid. {why}")


def bad_id(value: str, kind: str) -> Refused:
    """An id that is no id."""
    return refused("InvalidParameterValue", f'Invalid id: "{value}" (expecting "{kind}-...")')


def bad_filter(name: str) -> Refused:
    """A filter that the action does not know."""
    return refused("InvalidParameterValue", f"The filter '{name}' is invalid")


def too_many_filter_values() -> Refused:
    """200 values: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html; own words."""
    return refused(
        "FilterLimitExceeded", "The maximum number of filter values specified on a single call is 200"
    )
