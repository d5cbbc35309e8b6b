"""What is a response of a service, and what is not."""

from collections.abc import Mapping
from typing import Any

import pytest

from volplug.drivers.cinder.openstack import CINDER, NOVA, Call, OpenStack, body_of
from volplug.drivers.cinder.settings import CinderSettings
from volplug.errors import BackendUnavailable, ConfigurationError

SHOW = Call(CINDER, "GET", "/volumes/cf24f34d-6ca6-416e-b1d3-20333d32df44", expects="volume")
DETACH = Call(NOVA, "DELETE", "/servers/1/os-volume_attachments/2")


@pytest.mark.parametrize(
    ("call", "text", "body"),
    [
        (SHOW, '{"volume": {"id": "1"}}', {"volume": {"id": "1"}}),
        (DETACH, "", {}),
        (DETACH, " \n", {}),
        (DETACH, "{}", {}),
    ],
)
def test_a_body_is_read(call: Call, text: str, body: Mapping[str, Any]) -> None:
    assert body_of(call, text) == body


@pytest.mark.parametrize("text", ["", "<html>", "[]", "null", "{}", '{"volumes": []}'])
def test_a_response_without_what_the_service_returns_is_none(text: str) -> None:
    """A proxy may answer with a page of its own, and status 200."""
    with pytest.raises(BackendUnavailable, match="Cinder did not answer GET /volumes/ID"):
        body_of(SHOW, text)


def test_a_call_is_named_without_ids_and_changes_unless_it_reads() -> None:
    assert (SHOW.action, SHOW.changes) == ("GET /volumes/ID", False)
    assert DETACH.changes


async def test_an_auth_url_that_is_no_url_is_a_mistake_in_the_configuration() -> None:
    settings = CinderSettings(
        auth_url="http://[::1",
        application_credential_id="a",
        application_credential_secret="b",  # noqa: S106  # not a real one
    )
    with pytest.raises(ConfigurationError, match="refuses the settings"):
        await OpenStack(settings).call(SHOW)
