"""What is a response of a service, and what is not."""

from collections.abc import Mapping
from typing import Any

import pytest

from volplug.drivers.cinder.openstack import CINDER, NOVA, Call, body_of
from volplug.errors import BackendUnavailable

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
