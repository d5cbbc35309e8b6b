"""Translates refusals of Cinder and Nova into volplug's errors: by HTTP status, then by their texts.

A status alone is not enough: 400 is a wrong option as well as a volume in use, 413 a quota as well as too
many requests. The texts are those of Cinder 26 and Nova 31, as recorded; an unknown one is shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

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
from volplug.masking import masked

_MESSAGE_LENGTH: Final = 150
_QUOTA: Final = "Delete volumes, or have the quota raised: openstack quota set"
# Nova shows Cinder's refusals in its own, with the request's id.
_NOISE: Final = re.compile(r"\s*\(HTTP \d+\)\s*\(Request-ID: [^)]*\)|Invalid (?:input received|volume): ")


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

    def __init__(
        self, service: str, action: str, status: int, message: str = "", *, was_repeated: bool = False
    ) -> None:
        super().__init__(f"{service}: {action}: {status}: {message}")
        self.service = service
        self.action = action
        self.status = status
        self.message = message
        self.was_repeated = was_repeated

    def mentions(self, *texts: str) -> bool:
        """Tell whether one of some texts is in the message."""
        return any(text in self.message for text in texts)

    @property
    def is_missing_volume(self) -> bool:
        """Tell whether the volume does not exist in this project: a proxy's 404 does not tell that."""
        return self._is_missing("Volume")

    @property
    def is_missing_server(self) -> bool:
        """Tell whether the server does not exist in this project."""
        return self._is_missing("Instance")

    @property
    def is_not_attached(self) -> bool:
        """Tell whether the server does not have the volume."""
        return self.status == 404 and self.mentions("is not attached")

    def _is_missing(self, what: str) -> bool:
        return self.status == 404 and re.match(rf"{what} \S+ could not be found", self.message) is not None


def is_unavailable(status: int, message: str) -> bool:
    """Tell whether an error response means that a service is unavailable, not that it refuses."""
    is_too_busy = status == 429 or (status == 413 and "rate-limited" in message)
    return status >= 500 or is_too_busy


def unavailable(service: str, action: str, reason: str, remedy: str = "") -> BackendUnavailable:
    """Return the error for a call without a usable response."""
    return BackendUnavailable(f"{service} did not answer {action}: {short(reason)}", remedy)


def translated(refused: OpenStackRefused) -> VolplugError:
    """Return the error for a refusal that the caller does not handle."""
    for matches, translate in _MEANINGS:
        if (found := matches(refused)) is not None:
            return translate(refused, found)
    return BackendError(_cause(refused))


def short(message: str) -> str:
    """Return a text that fits into an error, without secrets and without what is of no use to users."""
    text = masked(_NOISE.sub("", message)).strip().rstrip(".")
    return text if len(text) <= _MESSAGE_LENGTH else f"{text[: _MESSAGE_LENGTH - 3]}..."


def creation_failed(volume_id: str, reasons: Sequence[str]) -> VolplugError:
    """Return the error for a creation that has failed, from Cinder's messages about it."""
    seen = sorted(set(reasons))
    if seen and all("available weighted backend" in each or "valid backend" in each for each in seen):
        cause = "Cinder finds no storage with room for it"
        return LimitExceeded(cause, "Try less, another type or another zone")
    why = short("; ".join(seen)) or "it gives no reason"
    return UnexpectedState(f"Cinder failed to create {volume_id}: {why}", "See the log of cinder-volume")


def _cause(refused: OpenStackRefused) -> str:
    return f"{refused.service} refused {refused.action}: {refused.status}: {short(refused.message)}"


_Match = re.Match[str]
_Meaning = tuple[
    Callable[[OpenStackRefused], _Match | None], Callable[[OpenStackRefused, _Match], VolplugError]
]


def _text(pattern: str, *statuses: int) -> Callable[[OpenStackRefused], _Match | None]:
    form = re.compile(pattern)
    return lambda refused: form.search(refused.message) if refused.status in statuses else None


def _count_exceeded(_: OpenStackRefused, found: _Match) -> VolplugError:
    what, most = found["what"], found["most"]
    return LimitExceeded(f"the project's quota of {what} is used up: {most} are allowed", _QUOTA)


def _size_exceeded(_: OpenStackRefused, found: _Match) -> VolplugError:
    return LimitExceeded(
        f"{found['asked']}iB would exceed the project's quota of {found['what']}: of {found['most']}iB "
        f"{found['used']}iB are used",
        _QUOTA,
    )


def _volume_too_large(_: OpenStackRefused, found: _Match) -> VolplugError:
    return LimitExceeded(f"the project's volumes may have at most {found['most']}iB", "Try less")


