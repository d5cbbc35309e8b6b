"""Calls Cinder and Nova through the SDK, which makes one try; `RetryingCaller` makes the retries.

Of the SDK its configuration and its sessions are used: the responses are read as the services give them. It
is imported by the first call, since that takes long: volplug's socket is served before.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import structlog

from volplug import __version__
from volplug.drivers.cinder.errors import (
    OpenStackRefused,
    is_throttled,
    is_unavailable,
    translated,
    unavailable,
)
from volplug.drivers.cinder.settings import CinderSettings
from volplug.drivers.cinder.timeouts import CHANGE_TIMEOUT_S
from volplug.drivers.cloud.calls import RetryingCaller, Sdk
from volplug.drivers.cloud.service_clock import ServiceClock
from volplug.drivers.cloud.timeouts import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from volplug.errors import BackendDenied, BackendError, ConfigurationError
from volplug.masking import keep_secret
from volplug.metrics import OnTry, uncounted

_LOG = structlog.get_logger(__name__)

SDK: Final = Sdk("OpenStack", "openstack", "cinder")
CINDER: Final = "Cinder"
NOVA: Final = "Nova"
# Types in the catalogue; the SDK knows their older names, such as volumev3.
_TYPES: Final = MappingProxyType({CINDER: ("block-storage", "3"), NOVA: ("compute", "2.1")})
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CONNECTIONS: Final = 128  # one for each thread of `RetryingCaller`, opened on demand


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a service.

    Attributes:
        service: `CINDER` or `NOVA`.
        method: Of HTTP.
        path: Below the service's endpoint.
        query: Its parameters.
        body: Sent as JSON.
        microversion: The lowest that has what is asked for; "" for the service's first.
        is_repeatable: Whether it may be sent again if its answer was lost.
        within_s: No try begins later; None for the budget of every call.
        expects: What the body of the response must have; "" for nothing.
    """

    service: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    microversion: str = ""
    is_repeatable: bool = True
    within_s: float | None = None
    expects: str = ""

    @property
    def action(self) -> str:
        """Return its name for errors, such as `GET /volumes/ID`."""
        return f"{self.method} {_UUID.sub('ID', self.path)}"

    @property
    def changes(self) -> bool:
        """Tell whether it is a change, not a read."""
        return self.method != "GET"


_NEW_TOKEN: Final = Call("Keystone", "POST", "/auth/tokens")


@dataclass(frozen=True, slots=True)
class Token:
    """What Keystone says of a token.

    Attributes:
        user: The user's name.
        project: The project's name.
        roles: What the user is in the project.
        expires_at: When it ends; a new one is asked for before that.
    """

    user: str
    project: str
    roles: tuple[str, ...]
    expires_at: datetime


class OpenStackCaller(Protocol):
    """Calls services; see `OpenStack`."""

    async def call(self, call: Call) -> Mapping[str, Any]:
        """Make one call and return the body of the response."""
        ...


async def answered(caller: OpenStackCaller, call: Call) -> Mapping[str, Any]:
    """Make a call of whose refusals none means anything special to the caller."""
    try:
        return await caller.call(call)
    except OpenStackRefused as refused:
        raise translated(refused) from refused


async def shown(caller: OpenStackCaller, service: str, path: str, what: str) -> Any:  # noqa: ANN401  # as the API has it
    """Return what a service shows at a path, None if the volume or the server there does not exist."""
    try:
        return (await caller.call(Call(service, "GET", path, expects=what)))[what]
    except OpenStackRefused as refused:
        if refused.is_missing:
            return None
        raise translated(refused) from refused


