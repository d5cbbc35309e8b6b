"""Docker's VolumeDriver protocol over HTTP.

What dockerd does with the answers decides about data, so the rules are strict:

* One JSON object; errors are `{"Err": "..."}` with status 500. podman reads the status alone, taking 200
  for success; dockerd reads either.
* An answered error on Get means to dockerd that the volume does not exist: it forgets it, and may create a
  local one in its place. So Get answers nothing but the truth; if that is not known, the connection is
  closed, which dockerd reports as a failure to communicate.
* An error on List makes dockerd warn and show what it remembers, so it is answered like any other.
* dockerd's retries of a broken connection arrive with an empty body: closed as well, for the same reason.

The requests have no Content-Type, may have an empty Host, and Opts may be null.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

import structlog
from aiohttp import web
from structlog.contextvars import bind_contextvars, unbind_contextvars

from volplug.errors import (
    ClientGone,
    ErrorContext,
    InvalidRequest,
    OptionHelp,
    VolplugError,
    VolumeNotFound,
    internal_error,
)
from volplug.handlers.answers import CONTENT_TYPE, WholeAnswer, ready_bytes
from volplug.managed import HostPaths, unchanged
from volplug.models import EngineIdentity
from volplug.sizes import format_size, rounded_size
from volplug.volumes.ledger import Desired
from volplug.volumes.mount import Client, MountAnswer
from volplug.volumes.options import CreateRequest, read_options
from volplug.volumes.usage_sampler import FRESH_S, UsageSample
from volplug.volumes.views import VolumeView

_LOG = structlog.get_logger(__name__)
_VERB: Final = "/VolumeDriver."
_BODY_S: Final = 10.0  # dockerd and podman send head and body at once
_MAX_ID_LENGTH: Final = 256  # Docker's have 64 characters; IDs are kept, so their length is bounded
_ACTIVATED: Final = ready_bytes({"Implements": ["VolumeDriver"]})

Answer = dict[str, Any] | bytes | WholeAnswer  # bytes: a whole answer, made before


class DockerVerbs(Protocol):
    """The core, as far as this handler needs it."""

    async def create(self, request: CreateRequest) -> None:
        """Provision a volume."""
        ...

    async def remove(self, name: str) -> None:
        """Delete a volume."""
        ...

    async def mount(self, name: str, mount_id: str, client: Client) -> MountAnswer:
        """Mount a volume."""
        ...

    async def unmount(self, name: str, mount_id: str) -> None:
        """Take back one mount."""
        ...

    async def path(self, name: str) -> str:
        """Return where a volume is mounted."""
        ...

    async def get(self, name: str) -> VolumeView:
        """Describe a volume."""
        ...

    async def list(self) -> Sequence[VolumeView]:
        """Describe all volumes."""
        ...

    async def engine_seen(self, engine: EngineIdentity) -> None:
        """Record which run of the engine connected."""
        ...


class _NoAnswerError(Exception):
    """The connection has to be closed without an answer."""


@dataclass(frozen=True, slots=True)
class _PluginRequest:
    """One request, read."""

    body: dict[str, Any]
    request: web.BaseRequest

    def text(self, key: str, *, default: str | None = None) -> str:
        value = self.body.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise InvalidRequest(f"the request's {key} is not a text")
        return value

    def mount_id(self) -> str:
        """Return the ID; from now on, the log's lines of the call name it."""
        mount_id = self.text("ID", default="")
        if len(mount_id) > _MAX_ID_LENGTH:
            raise InvalidRequest(f"the request's ID is longer than {_MAX_ID_LENGTH} characters")
        bind_contextvars(mount_id=mount_id)
        return mount_id

    def options(self) -> dict[str, str]:
        value = self.body.get("Opts") or {}
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise InvalidRequest("the request's Opts are not an object of texts")
        return value

    def is_gone(self) -> bool:
        transport = self.request.transport
        return transport is None or transport.is_closing()


