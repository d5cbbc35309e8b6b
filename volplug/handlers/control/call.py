"""One request of the control API: read, checked against its route, and answered."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, TypeVar, cast

from aiohttp import web
from pydantic import BaseModel, ValidationError

from volplug.api.access import ApiClient
from volplug.api.routes import JSON, Route
from volplug.errors import InvalidRequest, RequestTooLarge, RequestTooSlow, WrongMediaType
from volplug.handlers.control.errors import REQUEST_ID
from volplug.volumes.operations import ApiCall

_M = TypeVar("_M", bound=BaseModel)
_GIVEN_ID: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)
_KEY: Final = re.compile(r"[!-~]{1,200}", re.ASCII)
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """An answer.

    Attributes:
        body: None for none.
        status: Of HTTP.
        headers: Those of its own.
    """

    body: BaseModel | None
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)

    def to_response(self, request_id: str, in_text: Callable[[str], str]) -> web.Response:
        """Return it for aiohttp; `in_text` is applied to the body's text."""
        headers = {REQUEST_ID: request_id, **self.headers}
        if self.body is None:
            return web.Response(status=self.status, headers=headers)
        text = in_text(self.body.model_dump_json())
        return web.Response(text=text, status=self.status, headers=headers, content_type=JSON)


@dataclass(frozen=True, slots=True)
class ReadCall:
    """One request, read and checked.

    Attributes:
        request: aiohttp's.
        route: What was called.
        request_id: For log and answer.
        client: Who sends it.
        parameters: Of the path.
        sent: Its body; None where the route has none.
        asked: Its query; None where the route has none.
        is_permitted: Tells whether its client is still permitted to send it.
    """

    request: web.BaseRequest
    route: Route
    request_id: str
    client: ApiClient
    parameters: Mapping[str, str]
    sent: BaseModel | None
    asked: BaseModel | None
    is_permitted: Callable[[], Awaitable[bool]]

    def body(self, kind: type[_M]) -> _M:
        """Return the body, which is of the route's kind."""
        return cast(_M, self.sent)

    def query(self, kind: type[_M]) -> _M:
        """Return the query, which is of the route's kind."""
        return cast(_M, self.asked)

    def api_call(self) -> ApiCall:
        """Return what the core keeps of the request.

        Raises:
            InvalidRequest: If its idempotency key is not allowed.
        """
        key = self.request.headers.get("Idempotency-Key", "")
        if "Idempotency-Key" in self.request.headers and not _KEY.fullmatch(key):
            raise InvalidRequest(
                "the Idempotency-Key is not allowed", "Use 1 to 200 visible ASCII characters"
            )
        called = [self.route.operation_id, sorted(self.parameters.items())]
        what = json.dumps(called).encode() + (self.sent.model_dump_json().encode() if self.sent else b"")
        return ApiCall(
            request_id=self.request_id, idempotency_key=key, fingerprint=hashlib.sha256(what).hexdigest()
        )


def request_id_of(request: web.BaseRequest) -> str:
    """Return the id that the client gives, else a new one."""
    given = request.headers.get(REQUEST_ID, "")
    return given if _GIVEN_ID.fullmatch(given) else secrets.token_hex(8)


def read_query(request: web.BaseRequest, route: Route) -> BaseModel | None:
    """Read the query as the route has it.

    Raises:
        InvalidRequest: If it does not fit.
    """
    given = request.query
    if route.query is None:
        if given:
            raise InvalidRequest(f"unknown parameter {_shown(next(iter(given)))} in the query")
        return None
    if len(given) > len(set(given)):
        raise InvalidRequest("a parameter of the query is given twice")
    try:
        return route.query.model_validate_strings(dict(given))
    except ValidationError as error:
        raise _mistake("query", error) from error


async def read_body(request: web.BaseRequest, route: Route, timeout_s: float) -> BaseModel | None:
    """Read the body as the route has it.

    Raises:
        InvalidRequest: If it does not fit.
        ConnectionResetError: If the client left before it was whole.
    """
    raw = await _read_whole(request, timeout_s) if request.body_exists else b""
    if route.body is None:
        if raw:
            raise InvalidRequest("the request has a body, and none is read here")
        return None
    if raw and request.content_type != JSON:
        raise WrongMediaType("the body is not declared as JSON", f"Send the header Content-Type: {JSON}")
    try:
        return route.body.model_validate_json(raw or b"{}")
    except ValidationError as error:
        raise _mistake("body", error) from error


async def _read_whole(request: web.BaseRequest, timeout_s: float) -> bytes:
    try:
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise RequestTooLarge(f"the body is longer than {request.client_max_size >> 10} KiB") from error
    except TimeoutError as error:
        raise RequestTooSlow(f"the body did not arrive within {timeout_s:.0f} s", "Try again") from error
    except RuntimeError as error:  # of aiohttp's StreamReader, if the client left before it waits
        raise ConnectionResetError from error
    except web.RequestPayloadError as error:
        raise InvalidRequest("the body is malformed") from error


def _mistake(where: str, error: ValidationError) -> InvalidRequest:
    """Return what is wrong first; values are not repeated."""
    first, *others = error.errors(include_url=False, include_input=False, include_context=False)
    place = ".".join(_shown(part) for part in first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    return InvalidRequest(
        f"{where}: {place + ': ' if place else ''}{first['msg']}{more}", "See /v1/openapi.json"
    )


def _shown(part: object) -> str:
    text = str(part)
    return text if len(text) <= 40 else f"{text[:40]}..."
