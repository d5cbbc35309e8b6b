"""What is done for each route of the control API: calls of the core, and its answers as bodies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from volplug import __version__
from volplug.api import schemas
from volplug.api.openapi import document
from volplug.api.routes import EVENT_STREAM
from volplug.errors import BackendNotFound, InvalidOption, NotFound, PreconditionFailed
from volplug.handlers.control import shown
from volplug.handlers.control.call import ApiAnswer, ReadCall
from volplug.handlers.control.cluster import ClusterRoutes, GetMembership
from volplug.handlers.control.monitoring import MonitoringRoutes
from volplug.handlers.control.pages import operation_page, volume_page
from volplug.handlers.control.stream import KEEP_ALIVE_S, Waiting, stream_events
from volplug.managed import HostPaths, unchanged
from volplug.volumes.events import EventFilter, EventKind
from volplug.volumes.operations import ApiCall, Operation, OperationState
from volplug.volumes.options import read_options
from volplug.volumes.service import VolumeService
from volplug.volumes.views import VolumeView

Start = Callable[[str, ApiCall, VolumeView | None], Awaitable[Operation]]
RouteHandler = Callable[[ReadCall], Awaitable[ApiAnswer | web.StreamResponse]]
_ANY: Final = "*"


class _Document(BaseModel):
    """The OpenAPI document."""

    model_config = ConfigDict(extra="allow")


class ControlRoutes:
    """The handlers of all routes.

    Args:
        volumes: The core.
        waiting: Requests that wait.
        as_on_host: Replaces paths of this process by those of the host, in event streams.
        keep_alive_s: After which silence an event stream sends a comment.
        membership: See `ClusterRoutes`.
    """

    def __init__(
        self,
        volumes: VolumeService,
        waiting: Waiting,
        as_on_host: HostPaths = unchanged,
        keep_alive_s: float = KEEP_ALIVE_S,
        membership: GetMembership | None = None,
    ) -> None:
        self._volumes = volumes
        self._waiting = waiting
        self._as_on_host = as_on_host
        self._keep_alive_s = keep_alive_s
        self._cluster = ClusterRoutes(membership)
        self._document = ApiAnswer(_Document.model_validate(document(__version__)))

    def handlers(self) -> Mapping[str, RouteHandler]:
        """Return the handler of each route by its operation id."""
        of_volume: dict[str, RouteHandler] = {
            "getVolume": self._get_volume,
            "deleteVolume": self._delete_volume,
            "takeOverVolume": self._take_over_volume,
            "releaseVolume": self._release_volume,
        }
        return {
            "getVersion": self._get_version,
            "getDocument": self._get_document,
            "listVolumes": self._list_volumes,
            "createVolume": self._create_volume,
            **of_volume,
            **{f"{name}InBackend": handler for name, handler in of_volume.items()},
            "listBackends": self._list_backends,
            "getBackend": self._get_backend,
            "listNodes": self._list_nodes,
            "getNode": self._get_node,
            "listOperations": self._list_operations,
            "getOperation": self._get_operation,
            "cancelOperation": self._cancel_operation,
            "listEvents": self._list_events,
            **self._cluster.handlers(),
            **MonitoringRoutes(self._volumes.monitor).handlers(),
        }

    async def _get_version(self, call: ReadCall) -> ApiAnswer:
        return ApiAnswer(schemas.VersionBody(version=__version__))

    async def _get_document(self, call: ReadCall) -> ApiAnswer:
        return self._document

    # Volumes

    async def _list_volumes(self, call: ReadCall) -> ApiAnswer:
        page, cursor = volume_page(await self._volumes.list(), call.query(schemas.VolumeQuery))
        return ApiAnswer(
            schemas.VolumePage(volumes=[shown.volume_body(view) for view in page], next_cursor=cursor)
        )

    async def _get_volume(self, call: ReadCall) -> ApiAnswer:
        body = shown.volume_body(await self._found(call))
        etag = shown.etag_of(body)
        if _matches(call, "If-None-Match", etag):
            return ApiAnswer(None, HTTPStatus.NOT_MODIFIED, {"ETag": etag})
        return ApiAnswer(body, headers={"ETag": etag})

    async def _create_volume(self, call: ReadCall) -> ApiAnswer:
        sent = call.body(schemas.VolumeCreation)
        keys = {"backend": sent.backend, "size": f"{sent.size_bytes}B" if sent.size_bytes else None}
        given = {key: value for key, value in keys.items() if value}
        if twice := given.keys() & sent.options.keys():  # `read_options` finds other spellings
            raise InvalidOption(f"option {min(twice)!r} is given twice")
        request = read_options(sent.name, {**sent.options, **given})
        return _accepted(await self._volumes.start_create(request, call.api_call()))

    async def _delete_volume(self, call: ReadCall) -> ApiAnswer:
        return await self._start(call, self._volumes.start_delete)

    async def _take_over_volume(self, call: ReadCall) -> ApiAnswer:
        call.api_call()  # its headers are checked in any case
        if call.body(schemas.TakeoverRequest).dry_run:
            name = (await self._found(call)).name
            return ApiAnswer(shown.plan_body(await self._volumes.plan_takeover(name)))
        return await self._start(call, self._volumes.start_takeover)

    async def _release_volume(self, call: ReadCall) -> ApiAnswer:
        return await self._start(call, self._volumes.start_release)

    async def _found(self, call: ReadCall) -> VolumeView:
        """Return the volume that the path names."""
        return await self._volumes.get(call.parameters["name"], call.parameters.get("backend"))

    async def _start(self, call: ReadCall, start: Start) -> ApiAnswer:
        """Start an operation on a volume that exists and is as the client knows it.

        Not checked for a request that is repeated: the volume may be gone since, by that very request.
        """
        api_call, meant = call.api_call(), None
        if not self._is_repeated(api_call):
            meant = await self._found(call)
            if "If-Match" in call.request.headers:
                etag = shown.etag_of(shown.volume_body(meant))
                if not _matches(call, "If-Match", etag):
                    raise PreconditionFailed("the volume is not what If-Match says", "Read it again")
        return _accepted(await start(call.parameters["name"], api_call, meant))

    def _is_repeated(self, api_call: ApiCall) -> bool:
        key = api_call.idempotency_key
        return key != "" and any(each.idempotency_key == key for each in self._volumes.operations.durable)

    # All else

    async def _list_backends(self, call: ReadCall) -> ApiAnswer:
        views = await self._volumes.backends()
        return ApiAnswer(schemas.BackendList(backends=[shown.backend_body(view) for view in views]))

    async def _get_backend(self, call: ReadCall) -> ApiAnswer:
        for view in await self._volumes.backends():
            if view.name == call.parameters["name"]:
                return ApiAnswer(shown.backend_body(view))
        raise BackendNotFound("no such backend", "GET /v1/backends lists them")

    async def _list_nodes(self, call: ReadCall) -> ApiAnswer:
        return ApiAnswer(schemas.NodeList(nodes=[shown.node_body(self._volumes.node())]))

    async def _get_node(self, call: ReadCall) -> ApiAnswer:
        body = shown.node_body(self._volumes.node())
        if body.id != call.parameters["id"]:
            raise NotFound("no such node", "GET /v1/nodes lists them")
        return ApiAnswer(body)

    async def _list_operations(self, call: ReadCall) -> ApiAnswer:
        query = call.query(schemas.OperationQuery)
        page, cursor = operation_page(self._volumes.operations.list(), query)
        return ApiAnswer(
            schemas.OperationPage(
                operations=[shown.operation_body(each) for each in page], next_cursor=cursor
            )
        )

    async def _get_operation(self, call: ReadCall) -> ApiAnswer:
        operations, wait_s = self._volumes.operations, call.query(schemas.WaitQuery).wait_s
        operation = operations.get(call.parameters["id"])
        if wait_s and operation.state is OperationState.RUNNING:
            with self._waiting.counted(call.request):
                operation = await operations.wait(operation.operation_id, wait_s)
        return ApiAnswer(shown.operation_body(operation))

    async def _cancel_operation(self, call: ReadCall) -> ApiAnswer:
        return _accepted(self._volumes.operations.cancel(call.parameters["id"]))

    async def _list_events(self, call: ReadCall) -> ApiAnswer | web.StreamResponse:
        query, events = call.query(schemas.EventQuery), self._volumes.events
        wanted = EventFilter(
            volume=query.volume or "",
            backend=query.backend or "",
            operation_id=query.operation or "",
            kinds=frozenset({EventKind(query.kind)} if query.kind else ()),
        )
        if EVENT_STREAM in call.request.headers.get("Accept", ""):
            after = call.request.headers.get("Last-Event-ID") or query.after or events.latest
            with self._waiting.counted(call.request):
                return await stream_events(call, events, after, wanted, self._as_on_host, self._keep_alive_s)
        batch = events.read(query.after or "", wanted, query.limit)
        page = schemas.EventPage(
            events=[shown.event_body(event) for event in batch.events],
            cursor=batch.cursor,
            is_lost=batch.is_lost,
        )
        return ApiAnswer(page)


def _accepted(operation: Operation) -> ApiAnswer:
    location = f"/v1/operations/{operation.operation_id}"
    return ApiAnswer(shown.operation_body(operation), HTTPStatus.ACCEPTED, {"Location": location})


def _matches(call: ReadCall, header: str, etag: str) -> bool:
    """Tell whether a header names the tag, or any; weak tags of it never match."""
    given = {each.strip() for each in call.request.headers.get(header, "").split(",")}
    return etag in given or _ANY in given
