"""Translates refusals of Cinder and Nova into volplug's errors: by HTTP status, then by their texts.

A status alone is not enough: 400 is a wrong option as well as a volume in use, 413 a quota as well as too
many requests. The texts are those of Cinder 26 and Nova 31, as recorded; an unknown one is shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from volplug.drivers.cloud.calls import fitting
from volplug.errors import (
    BackendDenied,
    BackendError,
    BackendUnavailable,
    ConfigurationError,
    InvalidOption,
    InvalidRequest,
    LimitExceeded,
    UnexpectedState,
    VolplugError,
    VolumeInUse,
    VolumeNotFound,
)

_MISSING: Final = r"(Volume|Instance) \S+ could not be found"
_QUOTA: Final = "Delete volumes, or have the quota raised: openstack quota set"
# Nova shows Cinder's refusals in its own, with the request's id.
_NOISE: Final = re.compile(r"\s*\(HTTP \d+\)\s*\(Request-ID: [^)]*\)|Invalid (?:input received|volume): ")


@dataclass(eq=False)
class OpenStackRefused(Exception):
    """An error response of Cinder or Nova, whose meaning depends on the caller.

    Attributes:
        service: `Cinder` or `Nova`.
        action: What was called, such as `POST /volumes`.
        status: The HTTP status.
        message: Its text, complete.
        was_repeated: Whether a retry was refused, so that an earlier try of the same call may have had its
            effect although its response was lost.
    """

    service: str
    action: str
    status: int
    message: str = ""
    was_repeated: bool = field(default=False, kw_only=True)

    def mentions(self, *texts: str) -> bool:
        """Tell whether one of some texts is in the message."""
        return any(text in self.message for text in texts)

    @property
    def is_missing(self) -> bool:
        """Tell whether the volume or the server does not exist in this project, which a proxy cannot tell."""
        return self.status == 404 and re.match(_MISSING, self.message) is not None

    @property
    def is_not_attached(self) -> bool:
        """Tell whether the server does not have the volume."""
        return self.status == 404 and self.mentions("is not attached")

    @property
    def is_detaching(self) -> bool:
        """Tell whether an attach or a detach of the volume is in progress."""
        return self.mentions("Unable to detach volume")

    @property
    def attached_server(self) -> str:
        """Return the server that, by the message, has the volume; "" if it names none."""
        found = _ATTACHED.search(self.message)
        return found["server"] if found else ""


def is_unavailable(status: int, message: str) -> bool:
    """Tell whether an error response means that a service is unavailable, not that it refuses."""
    return status >= 500 or is_throttled(status, message)


def is_throttled(status: int, message: str) -> bool:
    """Tell whether an error response means that a service limits how often it is called."""
    return status == 429 or (status == 413 and "rate-limited" in message)


def unavailable(
    service: str, action: str, reason: str, remedy: str = "", *, is_throttled: bool = False
) -> BackendUnavailable:
    """Return the error for a call without a usable response."""
    error = BackendUnavailable(f"{service} did not answer {action}: {short(reason)}", remedy)
    error.is_throttled = is_throttled
    return error


def translated(refused: OpenStackRefused) -> VolplugError:
    """Return the error for a refusal that the caller does not handle."""
    text = short(refused.message)
    whole = f"{refused.service} refused {refused.action}: {refused.status}: {text}"
    if refused.status == 400 and (held := _ATTACHED.search(refused.message)):
        return VolumeInUse(f"{held['volume']} is attached to {held['server']}", holder=held["server"])
    for statuses, pattern, kind, cause, remedy in _MEANINGS:
        found = re.search(pattern, refused.message) if refused.status in statuses else None
        if found is not None:
            words = {"service": refused.service, "text": text, "whole": whole, **found.groupdict()}
            error = kind(cause.format(**words), remedy.format(**words))
            if isinstance(error, BackendDenied) and refused.status == 403:
                error.permission = words.get("rule", refused.action)
            return error
    is_about_options = refused.status == 400 and refused.action == "POST /volumes"
    return InvalidOption(whole) if is_about_options else BackendError(whole)


def short(message: str) -> str:
    """Return a message as it fits into an error, without what is of no use to users."""
    return fitting(_NOISE.sub("", message))


def creation_failed(volume_id: str, reasons: Sequence[str]) -> VolplugError:
    """Return the error for a creation that has failed, from Cinder's messages about it."""
    seen = sorted(set(reasons))
    if seen and all("available weighted backend" in each or "valid backend" in each for each in seen):
        cause = "Cinder finds no storage with room for it"
        return LimitExceeded(cause, "Try less, another type or another zone")
    why = short("; ".join(seen)) or "it gives no reason"
    return UnexpectedState(f"Cinder failed to create {volume_id}: {why}", "See the log of cinder-volume")


