"""Calls EC2's API through the SDK, which makes one try; `RetryingCaller` makes the retries.

The SDK is imported by the first call, since that takes long: volplug's socket is served before.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from gzip import GzipFile
from io import FileIO
from types import MappingProxyType
from typing import Any, Final

import structlog

from volplug import __version__
from volplug.drivers.cloud.calls import RetryingCaller, Sdk
from volplug.drivers.cloud.service_clock import ServiceClock
from volplug.drivers.cloud.timeouts import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from volplug.drivers.ebs.errors import (
    Ec2Refused,
    is_about_credentials,
    is_denied,
    is_unavailable,
    translated,
    unavailable,
)
from volplug.drivers.ebs.instance import HostIdentity
from volplug.drivers.ebs.settings import EbsSettings
from volplug.errors import BackendDenied, BackendError, ConfigurationError
from volplug.masking import keep_secret
from volplug.metrics import OnTry, uncounted

_LOG = structlog.get_logger(__name__)

SDK: Final = Sdk("AWS", "boto3", "ebs")
_READING: Final = ("Describe", "Get", "List")
_CONNECTIONS: Final = 128  # one for each thread of `RetryingCaller`, opened on demand
# The SDK's words for where it finds credentials that are not as plain: the attribute `method` of its class.
_FOUND_IN: Final = MappingProxyType(
    {"explicit": "volplug's settings", "iam-role": "the role of the instance"}
)
_FILES: Final[Mapping[str, Callable[[str, str], FileIO | GzipFile]]] = MappingProxyType(
    {".json": FileIO, ".json.gz": GzipFile}
)


class Ec2:
    """Calls EC2.

    Args:
        settings: Region, endpoint and credentials.
        host: Knows the region if the settings do not.
        caller: Makes the retries; by default one with the settings' `max_retries`.
        on_try: Told how each try of a call ended, if there is no other caller.

    Attributes:
        clock: The clock of EC2.
    """

    def __init__(
        self,
        settings: EbsSettings,
        host: HostIdentity,
        caller: RetryingCaller | None = None,
        on_try: OnTry = uncounted,
    ) -> None:
        self._settings = settings
        self._host = host
        self._caller = caller or RetryingCaller("EC2", settings.max_retries, on_try=on_try)
        self._lock = threading.Lock()
        self._client: Any = None
        self.clock = ServiceClock()

    async def credentials(self) -> str:
        """Return which key signs the calls, and where the SDK has found it; EC2 is not asked.

        Raises:
            BackendDenied: If there is none.
        """
        return await self._caller.call("credentials", self._try_credentials, changes=False)

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        """Make one call and return EC2's answer.

        If cancelled, a call that changes something returns once its current try has ended.

        Args:
            action: EC2's name, such as `DescribeVolumes`.
            parameters: EC2's names and values; besides, `within_s` of `RetryingCaller.call`.

        Raises:
            Ec2Refused: If EC2 refuses; what its error code means depends on the caller.
            BackendUnavailable: If there is no usable response after all tries; the change may have been made.
            BackendDenied: If EC2 does not accept the credentials, or they lack a permission.
            ConfigurationError: If the region is unknown, or the SDK refuses the settings.
        """
        region, within_s = await self._host.region(), parameters.pop("within_s", None)
        make_try, changes = partial(self._try, action, region, parameters), not action.startswith(_READING)
        return await self._caller.call(action, make_try, changes=changes, within_s=within_s)

    def _try(
        self, action: str, region: str, parameters: Mapping[str, Any], attempt: int
    ) -> Mapping[str, Any]:
        """Make one try in this thread, and translate the SDK's errors."""
        client = self._get_client(region)
        from botocore import xform_name  # imported by the first call
        from botocore.exceptions import ClientError  # likewise

        try:
            answer: Mapping[str, Any] = getattr(client, xform_name(action))(**parameters)
        except ClientError as error:
            self._note_date(error.response)
            raise self._refusal(action, error.response, attempt) from error
        except Exception as error:  # the SDK's own errors, or any that occurs inside of it
            raise self._failure(action, error) from error
        self._note_date(answer)
        return answer

    def _note_date(self, answer: Mapping[str, Any]) -> None:
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        self.clock.note(str(headers.get("date", "")))

    def _try_credentials(self, _: int) -> str:
        try:
            found = _make_session(self._settings).get_credentials()
        except ImportError as error:
            raise SDK.missing(str(error)) from error
        except Exception as error:  # the SDK's own errors, or any that occurs inside of it
            raise self._failure("credentials", error) from error
        if found is None:
            raise _no_credentials("EC2", "none are found")
        return f"EC2 accepts the key {found.access_key}, from {_FOUND_IN.get(found.method, found.method)}"

    def _refusal(self, action: str, answer: Mapping[str, Any], attempt: int) -> Exception:
        """Return the error for an error response; a proxy's page has no code, only an HTTP status."""
        error, status = answer.get("Error", {}), answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code, message = str(error.get("Code", "")), str(error.get("Message", ""))
        if is_unavailable(code, int(status)):
            return unavailable(action, f"{code}: {message}" if code else f"HTTP status {status}", code)
        refused = Ec2Refused(action, code, message, was_repeated=attempt > 0)
        if not is_denied(code):
            return refused
        # With the whole message, which is too long for an error's text.
        _LOG.warning("EC2 denied a call", action=action, code=code, message=message)
        if is_about_credentials(code):
            self._forget_client()
        return translated(refused)

    def _failure(self, action: str, error: Exception) -> Exception:
        """Return the error for a call without a response from EC2."""
        from botocore import exceptions  # imported by the first call
        from botocore.parsers import ResponseParserError  # likewise

        if isinstance(error, ResponseParserError):  # most often a proxy's page
            return unavailable(action, f"its answer cannot be read: {error}")
        if isinstance(error, (exceptions.HTTPClientError, exceptions.ConnectionError)):
            return unavailable(action, str(error))
        if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
            self._forget_client()  # the next call searches for credentials again
            return _no_credentials(action, str(error))
        if isinstance(error, (exceptions.CredentialRetrievalError, exceptions.MetadataRetrievalError)):
            self._forget_client()
            return BackendDenied(f"credentials for {action} cannot be fetched: {error}", "Check the role")
        return BackendError(f"the SDK cannot call {action}: {error}")

    def _get_client(self, region: str) -> Any:  # noqa: ANN401  # the SDK has no types
        with self._lock:  # made once; it takes a fifth of a second
            if self._client is None:
                self._client = _make_client(self._settings, region)
            return self._client

    def _forget_client(self) -> None:
        """Drop the client, so that the next try searches for credentials again."""
        with self._lock:
            self._client = None