def _too_many_disks(_: OpenStackRefused, found: _Match) -> VolplugError:
    return LimitExceeded(
        f"this server takes no more volumes: Nova allows {found['most']} disks", "Detach volumes from it"
    )


def _other_zone(_: OpenStackRefused, found: _Match) -> VolplugError:
    return InvalidRequest(
        f"the volume is in availability zone {found['volume']}, this server in {found['server']}",
        f"Run the container in {found['volume']}: this cloud attaches volumes within a zone only",
    )


def _policy(refused: OpenStackRefused, found: _Match) -> VolplugError:
    return BackendDenied(
        f"{refused.service} does not allow {found['rule']}",
        "Use credentials with a role that has this policy, most often member",
    )


def _locked(refused: OpenStackRefused, _: _Match) -> VolplugError:
    return UnexpectedState(
        f"{refused.service} does not change this server, it is locked", "openstack server unlock SERVER"
    )


def _busy_server(refused: OpenStackRefused, found: _Match) -> VolplugError:
    return BackendUnavailable(
        f"{refused.service} cannot do it while the server is in {found['kind']} {found['state']}",
        "Try again when that has ended",
    )


def _compute_down(refused: OpenStackRefused, _: _Match) -> VolplugError:
    return BackendUnavailable(
        f"{refused.service}'s service on the server's compute host is down", "Try again"
    )


def _in_use(_: OpenStackRefused, found: _Match) -> VolplugError:
    return VolumeInUse(f"{found['volume']} is attached to {found['server']}", holder=found["server"])


_MEANINGS: Final[tuple[_Meaning, ...]] = (
    (
        _text(r"Maximum number of volumes allowed \((?P<most>\d+)\) exceeded for quota '(?P<what>\S+)'", 413),
        _count_exceeded,
    ),
    (
        _text(
            r"exceeds allowed (?P<what>\S+) quota. Requested (?P<asked>\d+G), quota is (?P<most>\d+G) and "
            r"(?P<used>\d+G) has been consumed",
            413,
        ),
        _size_exceeded,
    ),
    (_text(r"larger than maximum allowed limit (?P<most>\d+G)", 400, 413), _volume_too_large),
    (_text(r"maximum allowed number of disk devices \((?P<most>\d+)\)", 400, 403), _too_many_disks),
    (_text(r"", 413), lambda refused, _: LimitExceeded(_cause(refused), _QUOTA)),
    (_text(r"", 401), lambda refused, _: BackendDenied(_cause(refused), "Check the credentials")),
    (_text(r"Policy doesn't allow (?P<rule>\S+) to be performed", 403), _policy),
    (_text(r"", 403), lambda refused, _: BackendDenied(_cause(refused), "Check the role of the credentials")),
    (
        _text(r"volume (?P<volume>\S+) is already attached to instances: (?P<server>[^\s,]+)", 400),
        _in_use,
    ),
    # https://opendev.org/openstack/nova/src/tag/31.0.0/nova/volume/cinder.py, check_availability_zone
    (_text(r"Instance is in (?P<server>[^.]+)\. Volume is in (?P<volume>[^.]+)", 400), _other_zone),
    (_text(r"is locked", 409), _locked),
    (_text(r"while it is in (?P<kind>vm_state|task_state) (?P<state>\S+)", 409), _busy_server),
    (_text(r"Service is unavailable at this time", 409), _compute_down),
    (
        _text(r"^Volume \S+ could not be found", 404),
        lambda refused, _: VolumeNotFound(short(refused.message)),
    ),
    (
        _text(r"^Instance \S+ could not be found", 404),
        lambda refused, _: ConfigurationError(
            f"Nova does not know this server: {short(refused.message)}", "Check region and project"
        ),
    ),
    (
        _text(r"^Volume type .* could not be found", 404),
        lambda refused, _: InvalidOption(short(refused.message), "openstack volume type list shows them"),
    ),
    (
        _text(r"^Availability zone .* is invalid", 400),
        lambda refused, _: InvalidOption(
            short(refused.message), "openstack availability zone list --volume shows them"
        ),
    ),
    (_text(r"^Invalid volume: ", 400, 409), lambda refused, _: UnexpectedState(_cause(refused))),
    (
        _text(r"", 400),
        lambda refused, _: (
            InvalidOption(_cause(refused))
            if refused.action == "POST /volumes"
            else BackendError(_cause(refused))
        ),
    ),
    (_text(r"", 409), lambda refused, _: UnexpectedState(_cause(refused), "Try again")),
)
