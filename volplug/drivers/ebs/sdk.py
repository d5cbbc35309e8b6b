"""The SDK's clients, made by need. Only here is the SDK set up; importing this module does not import it."""

from __future__ import annotations

import threading
from typing import Any, Final

from volplug import __version__
from volplug.drivers.ebs.settings import EbsSettings
from volplug.drivers.ebs.tries import watch
from volplug.errors import ConfigurationError
from volplug.masking import keep_secret

_CONNECT_TIMEOUT_S: Final = 3
_READ_TIMEOUT_S: Final = 10


class Clients:
    """One client of EC2 for each action: the SDK keeps its pace and its connections by client.

    Args:
        settings: Endpoint and credentials.
        connections: How many calls of one action run at once.
    """

    def __init__(self, settings: EbsSettings, connections: int) -> None:
        self._settings = settings
        self._connections = connections
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[str, Any] = {}

    def get(self, action: str, region: str) -> Any:  # noqa: ANN401  # the SDK has no types
        """Return the client of an action. Blocks: the first one takes a fifth of a second.

        Raises:
            ConfigurationError: If the SDK is not installed, or refuses the settings.
        """
        with self._lock:  # sessions are not made for several threads
            if action not in self._clients:
                self._clients[action] = self._made(region)
            return self._clients[action]

    def forget(self) -> None:
        """Look for credentials again at the next call."""
        with self._lock:
            self._session = None
            self._clients = {}

    def _made(self, region: str) -> Any:  # noqa: ANN401  # the SDK has no types
        try:
            from botocore.config import Config  # takes a while, and volplug listens before
            from botocore.exceptions import BotoCoreError  # likewise
        except ImportError as error:
            raise ConfigurationError(
                f"the SDK of AWS is not installed: {error}", "Install volplug with its extra: volplug[ebs]"
            ) from error
        settings = self._settings
        try:
            if self._session is None:
                self._session = _session(settings)
            client = self._session.client(
                "ec2",
                region_name=region,
                endpoint_url=settings.endpoint or None,
                config=Config(
                    connect_timeout=_CONNECT_TIMEOUT_S,
                    read_timeout=_READ_TIMEOUT_S,
                    max_pool_connections=self._connections,
                    # Whoever wants no retries paces his calls himself.
                    retries={
                        "mode": "adaptive" if settings.max_retries else "standard",
                        "total_max_attempts": settings.max_retries + 1,
                    },
                    user_agent_extra=f"volplug/{__version__}",
                ),
            )
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(f"the SDK of AWS refuses the settings: {error}") from error
        watch(client.meta.events)
        client.meta.events.register("before-send", _keep_token)
        return client


def _keep_token(request: Any, **_: Any) -> None:  # noqa: ANN401  # the SDK has no types
    """Keep the token of a request secret: with a role the SDK gets a new one every few hours."""
    if token := request.headers.get("X-Amz-Security-Token"):
        keep_secret(token if isinstance(token, str) else token.decode("ascii"), is_temporary=True)


def _session(settings: EbsSettings) -> Any:  # noqa: ANN401  # the SDK has no types
    import boto3.session  # takes a while, and volplug listens before
    import botocore.session  # likewise
    from botocore.configprovider import ConstantProvider  # likewise

    core = botocore.session.Session(profile=settings.profile or None)
    store = core.get_component("config_store")
    store.set_config_provider("ec2_metadata_service_endpoint", ConstantProvider(settings.imds_endpoint))
    if not settings.profile:  # the SDK takes an empty AWS_PROFILE for a name
        store.set_config_provider("profile", ConstantProvider(None))
    return boto3.session.Session(
        aws_access_key_id=settings.access_key or None,
        aws_secret_access_key=settings.secret_key or None,
        aws_session_token=settings.session_token or None,
        botocore_session=core,
    )
