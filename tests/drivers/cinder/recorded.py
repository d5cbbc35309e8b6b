"""What an OpenStack of 2025.1 answered (Cinder 26, Nova 31), and a caller that answers with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from volplug.drivers.cinder.errors import OpenStackRefused
from volplug.drivers.cinder.openstack import CINDER, NOVA, Call, body_of, message_of
from volplug.drivers.cinder.options import metadata_of
from volplug.models import VolumeSpec
from volplug.sizes import GIB

_DATA: Final = Path(__file__).parent / "data"


def _load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_DATA / name).read_text())
    return found


LIMITS: Final = _load("limits.json")
VOLUMES: Final = _load("volumes.json")
SERVERS: Final = _load("servers.json")
REFUSALS: Final = _load("refusals.json")
SPEC: Final = VolumeSpec("todolist", GIB, driver_options=(("type", "files"),))
TOKEN: Final = "0123456789abcdef"  # noqa: S105  # of a creation

Answer = Mapping[str, Any] | Exception


def volume(state: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401  # as the API has it
    """A volume in a state, as recorded, with the metadata of one of volplug's."""
    metadata = metadata_of(SPEC, "prod", {}, TOKEN)
    return {**VOLUMES[state], "metadata": metadata, **changes}


def refusal(name: str) -> OpenStackRefused:
    """A refusal by its name in the recording."""
    found = REFUSALS[name]
    method, _, url = found["request"].partition(" ")
    service = NOVA if ":8774" in url else CINDER
    path = "/volumes" if method == "POST" and url.endswith("/volumes") else "/x"
    return OpenStackRefused(service, f"{method or 'POST'} {path}", found["status"], message_of(found["body"]))


class Answering:
    """Answers calls from a table of actions, such as `GET /servers/ID`; each answer may be a function.

    Attributes:
        calls: The calls so far.
    """

    def __init__(self, answers: Mapping[str, Answer | Callable[[Call], Answer]]) -> None:
        self.answers = dict(answers)
        self.calls: list[Call] = []

    async def call(self, call: Call) -> Mapping[str, Any]:
        self.calls.append(call)
        await asyncio.sleep(0)  # so that calls of others come in between
        answer = self.answers[call.action]
        found = answer(call) if callable(answer) else answer
        if isinstance(found, Exception):
            raise found
        return body_of(call, json.dumps(found))
