"""Translates EC2's error codes into volplug's errors.

The codes are those of https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html; AWS adds
new ones, so an unknown code is a `BackendError` that shows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from volplug.drivers.cloud.calls import fitting
from volplug.errors import (
    BackendDenied,
    BackendError,
    BackendUnavailable,
    ConfigurationError,
    InvalidOption,
    InvalidSize,
    LimitExceeded,
    UnexpectedState,
    VolplugError,
    VolumeInUse,
    VolumeNotFound,
)

_CLOCK: Final = "Check this host's clock and its credentials"

THROTTLED: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_SERVER_AT_FAULT: Final = frozenset(
    {"InternalError", "InternalFailure", "RequestTimeout", "RequestTimeoutException"}
    | {"ServiceUnavailable", "Unavailable"}
)
_CREDENTIALS: Final = MappingProxyType(
    {
        "AuthFailure": "Check access key and secret, and that the account may use EC2 in this region",
        "Blocked": "The account is blocked: ask the support of AWS",
        "ExpiredToken": "Renew the temporary credentials",
        "ExpiredTokenException": "Renew the temporary credentials",
        "IncompleteSignature": _CLOCK,
        "InvalidAccessKeyId": "Check the access key",
        "InvalidClientTokenId": "Check the access key; temporary ones need their session token",
        "InvalidSignatureException": _CLOCK,
        "MissingAuthenticationToken": "Set access key and secret, or give the instance a role",
        "OptInRequired": "Enable the region or service for the account",
        "PendingVerification": "The account is being verified: ask the support of AWS",
        "RequestExpired": _CLOCK,
        "SignatureDoesNotMatch": "Check the secret key and this host's clock",
        "UnrecognizedClientException": "Check the access key",
    }
)
_NOT_ALLOWED: Final = frozenset(
    {"AccessDenied", "AccessDeniedException", "Client.UnauthorizedOperation", "UnauthorizedOperation"}
)
_QUOTAS: Final = MappingProxyType(
    {
        "AttachmentLimitExceeded": "Detach a volume here, or use an instance type with more slots",
        "InsufficientVolumeCapacity": "Try later, another volume type or another zone",
        "MaxIOPSLimitExceeded": "Delete volumes or ask AWS for a higher quota of IOPS",
        "ResourceLimitExceeded": "Delete volumes or ask AWS for a higher quota",
        "TagLimitExceeded": "Put fewer tags on volumes: EC2 takes 50",
        "VolumeLimitExceeded": "Delete volumes or ask AWS for a higher quota",
    }
)
_USERS_OPTIONS: Final = frozenset(
    {
        "EncryptedVolumesNotSupported",
        "InvalidParameter",
        "InvalidParameterCombination",
        "InvalidParameterDependency",
        "InvalidParameterValue",
        "MissingParameter",
        "UnknownParameter",
        "UnknownVolumeType",
        "UnsupportedOperation",
        "VolumeTypeNotAvailableInZone",
        "VolumeTypeNotAvailableInRegion",
    }
)
_USERS_PREFIXES: Final = ("InvalidKmsKey", "InvalidSnapshot", "InvalidZone", "KMS")
# "Volume of 5GiB is too small for volume type st1; minimum is 125GiB."
_SIZE: Final = re.compile(r"\d+ ?GiB is too (small|large)")
_MISSING_PERMISSION: Final = re.compile(r"not authorized to perform: ([\w:*-]+)")
_ENCODED: Final = re.compile(r"\s*Encoded authorization failure message:.*", re.DOTALL)


@dataclass(eq=False)
class Ec2Refused(Exception):
    """An error response of EC2, whose meaning depends on the caller.

    Attributes:
        action: The call, such as `AttachVolume`.
        code: EC2's error code, such as `VolumeInUse`.
        message: EC2's text, complete.
        was_repeated: Whether a retry was refused, so that an earlier try of the same call may have had its
            effect although its response was lost.
    """

    action: str
    code: str
    message: str = ""
    was_repeated: bool = field(default=False, kw_only=True)


def is_unavailable(code: str, http_status: int) -> bool:
    """Tell whether an error response means that EC2 is unavailable, not that it refuses."""
    if code in _QUOTAS:
        return False  # InsufficientVolumeCapacity has status 500
    return http_status >= 500 or code in THROTTLED or code in _SERVER_AT_FAULT


def is_about_credentials(code: str) -> bool:
    """Tell whether EC2 does not accept the credentials."""
    return code in _CREDENTIALS


def is_denied(code: str) -> bool:
    """Tell whether EC2 does not accept the credentials, or they do not permit the action."""
    return code in _CREDENTIALS or code in _NOT_ALLOWED


def unavailable(action: str, reason: str, code: str = "") -> BackendUnavailable:
    """Return the error for a call without a usable response, or with one of this code."""
    error = BackendUnavailable(f"EC2 did not answer {action}: {_short(reason)}")
    error.is_throttled = code in THROTTLED
    return error


def translated(refused: Ec2Refused) -> VolplugError:
    """Return the error for a refusal that the caller does not handle."""
    code, cause = refused.code, f"EC2 refused {refused.action}: {refused.code}: {_short(refused.message)}"
    if is_denied(code):
        return _denied(refused)
    if is_unavailable(code, 0):
        return unavailable(refused.action, f"{code}: {refused.message}")
    if code in _QUOTAS:
        return LimitExceeded(cause, _QUOTAS[code])
    for matches, error in _MEANINGS:
        if matches(refused):
            return error(cause)
    return BackendError(cause)


def _denied(refused: Ec2Refused) -> BackendDenied:
    cause = f"EC2 denied {refused.action}: {refused.code}: {_short(refused.message)}"
    if refused.code in _CREDENTIALS:
        return BackendDenied(cause, _CREDENTIALS[refused.code])
    named = _MISSING_PERMISSION.search(refused.message)
    permission = named.group(1) if named else f"ec2:{refused.action}"
    decode = "" if named else "; aws sts decode-authorization-message reads the log's"
    error = BackendDenied(cause, f"Allow {permission} in the IAM policy of this host{decode}")
    error.permission = permission
    return error


def _short(message: str) -> str:
    return fitting(_ENCODED.sub("", message))


def _is_creation(refused: Ec2Refused) -> bool:
    return refused.action == "CreateVolume"


def _in_use(cause: str) -> VolplugError:
    return VolumeInUse(cause)


def _unknown_instance(cause: str) -> VolplugError:
    return ConfigurationError(cause, "Check that the region is that of this instance")


_MEANINGS: Final[tuple[tuple[Callable[[Ec2Refused], bool], Callable[[str], VolplugError]], ...]] = (
    (lambda refused: refused.code.startswith("InvalidVolume"), VolumeNotFound),
    (lambda refused: refused.code.startswith("InvalidInstanceID"), _unknown_instance),
    (lambda refused: refused.code == "VolumeInUse", _in_use),
    (lambda refused: refused.code in {"IncorrectState", "IncorrectInstanceState"}, UnexpectedState),
    (lambda refused: _is_creation(refused) and bool(_SIZE.search(refused.message)), InvalidSize),
    (lambda refused: _is_creation(refused) and refused.code in _USERS_OPTIONS, InvalidOption),
    (lambda refused: _is_creation(refused) and refused.code.startswith(_USERS_PREFIXES), InvalidOption),
)
