"""The document, the page docs/api.md, the routes and the core's words agree."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.api.serving import Api
from volplug import control_server
from volplug.api import schemas
from volplug.api.access import client_of_token, read_access
from volplug.api.openapi import document
from volplug.api.routes import ROUTES
from volplug.connections import Bounds
from volplug.errors import ErrorContext, VolumeNotFound
from volplug.handlers.control.errors import body_of
from volplug.handlers.control.stream import KEEP_ALIVE_S
from volplug.volumes import durable_operations, events, operations
from volplug.volumes.events import EventKind
from volplug.volumes.ledger import Desired
from volplug.volumes.operations import OperationState, Origin
from volplug.volumes.takeover import TakeoverOutcome

pytestmark = pytest.mark.api

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


async def test_the_page_lists_what_the_served_document_lists(api: Api) -> None:
    served = await api.ok("/v1/openapi.json")
    rows = re.findall(r"^\| `([A-Z]+) (/\S+)` \|(.*)\|$", PAGE, re.MULTILINE)
    written = {
        (method, path): [cell.strip().replace("`", "") for cell in cells.split("|")]
        for method, path, cells in rows
    }
    assert written == {
        (method.upper(), path): _row(served, operation)
        for path, methods in served["paths"].items()
        for method, operation in methods.items()
    }


def _row(served: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    query = [each["name"] for each in operation["parameters"] if each["in"] == "query"]
    body: list[str] = []
    if "requestBody" in operation:
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        body = list(served["components"]["schemas"][reference.rpartition("/")[2]]["properties"])
    statuses = [status for status in operation["responses"] if status != "default"]
    good = [status for status in statuses if int(status) < 400]
    cells = [query, body, good, [each for each in statuses if each not in good]]
    role = operation["description"].removeprefix("Role: ")
    return [role, *(", ".join(cell) for cell in cells), operation["summary"]]


async def test_the_served_document_is_that_of_the_routes(api: Api) -> None:
    version = (await api.ok("/v1/version"))["version"]
    assert await api.ok("/v1/openapi.json") == document(version)
    assert len({route.operation_id for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize(
    ("words", "enumeration"),
    [
        (schemas.OperationWord, OperationState),
        (schemas.OriginWord, Origin),
        (schemas.EventWord, EventKind),
        (schemas.DesiredWord, Desired),
        (schemas.OutcomeWord, TakeoverOutcome),
    ],
)
def test_the_words_are_those_of_the_core(words: object, enumeration: type[StrEnum]) -> None:
    assert set(get_args(words)) == set(enumeration)


@pytest.mark.parametrize(
    "text",
    [
        f"(100, at most {schemas.MAX_PAGE})",
        f"The last {operations._KEPT:,} that have ended",
        f"the last {durable_operations._KEPT:,} of the API",
        f"The last {events._KEPT:,} are kept in memory",
        f"comes every {KEEP_ALIVE_S:.0f} s",
        f"bodies {Bounds().body_bytes >> 10} KiB, each arrives within {Bounds().head_s:.0f} s",
        f"up to {control_server._CONNECTIONS:,} connections",
    ],
)
def test_the_page_has_the_limits_of_the_code(text: str) -> None:
    assert text in " ".join(PAGE.split())


def test_the_page_names_what_a_limit_of_a_backend_has() -> None:
    (named,) = re.findall(r"its `limits`, each with (.*?)\.", PAGE, re.DOTALL)
    assert re.findall(r"`(\w+)`", named) == list(schemas.LimitBody.model_fields)


def test_the_access_file_of_the_page_is_right_and_permits_no_word() -> None:
    (written,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    lines, mistakes = read_access(written)
    assert (len(lines), mistakes) == (2, [])
    assert client_of_token(lines, "hello") is None


def test_the_body_of_an_error_is_as_described() -> None:
    error = VolumeNotFound("no such volume").in_context(ErrorContext("get", "db"))
    body = body_of(error, "5f0c1d2e3a4b5c6d")
    assert schemas.ErrorBody.model_validate(body).model_dump() == body
    (shown,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert schemas.ErrorBody.model_validate_json(shown).model_dump() == body
