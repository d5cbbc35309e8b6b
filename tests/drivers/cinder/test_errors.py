"""Each refusal that was recorded, as users see it."""

import pytest

from tests.drivers.cinder.recorded import REFUSALS, refusal
from volplug.drivers.cinder.errors import (
    OpenStackRefused,
    creation_failed,
    is_throttled,
    is_unavailable,
    translated,
)
from volplug.drivers.cinder.openstack import message_of
from volplug.errors import (
    BackendDenied,
    BackendError,
    BackendUnavailable,
    ConfigurationError,
    InvalidOption,
    LimitExceeded,
    UnexpectedState,
    VolplugError,
    VolumeInUse,
    VolumeNotFound,
)


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("show a volume that does not exist", VolumeNotFound, "could not be found"),
        ("another project's volume", VolumeNotFound, "could not be found"),
        ("create with an unknown type", InvalidOption, "Volume type with name nosuch could not be found"),
        ("unknown availability zone", InvalidOption, "Availability zone 'zz' is invalid"),
        ("create with size 0", InvalidOption, "0 is less than the minimum of 1"),
        ("one volume over the quota", LimitExceeded, "quota of volumes is used up: 2 are allowed"),
        (
            "gigabytes over the quota",
            LimitExceeded,
            "9GiB would exceed the project's quota of gigabytes: of 5GiB 1GiB are used",
        ),
        ("one snapshot over the quota", LimitExceeded, "Maximum number of snapshots allowed"),
        ("a reader deletes a server-side thing: resets a status", BackendDenied, "reset_status"),
        ("no token", BackendDenied, "requires authentication"),
        ("attach a volume in use by another server", VolumeInUse, "is attached to 7c1f2827-740c"),
        ("attach to a server that does not exist", ConfigurationError, "Nova does not know this server"),
        ("attach to a server still building", BackendUnavailable, "in vm_state building"),
        (
            "detach, the server's host is down",
            BackendUnavailable,
            "service on the server's compute host is down",
        ),
        ("delete an attached volume", UnexpectedState, "Volume status must be available or error"),
        ("detach a volume that is being detached", UnexpectedState, "Unable to detach volume"),
        ("stop a server that is stopped", BackendUnavailable, "in vm_state stopped"),
        ("attach at a device already taken", UnexpectedState, "is in use"),
    ],
)
def test_a_refusal_becomes_the_error_that_it_means(name: str, kind: type[VolplugError], text: str) -> None:
    error = translated(refusal(name))
    assert type(error) is kind
    assert text in error.cause


@pytest.mark.parametrize("name", REFUSALS)
def test_every_recorded_refusal_has_a_text_of_one_line_without_request_ids(name: str) -> None:
    error = translated(refusal(name))
    assert error.cause
    assert "\n" not in error.cause
    assert "Request-ID" not in error.cause
    assert not error.cause.removesuffix("...").endswith(".")


def test_the_holder_of_a_volume_in_use_is_named() -> None:
    error = translated(refusal("attach a volume in use by another server"))
    assert isinstance(error, VolumeInUse)
    assert error.holder == "7c1f2827-740c-4208-9e83-2f0eaf08d36f"


def test_a_locked_server_and_its_limit_of_disks_are_named() -> None:
    locked = OpenStackRefused("Nova", "POST /x", 409, "Instance 7c1f is locked")
    full = OpenStackRefused(
        "Nova",
        "POST /x",
        403,
        "The maximum allowed number of disk devices (26) to attach to a single instance has been exceeded.",
    )
    assert "locked" in translated(locked).cause
    assert type(translated(full)) is LimitExceeded
    assert "26" in translated(full).cause


def test_a_volume_of_another_zone_has_both_zones_named() -> None:
    text = (
        "Invalid volume: Instance 1 and volume 2 are not in the same availability_zone. Instance is in az1. "
        "Volume is in az2"
    )
    error = translated(OpenStackRefused("Nova", "POST /x", 400, text))
    assert error.code == "invalid-request"
    assert error.cause == "the volume is in availability zone az2, this server in az1"


def test_an_unknown_refusal_is_shown_as_it_is() -> None:
    error = translated(OpenStackRefused("Cinder", "GET /x", 418, "I am a teapot"))
    assert type(error) is BackendError
    assert error.cause == "Cinder refused GET /x: 418: I am a teapot"


@pytest.mark.parametrize(
    ("status", "message", "is_away"),
    [
        (500, "Unexpected API Error", True),
        (503, "", True),
        (429, "", True),
        (413, "This request was rate-limited.", True),
        (413, message_of(REFUSALS["one volume over the quota"]["body"]), False),
        (409, "Service is unavailable at this time.", False),
        (404, "", False),
    ],
)
def test_a_service_is_unavailable_by_its_status(status: int, message: str, is_away: bool) -> None:
    assert is_unavailable(status, message) == is_away
    assert is_throttled(status, message) == (is_away and status < 500)


@pytest.mark.parametrize(
    "text", ["", "<html>Bad Gateway</html>", "[]", "{}", '{"a": 1}', '{"a": {}, "b": {}}']
)
def test_a_body_that_is_no_error_of_openstack_has_no_message(text: str) -> None:
    assert message_of(text) == ""


_NO_BACKEND = "schedule allocate volume:Could not find any available weighted backend."
_DRIVER = "create volume from backend storage:Driver failed to create the volume."


@pytest.mark.parametrize(
    ("reasons", "code", "text"),
    [
        ([_NO_BACKEND], "limit-exceeded", "no storage with room"),
        (
            [_NO_BACKEND, _DRIVER, _DRIVER],
            "unexpected-state",
            "to create vol: create volume from backend storage",
        ),
        ([], "unexpected-state", "to create vol: it gives no reason"),
    ],
)
def test_a_failed_creation_is_explained_by_cinders_messages(reasons: list[str], code: str, text: str) -> None:
    """Without room there is the scheduler's message alone; after failures of all backends it comes, too."""
    error = creation_failed("vol", reasons)
    assert error.code == code
    assert text in error.cause
