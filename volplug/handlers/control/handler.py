"""The control API /v1 over HTTP: who calls, what is called, and how errors are answered.

A handler for each route of `volplug/api/routes.py` is in `routes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Final, cast

import structlog
from aiohttp import web
from pydantic_core import to_json
from structlog.contextvars import bind_contextvars

from volplug.api.routes import JSON, ROUTES, Route
from volplug.errors import (
    Forbidden,
    MethodNotAllowed,
    NotFound,
    Unauthenticated,
    VolplugError,
    internal_error,
)
from volplug.handlers.control.access import Admit
from volplug.handlers.control.call import ApiAnswer, ReadCall, read_body, read_query, request_id_of
from volplug.handlers.control.errors import body_of, headers_of, status_of
from volplug.handlers.control.routes import ControlRoutes, RouteHandler
from volplug.managed import HostPaths, unchanged

_LOG = structlog.get_logger(__name__)
_BODY_S: Final = 10.0  # clients send head and body at once
_SERVER_ERROR: Final = 500
_LONGEST_PATH: Final = 200  # in the log


class ControlHandler:
    """Answers the requests of the control API; an argument of `volplug.server.SocketServer`.

    Args:
        routes: What is done for each route.
        admit: Says who the client is.
        body_s: How long the body of a request may take.
        as_on_host: Replaces paths of this process by those of the host, in what clients read.
    """

    def __init__(
        self,
        routes: ControlRoutes,
        admit: Admit,
        body_s: float = _BODY_S,
        as_on_host: HostPaths = unchanged,
    ) -> None:
        self._admit = admit
        self._body_s = body_s
        self._as_on_host = as_on_host
        self._router = web.UrlDispatcher()
        handlers = routes.handlers()
        self._routes = {
            self._router.add_route(route.method, route.path, _unrouted): (route, handlers[route.operation_id])
            for route in ROUTES
        }

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; raises only if the client has left."""
        request_id = request_id_of(request)
        bind_contextvars(request_id=request_id)  # until the next request of the connection
        try:
            return await self._answer(cast(web.Request, request), request_id)
        except ConnectionError:
            raise
        except VolplugError as error:
            return self._failed(request, error, request_id)
        except Exception as error:  # a bug is answered like any other error
            _LOG.exception("internal error", call=_name_of(request), request_id=request_id)
            return self._failed(request, internal_error(error), request_id)

    async def _answer(self, request: web.Request, request_id: str) -> web.StreamResponse:
        client = await self._admit(request)
        route, handler, parameters = await self._resolved(request)
        is_permitted = partial(self._is_permitted, request, route)
        if not route.permits(client.role):
            raise Forbidden(
                f"client {client.name!r} has the role {client.role}", f"The request needs {route.role}"
            )
        asked = read_query(request, route)
        sent = await read_body(request, route, self._body_s)
        answer = await handler(
            ReadCall(request, route, request_id, client, parameters, sent, asked, is_permitted)
        )
        if not isinstance(answer, ApiAnswer):
            return answer
        if answer.status is HTTPStatus.ACCEPTED:
            _LOG.info(
                "call of the control API",
                call=_name_of(request),
                client=client.name,
                started=answer.headers["Location"].rpartition("/")[2],
                request_id=request_id,
            )
        return answer.to_response(request_id, self._as_on_host)

    async def _is_permitted(self, request: web.Request, route: Route) -> bool:
        try:
            return route.permits((await self._admit(request)).role)
        except VolplugError:
            return False

    async def _resolved(self, request: web.Request) -> tuple[Route, RouteHandler, Mapping[str, str]]:
        match = await self._router.resolve(request)
        refusal = match.http_exception
        if isinstance(refusal, web.HTTPMethodNotAllowed):
            allowed = tuple(sorted(refusal.allowed_methods))
            raise MethodNotAllowed("the path does not have this method", allowed=allowed)
        if refusal is not None:
            raise NotFound("no such path", "GET /v1/openapi.json lists them")
        return *self._routes[match.route], dict(match)

    def _failed(self, request: web.BaseRequest, error: VolplugError, request_id: str) -> web.Response:
        status = status_of(error)
        is_serious = status >= _SERVER_ERROR or isinstance(error, Forbidden | Unauthenticated)
        (_LOG.warning if is_serious else _LOG.info)(
            "call failed",
            call=_name_of(request),
            code=error.code,
            error=str(error),
            request_id=request_id,
            **({"peer": request.remote} if request.remote else {}),  # on TCP
        )
        body = self._as_on_host(to_json(body_of(error, request_id)).decode())
        return web.Response(
            text=body, status=status, headers=headers_of(error, request_id), content_type=JSON
        )


def _name_of(request: web.BaseRequest) -> str:
    """Return what is called, without the query."""
    return f"{request.method[:16]} {request.rel_url.raw_path[:_LONGEST_PATH]}"


async def _unrouted(request: web.Request) -> web.StreamResponse:
    """Stand in for handlers, which the router only has to find."""
    raise NotImplementedError