class OpenStack:
    """Calls the services of one region.

    Args:
        settings: Region and credentials.
        caller: Makes the retries; by default one with the settings' `max_retries`.
        on_try: Told how each try of a call ended, if there is no other caller.

    Attributes:
        clock: The clock of the services.
    """

    def __init__(
        self, settings: CinderSettings, caller: RetryingCaller | None = None, on_try: OnTry = uncounted
    ) -> None:
        self._settings = settings
        self._caller = caller or RetryingCaller("OpenStack", settings.max_retries, on_try=on_try)
        self._lock = threading.Lock()
        self._adapters: Mapping[str, Any] = {}
        self.clock = ServiceClock()

    async def token(self) -> Token:
        """Return what Keystone says of the token that calls are made with; a new one, unless there is one.

        Raises:
            BackendDenied: If Keystone does not accept the credentials.
            BackendUnavailable: If it does not answer.
        """
        return await self._caller.call(_NEW_TOKEN.action, self._try_token, changes=False)

    async def call(self, call: Call) -> Mapping[str, Any]:
        """Make one call and return the body of the response, {} if it has none.

        If cancelled, a call that changes something returns once its current try has ended.

        Raises:
            OpenStackRefused: If the service refuses; what that means depends on the caller.
            BackendUnavailable: If there is no usable response after all tries; the change may have been made.
            BackendDenied: If the credentials are not accepted, or do not permit the call.
            ConfigurationError: If the SDK refuses the settings, or the region has no such service.
        """
        make_try = partial(self._try, call)
        return await self._caller.call(
            call.action,
            make_try,
            changes=call.changes,
            is_repeatable=call.is_repeatable,
            within_s=call.within_s,
        )

    def _try(self, call: Call, attempt: int) -> Mapping[str, Any]:
        """Make one try in this thread, and translate the SDK's errors."""
        adapter = self._adapter(call.service)
        timeout_s = CHANGE_TIMEOUT_S if call.changes else READ_TIMEOUT_S
        try:
            answer = adapter.request(
                call.path,
                call.method,
                params=dict(call.query) or None,
                json=call.body,
                microversion=call.microversion or None,
                raise_exc=False,
                timeout=(CONNECT_TIMEOUT_S, timeout_s),
            )
        except Exception as error:  # the SDK's own errors, or any that occurs inside of it
            raise _failure(call, error) from error
        # It may have been renewed within the call. A service may quote it.
        keep_secret(str(answer.request.headers.get("X-Auth-Token", "")), is_temporary=True)
        self.clock.note(str(answer.headers.get("Date", "")))
        if answer.status_code >= 400:
            raise _refusal(call, answer.status_code, answer.text, attempt)
        return body_of(call, answer.text)

    def _try_token(self, _: int) -> Token:
        session = self._adapter(CINDER).session
        try:
            access = session.auth.get_access(session)
        except Exception as error:  # the SDK's own errors, or any that occurs inside of it
            raise _failure(_NEW_TOKEN, error) from error
        keep_secret(str(access.auth_token), is_temporary=True)
        names = str(access.username or access.user_id), str(access.project_name or access.project_id)
        return Token(*names, tuple(sorted(access.role_names)), access.expires)

    def _adapter(self, service: str) -> Any:  # noqa: ANN401  # the SDK is imported by the first call
        with self._lock:  # made once; it takes a fifth of a second
            if not self._adapters:
                self._adapters = _make_adapters(self._settings)
            return self._adapters[service]


def body_of(call: Call, text: str) -> Mapping[str, Any]:
    """Return the body of a response; a page of a proxy is none."""
    if not text.strip() and not call.expects:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise unavailable(call.service, call.action, "its answer is no JSON") from error
    if not isinstance(found, dict) or (call.expects and call.expects not in found):
        raise unavailable(call.service, call.action, f"its answer has no {call.expects or 'object'}")
    return found


def _refusal(call: Call, status: int, text: str, attempt: int) -> Exception:
    """Return the error for an error response; a proxy's page has no message, only an HTTP status."""
    message = message_of(text)
    if is_unavailable(status, message):
        text = f"status {status}: {message}".removesuffix(": ")
        return unavailable(call.service, call.action, text, is_throttled=is_throttled(status, message))
    refused = OpenStackRefused(call.service, call.action, status, message, was_repeated=attempt > 0)
    error = translated(refused)
    if not isinstance(error, BackendDenied):
        return refused
    _LOG.warning("OpenStack denied a call", service=call.service, action=call.action, message=message)
    return error