class PluginHandler:
    """Answers the requests of Docker's VolumeDriver protocol; an argument of `aiohttp.web.Server`.

    Args:
        volumes: The core, or why nothing may be served: every call fails with that then.
        scope: `global` or `local`, for Capabilities.
        identify_engine: Returns which run of the engine sent a request, if that can be seen.
        body_s: How long the body of a request may take.
        as_on_host: Replaces paths of this process by those of the host, in what users read.
    """

    def __init__(
        self,
        volumes: DockerVerbs | VolplugError,
        scope: str,
        identify_engine: Callable[[web.BaseRequest], EngineIdentity | None],
        body_s: float = _BODY_S,
        as_on_host: HostPaths = unchanged,
    ) -> None:
        self._core = volumes
        self._body_s = body_s
        self._as_on_host = as_on_host
        self._identify_engine = identify_engine
        self._last_list: tuple[Sequence[VolumeView], bytes] = ((), ready_bytes({"Volumes": []}))
        self._constants = {
            "/Plugin.Activate": _ACTIVATED,
            f"{_VERB}Capabilities": ready_bytes({"Capabilities": {"Scope": scope}}),
        }
        self._verbs: dict[str, Callable[[_PluginRequest], Awaitable[Answer]]] = {
            f"{_VERB}Create": self._create,
            f"{_VERB}Remove": self._remove,
            f"{_VERB}Mount": self._mount,
            f"{_VERB}Unmount": self._unmount,
            f"{_VERB}Path": self._path,
            f"{_VERB}Get": self._get,
            f"{_VERB}List": self._list,
        }

    @property
    def _volumes(self) -> DockerVerbs:
        if isinstance(self._core, VolplugError):
            raise type(self._core)(self._core.cause, self._core.remedy)
        return self._core

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; never raises."""
        if request.method != "POST":
            return _refusal(f"method {request.method[:16]} is not POST", HTTPStatus.METHOD_NOT_ALLOWED)
        if (constant := self._constants.get(request.path)) is not None:
            return WholeAnswer(constant)
        verb = self._verbs.get(request.path)
        if verb is None:
            return _refusal(f"unknown call {request.path[:80]!r}", HTTPStatus.NOT_FOUND)
        try:
            answer = await self._answer(verb, request)
            if isinstance(answer, WholeAnswer):
                return answer
            return WholeAnswer(answer if isinstance(answer, bytes) else ready_bytes(answer))
        except _NoAnswerError:
            if request.transport is not None:
                request.transport.close()
            return WholeAnswer(b"")

    async def _answer(
        self, verb: Callable[[_PluginRequest], Awaitable[Answer]], request: web.BaseRequest
    ) -> Answer:
        tells_existence = verb == self._get
        try:
            call = _PluginRequest(await _read_body(request, self._body_s), request)
            if (engine := self._identify_engine(request)) is not None:
                await self._volumes.engine_seen(engine)
            return await verb(call)
        except ClientGone as error:
            _LOG.info("client left before the answer", call=request.path, error=str(error))
            raise _NoAnswerError from error
        except OptionHelp as shown:
            _LOG.info("options listed", call=request.path)
            return self._failed(shown)
        except VolplugError as error:
            if isinstance(error, VolumeNotFound) and tells_existence:
                return self._failed(error)
            _LOG.warning("call failed", call=request.path, code=error.code, error=str(error))
            if tells_existence:
                raise _NoAnswerError from error
            return self._failed(error)
        except _NoAnswerError:
            raise
        except Exception as error:  # report internal errors to Docker instead of dropping the connection
            _LOG.exception("internal error", call=request.path)
            if tells_existence:
                raise _NoAnswerError from error
            return self._failed(internal_error(error))
        finally:
            unbind_contextvars("mount_id")  # the connection has more requests

    def _failed(self, error: VolplugError) -> bytes:
        return ready_bytes({"Err": self._as_on_host(str(error))}, HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _create(self, call: _PluginRequest) -> Answer:
        name, options = call.text("Name"), call.options()
        try:
            request = read_options(name, options)
        except VolplugError as error:
            raise error.in_context(ErrorContext("create", name)) from error.__cause__
        await self._volumes.create(request)
        return {}

    async def _remove(self, call: _PluginRequest) -> Answer:
        await self._volumes.remove(call.text("Name"))
        return {}

    async def _mount(self, call: _PluginRequest) -> Answer:
        mounted = await self._volumes.mount(call.text("Name"), call.mount_id(), call)
        return WholeAnswer(ready_bytes({"Mountpoint": mounted.path}), mounted.answered)

    async def _unmount(self, call: _PluginRequest) -> Answer:
        await self._volumes.unmount(call.text("Name"), call.mount_id())
        return {}

    async def _path(self, call: _PluginRequest) -> Answer:
        return {"Mountpoint": await self._volumes.path(call.text("Name"))}

    async def _get(self, call: _PluginRequest) -> Answer:
        return {"Volume": _shown(await self._volumes.get(call.text("Name", default="")), self._as_on_host)}

    async def _list(self, call: _PluginRequest) -> Answer:
        views = await self._volumes.list()
        listed, ready = self._last_list
        if listed is not views:
            # All that dockerd reads of a list; the rest would cost time with thousands of volumes.
            shown = [{"Name": view.name, "Mountpoint": view.mountpoint} for view in views]
            ready = ready_bytes({"Volumes": shown})
            self._last_list = views, ready
        return ready


async def _read_body(request: web.BaseRequest, timeout_s: float) -> dict[str, Any]:
    """Read the JSON object of a request.

    Raises:
        _NoAnswerError: If it is empty, or cannot be read on Get, whose answered errors destroy records.
        InvalidRequest: If it cannot be read on any other call.
    """
    path = request.path
    if path == f"{_VERB}List":
        return {}  # nothing in it matters, so dockerd's retry without a body is as good
    try:
        async with asyncio.timeout(timeout_s):
            raw = await _read_whole(request)
        if not raw.strip():
            raise _NoAnswerError
        body = json.loads(raw)
        if not isinstance(body, dict):
            raise InvalidRequest("the request is not a JSON object")  # noqa: TRY301  # mapped with the others
    except web.HTTPRequestEntityTooLarge as error:
        raise _unreadable(path, f"the request is larger than {request.client_max_size >> 10} KiB") from error
    except TimeoutError as error:
        raise _unreadable(path, f"the request did not arrive within {timeout_s:.0f} s") from error
    except ConnectionError as error:
        raise _NoAnswerError from error  # the client left before its request was whole
    except web.RequestPayloadError as error:
        raise _unreadable(path, "the request's body is malformed") from error
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, "the request is not JSON") from error
    except InvalidRequest as error:
        raise _unreadable(path, error.cause) from error
    return body


async def _read_whole(request: web.BaseRequest) -> bytes:
    try:
        return await request.read()
    except RuntimeError as error:  # of aiohttp's StreamReader, if the client left before it waits
        raise ConnectionResetError from error


def _unreadable(path: str, cause: str) -> Exception:
    return _NoAnswerError() if path == f"{_VERB}Get" else InvalidRequest(cause)


def _refusal(text: str, status: HTTPStatus) -> web.Response:
    return web.Response(body=json.dumps({"Err": text}).encode(), status=status, content_type=CONTENT_TYPE)


def _shown(view: VolumeView, as_on_host: HostPaths) -> dict[str, Any]:
    status = {
        key: as_on_host(value) if isinstance(value, str) else value for key, value in status_of(view).items()
    }
    shown: dict[str, Any] = {"Name": view.name, "Mountpoint": view.mountpoint, "Status": status}
    if view.created_at is not None:
        shown["CreatedAt"] = view.created_at.isoformat()
    return shown


def status_of(view: VolumeView) -> dict[str, str | int | bool]:
    """Return what `docker volume inspect` shows as Status; what is not known or empty is left out.

    docs/inspect.md describes each key.
    """
    status: dict[str, str | int | bool] = {
        **dict(view.details),
        "id": view.volume_id,
        "backend": view.backend,
        "driver": view.driver,
        "size": format_size(view.size_bytes) if view.size_bytes else "",
        "state": view.state.value,
        "fs": view.filesystem.to_text(),
        "profile": view.profile,
        "mountCount": view.mount_count,
        "holder": view.holder or "",
        "detail": view.detail,
        "desired": "" if view.desired is Desired.NONE else view.desired.value,
        "holdersUnknown": view.holders_unknown or "",
        "sizeDifference": view.size_difference,
        **(_usage_of(view.sample) if view.sample else {}),
    }
    if view.failure is not None:
        status |= {
            "lastError": view.failure.text,
            "lastErrorAt": view.failure.at.isoformat(timespec="seconds"),
        }
    return {key: value for key, value in status.items() if value != ""}


def _usage_of(sample: UsageSample) -> dict[str, str | int | bool]:
    usage = sample.usage
    return {
        "device": usage.device,
        "used": rounded_size(usage.used_bytes),
        "free": rounded_size(usage.free_bytes),
        "usedAge": f"{sample.age_s:.0f}s" if sample.age_s > FRESH_S else "",
        **({"inodesUsed": usage.used_inodes, "inodes": usage.inodes} if usage.inodes else {}),
    }
