"""Every error has one shape, its status, and the same id in answer and log."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from tests.api.serving import Api, serving, unix_client
from tests.test_errors import tree
from tests.volumes.world import World
from volplug.api.schemas import ErrorBody
from volplug.config import Settings
from volplug.control_server import LazyHandler
from volplug.errors import CommandFailed, ErrorContext, VolplugError
from volplug.handlers.control.errors import malformed_answer
from volplug.handlers.control.stream import Waiting
from volplug.host.threads import Pool
from volplug.server import Handler, SocketServer, UnixSocket
from volplug.volumes.service import VolumeService
from volplug.volumes.views import VolumeView

pytestmark = pytest.mark.api

# Codes that are not listed have 500: something on this host failed, or a bug.
STATUSES = {
    400: "invalid-request invalid-name invalid-option option-help invalid-size configuration-error usage",
    401: "unauthenticated",
    403: "forbidden join-refused",
    404: "not-found volume-not-found operation-not-found backend-not-found node-not-found",
    405: "method-not-allowed",
    408: "request-too-slow",
    409: "conflict client-gone not-cancellable cancelled volume-exists volume-in-use duplicate-volumes "
    "not-a-member already-a-member node-exists not-a-signer",
    412: "precondition-failed",
    413: "request-too-large",
    415: "wrong-media-type",
    421: "wrong-host",
    422: "idempotency-key-reused",
    501: "unsupported needs-etcd",
    502: "backend-error backend-denied unexpected-state directory-denied peer-invalid",
    503: "backend-unavailable too-many-waiting interrupted directory-unavailable peer-unreachable",
    504: "operation-timeout",
    507: "limit-exceeded",
}
_BY_CODE = {code: status for status, codes in STATUSES.items() for code in codes.split()}


class FailingService(VolumeService):
    """A core whose every look-up fails."""

    error: Exception

    async def get(self, name: str, backend: str | None = None) -> VolumeView:
        raise self.error


@pytest.fixture
async def failing(
    world: World, directory: Path, settings: Settings
) -> AsyncIterator[tuple[FailingService, Api]]:
    service = FailingService(world.node, world.service._creator._defaults)
    assert settings.control_socket is not None
    async with serving(service, settings), unix_client(settings.control_socket) as client:
        yield service, client


def _made(kind: type[VolplugError]) -> VolplugError:
    return CommandFailed(("mkfs",), 1, "") if kind is CommandFailed else kind("it failed", "Mend it")


async def test_every_error_has_its_status_and_the_one_shape(failing: tuple[FailingService, Api]) -> None:
    service, client = failing
    for kind in tree():
        service.error = error = _made(kind).in_context(ErrorContext("get", "db"))
        with capture_logs() as logs:
            answer = await client.get("/v1/volumes/db", X_Request_Id="mine")
        assert answer.status == _BY_CODE.get(kind.code, 500), kind
        assert answer.headers["X-Request-Id"] == "mine"
        assert ErrorBody.model_validate_json(answer.body) == ErrorBody(
            code=kind.code,
            cause=error.cause,
            remedy=error.remedy,
            volume="db",
            retryable=kind.retryable,
            request_id="mine",
        )
        (line,) = logs
        assert (line["event"], line["code"], line["request_id"]) == ("call failed", kind.code, "mine")


async def test_a_bug_is_answered_and_logged_with_its_traceback(failing: tuple[FailingService, Api]) -> None:
    service, client = failing
    service.error = ZeroDivisionError("division by zero")
    with capture_logs() as logs:
        answer = await client.get("/v1/volumes/db")
    assert (answer.status, answer.json["code"]) == (500, "internal-error")
    assert [(line["event"], line.get("exc_info", False)) for line in logs] == [
        ("internal error", True),
        ("call failed", False),
    ]
    assert {line["request_id"] for line in logs} == {
        answer.json["request_id"],
        answer.headers["X-Request-Id"],
    }


async def test_a_handler_that_could_not_be_built_is_built_by_the_next_request(directory: Path) -> None:
    failures = [OSError(24, "Too many open files")]

    def build() -> tuple[Handler, Waiting]:
        if failures:
            raise failures.pop()
        return greet, Waiting(0)

    async def greet(_: web.BaseRequest) -> web.Response:
        return web.Response(text="hello")

    path = directory / "c.sock"
    unix = await asyncio.to_thread(UnixSocket.bind, path, "VOLPLUG_CONTROL_SOCKET")
    server = SocketServer(LazyHandler(Pool("test", 1), build), malformed=malformed_answer)
    await server.start(unix)
    async with unix_client(path) as client:
        failed = await client.get("/")
        assert (failed.status, ErrorBody.model_validate_json(failed.body).code) == (500, "internal-error")
        assert (await client.get("/")).body == b"hello"
    await server.stop()
    await asyncio.to_thread(unix.close)


def test_every_status_belongs_to_a_code_that_exists() -> None:
    assert set(_BY_CODE) <= {kind.code for kind in tree()}


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "caf\u00e9", "a\tb"])
async def test_an_odd_request_id_is_replaced(api: Api, given: str) -> None:
    answer = await api.get("/v1/version", X_Request_Id=given)
    assert answer.status == 200
    assert answer.headers["X-Request-Id"] not in ("", given)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/", "not-found"),
        ("/v1", "not-found"),
        ("/v1/volumes/", "not-found"),
        ("//v1/version", "not-found"),
        ("/v1/version/", "not-found"),
        ("/V1/version", "not-found"),
        ("/v1/nodes/other", "not-found"),
        ("/v1/backends/other", "backend-not-found"),
        ("/v1/operations/other", "operation-not-found"),
        ("/v1/volumes/none", "volume-not-found"),
        ("/v1/volumes/other/none", "backend-not-found"),
        ("/v1/volumes/memory/none", "volume-not-found"),
        ("/v1/volumes/a%2Fb", "volume-not-found"),
        ("/v1/volumes/%2E%2E", "volume-not-found"),
        ("/v1/volumes/%00", "volume-not-found"),
        ("/v1/volumes/%FF", "volume-not-found"),
        ("/v1/volumes/..%2f..%2fetc%2fpasswd", "volume-not-found"),
        ("/v1/volumes/a/b/c", "not-found"),
        (f"/v1/volumes/{'x' * 4000}", "volume-not-found"),
    ],
)
async def test_what_no_path_leads_to_is_not_found(api: Api, path: str, code: str) -> None:
    answer = await api.get(path)
    assert (answer.status, answer.json["code"]) == (404, code)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/volumes", "GET, POST"),
        ("PATCH", "/v1/volumes/v", "DELETE, GET"),
        ("POST", "/v1/version", "GET"),
    ],
)
async def test_another_method_is_refused_with_those_that_there_are(
    api: Api, method: str, path: str, allowed: str
) -> None:
    answer = await api.call(method, path)
    assert (answer.status, answer.json["code"], answer.headers["Allow"]) == (
        405,
        "method-not-allowed",
        allowed,
    )
