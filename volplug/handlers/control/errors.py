"""Errors of the control API: one shape for all, and the status of each."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from pydantic_core import to_json

from volplug import errors
from volplug.errors import InvalidRequest, MethodNotAllowed, Unauthenticated, VolplugError

REQUEST_ID: Final = "X-Request-Id"
# An error that is not listed has the status of the nearest of its bases.
_STATUSES: Final[Mapping[type[VolplugError], HTTPStatus]] = {
    errors.VolplugError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InvalidRequest: HTTPStatus.BAD_REQUEST,
    errors.IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RequestTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.RequestTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    errors.WrongMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    errors.WrongHost: HTTPStatus.MISDIRECTED_REQUEST,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.TooManyWaiting: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    errors.OperationInterrupted: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.LimitExceeded: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.Unsupported: HTTPStatus.NOT_IMPLEMENTED,
    errors.BackendError: HTTPStatus.BAD_GATEWAY,
    errors.BackendUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.OperationTimeout: HTTPStatus.GATEWAY_TIMEOUT,
    errors.DirectoryUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DirectoryDenied: HTTPStatus.BAD_GATEWAY,
    errors.PeerUnreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.PeerInvalid: HTTPStatus.BAD_GATEWAY,
}


def status_of(error: VolplugError) -> HTTPStatus:
    """Return the status of an error."""
    return next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)


def body_of(error: VolplugError, request_id: str) -> dict[str, Any]:
    """Return the body of an error, as `ErrorBody` of the document describes it."""
    return {
        "code": error.code,
        "cause": error.cause,
        "remedy": error.remedy,
        "volume": (error.context.volume if error.context else "") or None,
        "retryable": error.retryable,
        "request_id": request_id,
    }


def headers_of(error: VolplugError, request_id: str) -> dict[str, str]:
    """Return the headers that come with an error."""
    headers = {REQUEST_ID: request_id}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    return headers


def malformed_answer(status: int, message: str) -> web.Response:
    """Answer a request that cannot be parsed, and so has no id; or one that no handler could be built for."""
    error: VolplugError
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        error = VolplugError("internal error", "See the log of volplug")
    else:
        error = InvalidRequest(f"the request is malformed{': ' if message else ''}{message}")
    body = to_json(body_of(error, ""))
    return web.Response(body=body, status=status, content_type="application/json")