def _no_credentials(action: str, why: str) -> BackendDenied:
    return BackendDenied(
        f"there are no credentials for {action}: {why}",
        "Give the instance a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    )


def _make_client(settings: EbsSettings, region: str) -> Any:  # noqa: ANN401  # the SDK has no types
    try:
        from botocore.config import Config  # slow, so imported by the first call
        from botocore.exceptions import BotoCoreError  # likewise
    except ImportError as error:
        raise SDK.missing(str(error)) from error
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": 1},
        user_agent_extra=f"volplug/{__version__}",
    )
    try:
        client = _make_session(settings).client(
            "ec2", region_name=region, endpoint_url=settings.endpoint or None, config=config
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"the SDK of AWS refuses the settings: {error}") from error
    # A documented event with the token that is sent. The session knows it, too, but a role's token may be
    # renewed between reading it there and the call.
    client.meta.events.register("before-send", _mask_token)
    return client


class _Descriptions:
    """Loads the SDK's descriptions of services as its own loader of files does, but without their texts.

    Those, and dictionaries that keep an order of their own, would be 9 MiB of resident memory.
    """

    def exists(self, path_without_suffix: str) -> bool:
        """Tell whether there is such a file."""
        return any(os.path.isfile(path_without_suffix + suffix) for suffix in _FILES)

    def load_file(self, path_without_suffix: str) -> object:
        """Return the contents of a file, None if it does not exist."""
        for suffix, open_file in _FILES.items():
            if os.path.isfile(path_without_suffix + suffix):
                with open_file(path_without_suffix + suffix, "rb") as file:
                    return json.load(file, object_pairs_hook=_without_texts)
        return None


def _without_texts(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    # A member of a response may be called so, too; its description is no string.
    return {key: value for key, value in pairs if key != "documentation" or not isinstance(value, str)}


def _mask_token(request: Any, **_: Any) -> None:  # noqa: ANN401  # the SDK has no types
    """Keep the session token of a request out of logs and errors: an endpoint may quote it."""
    if token := request.headers.get("X-Amz-Security-Token"):
        keep_secret(token if isinstance(token, str) else token.decode("ascii"), is_temporary=True)


def _make_session(settings: EbsSettings) -> Any:  # noqa: ANN401  # the SDK has no types
    import boto3.session  # slow, so imported by the first call
    import botocore.session  # likewise
    from botocore.configprovider import ConstantProvider  # likewise

    core = botocore.session.Session(profile=settings.profile or None)
    store = core.get_component("config_store")
    store.set_config_provider("ec2_metadata_service_endpoint", ConstantProvider(settings.imds_endpoint))
    if not settings.profile:  # the SDK takes an empty AWS_PROFILE for a name
        store.set_config_provider("profile", ConstantProvider(None))
    core.get_component("data_loader").file_loader = _Descriptions()
    return boto3.session.Session(
        aws_access_key_id=settings.access_key or None,
        aws_secret_access_key=settings.secret_key or None,
        aws_session_token=settings.session_token or None,
        botocore_session=core,
    )