def message_of(text: str) -> str:
    """Return the message of an error response: `{"itemNotFound": {"code": 404, "message": "..."}}`."""
    try:
        (about,) = json.loads(text).values()
        return str(about["message"])
    except (ValueError, AttributeError, KeyError, TypeError):
        return ""


def _failure(call: Call, error: Exception) -> Exception:
    """Return the error for a call without a response of the service; Keystone may have failed."""
    from keystoneauth1 import exceptions  # imported by the first call

    where, text = f"{call.service} for {call.action}", str(error)
    if isinstance(
        error, (exceptions.ConnectionError, exceptions.DiscoveryFailure, exceptions.HttpServerError)
    ):
        remedy = "Check cacert" if isinstance(error, exceptions.SSLError) else ""
        return unavailable(call.service, call.action, text, remedy)
    if isinstance(error, (exceptions.Unauthorized, exceptions.Forbidden)):
        why = text.partition(" (HTTP")[0]  # without the request's id
        return BackendDenied(
            f"Keystone does not accept the credentials: {why}", "Check them, and that they live"
        )
    if isinstance(error, exceptions.CatalogException):
        return ConfigurationError(
            f"Keystone's catalogue has no {where}: {text}", "Check region and interface"
        )
    if isinstance(error, exceptions.HTTPClientError):  # from Keystone
        return ConfigurationError(f"Keystone refuses: {text}", "Check auth_url")
    return BackendError(f"the SDK cannot call {where}: {text}")


def _make_adapters(settings: CinderSettings) -> Mapping[str, Any]:
    try:
        from keystoneauth1.adapter import Adapter  # slow, so imported by the first call
        from keystoneauth1.exceptions import ClientException  # likewise
        from keystoneauth1.session import TCPKeepAliveAdapter  # likewise
        from openstack.config import OpenStackConfig  # likewise
        from openstack.exceptions import SDKException  # likewise
    except ImportError as error:
        raise SDK.missing(str(error)) from error
    names = ("cacert", "interface", "region_name")
    chosen = {name: getattr(settings, name) for name in names if getattr(settings, name)}
    if settings.has_application_credential:
        chosen["auth_type"] = "v3applicationcredential"
    try:
        if auth := settings.auth():
            chosen["auth"] = {**auth, "auth_url": _versioned(auth["auth_url"])}
        region = OpenStackConfig(
            config_files=[settings.clouds_file] if settings.clouds_file else None,
            load_yaml_config=bool(settings.cloud),
            load_envvars=False,  # it would take an empty variable for a value
            app_name="volplug",
            app_version=__version__,
        ).get_one(cloud=settings.cloud or None, api_timeout=READ_TIMEOUT_S, **chosen)
        for secret in ("password", "application_credential_secret", "token"):  # of clouds.yaml
            keep_secret(str(region.get_auth_args().get(secret) or ""))
        session = region.get_session()
        for scheme in list(session.session.adapters):
            session.session.mount(scheme, TCPKeepAliveAdapter(pool_maxsize=_CONNECTIONS))
    except (SDKException, ClientException, OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"the SDK of OpenStack refuses the settings: {error}") from error
    return {
        service: Adapter(
            session=session,
            service_type=region.get_service_type(service_type),
            service_name=region.get_service_name(service_type),
            interface=region.get_interface(service_type),
            region_name=region.get_region_name(service_type),
            endpoint_override=region.get_endpoint(service_type),
            min_version=version,
            max_version=f"{version[0]}.latest",
            connect_retries=0,
            status_code_retries=0,
        )
        for service, (service_type, version) in _TYPES.items()
    }


def _versioned(auth_url: str) -> str:
    """Return Keystone's URL with its version: with application credentials the SDK does not discover it."""
    url = urlsplit(auth_url)
    return url._replace(path=f"{url.path.rstrip('/').removesuffix('/v3')}/v3").geturl()