_ATTACHED: Final = re.compile(r"volume (?P<volume>\S+) is already attached to instances: (?P<server>[^\s,]+)")
# By status and text: the error, its cause and its remedy.
_MEANINGS: Final[tuple[tuple[set[int], str, type[VolplugError], str, str], ...]] = (
    (
        {413},
        r"Maximum number of volumes allowed \((?P<most>\d+)\) exceeded for quota '(?P<what>\S+)'",
        LimitExceeded,
        "the project's quota of {what} is used up: {most} are allowed",
        _QUOTA,
    ),
    (
        {413},
        r"exceeds allowed (?P<what>\S+) quota. Requested (?P<asked>\d+G), quota is (?P<most>\d+G) and "
        r"(?P<used>\d+G) has been consumed",
        LimitExceeded,
        "{asked}iB would exceed the project's quota of {what}: of {most}iB {used}iB are used",
        _QUOTA,
    ),
    (
        {400, 403},
        r"maximum allowed number of disk devices \((?P<most>\d+)\)",
        LimitExceeded,
        "this server takes no more volumes: Nova allows {most} disks",
        "Detach volumes from it",
    ),
    ({413}, "", LimitExceeded, "{whole}", _QUOTA),
    ({401}, "", BackendDenied, "{whole}", "Check the credentials"),
    (
        {403},
        r"Policy doesn't allow (?P<rule>\S+) to be performed",
        BackendDenied,
        "{service} does not allow {rule}",
        "Use credentials with a role that has this policy, most often member",
    ),
    ({403}, "", BackendDenied, "{whole}", "Check the role of the credentials"),
    # https://opendev.org/openstack/nova/src/tag/31.0.0/nova/volume/cinder.py, check_availability_zone
    (
        {400},
        r"Instance is in (?P<server>[^.]+)\. Volume is in (?P<volume>[^.]+)",
        InvalidRequest,
        "the volume is in availability zone {volume}, this server in {server}",
        "Run the container in {volume}: this cloud attaches volumes within a zone only",
    ),
    (
        {409},
        r"is locked",
        UnexpectedState,
        "{service} does not change this server, it is locked",
        "openstack server unlock SERVER",
    ),
    (
        {409},
        r"while it is in (?P<kind>vm_state|task_state) (?P<state>\S+)",
        BackendUnavailable,
        "{service} cannot do it while the server is in {kind} {state}",
        "Try again when that has ended",
    ),
    (
        {409},
        r"Service is unavailable at this time",
        BackendUnavailable,
        "{service}'s service on the server's compute host is down",
        "Try again",
    ),
    ({404}, r"^Volume \S+ could not be found", VolumeNotFound, "{text}", ""),
    (
        {404},
        r"^Instance \S+ could not be found",
        ConfigurationError,
        "Nova does not know this server: {text}",
        "Check region and project",
    ),
    (
        {404},
        r"^Volume type .* could not be found",
        InvalidOption,
        "{text}",
        "openstack volume type list shows them",
    ),
    (
        {400},
        r"^Availability zone .* is invalid",
        InvalidOption,
        "{text}",
        "openstack availability zone list --volume shows them",
    ),
    ({400, 409}, r"^Invalid volume: ", UnexpectedState, "{whole}", ""),
    ({409}, "", UnexpectedState, "{whole}", "Try again"),
)
