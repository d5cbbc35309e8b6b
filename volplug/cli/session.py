"""One run of a command: its terminal, its options, and the daemon that they lead to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from volplug import __version__
from volplug.api.client import ControlClient, Endpoint, check_versions
from volplug.api.client_errors import UsageError
from volplug.cli.contexts import Place, contexts_file, read_contexts
from volplug.cli.terminal import Terminal

_FORMS: Final = "Write unix:///run/volplug/control.sock or tcp://node1.example.com:8443"


class Session:
    """What all commands use.

    Args:
        place: What options and variables say; where its host is empty, a context says it.
        context: The context's name; empty for the one in use.

    Attributes:
        terminal: Where results are written.
    """

    def __init__(self, place: Place, context: str = "") -> None:
        self._place = place
        self._context = context
        self._client: ControlClient | None = None
        self._is_checked = False
        self.terminal = Terminal()

    @property
    def client(self) -> ControlClient:
        """Return the daemon's client, once it is known that both understand each other.

        Raises:
            VolplugError: If it cannot be reached, or its version is too far away.
        """
        client = self.unchecked_client()
        if not self._is_checked:
            check_versions(__version__, client.version())
            self._is_checked = True
        return client

    def unchecked_client(self) -> ControlClient:
        """Return a client of whatever version the daemon has."""
        if self._client is None:
            self._client = ControlClient(endpoint_of(self._chosen_place()))
        return self._client

    def close(self) -> None:
        """End the connection."""
        if self._client is not None:
            self._client.close()

    def _chosen_place(self) -> Place:
        if self._place.host:
            return self._place
        contexts = read_contexts(contexts_file())
        return contexts.place(self._context or contexts.current)


def endpoint_of(place: Place) -> Endpoint:
    """Return where a place is.

    Raises:
        UsageError: If it cannot be read, or its token cannot.
    """
    if not place.host:
        return Endpoint()
    scheme, _, rest = place.host.partition("://")
    if scheme == "unix" and os.path.isabs(rest):
        return Endpoint((rest,))
    try:
        parts = urlsplit(place.host)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if scheme != "tcp" or not host or not port or parts.path.strip("/"):
        raise UsageError(f"the host {place.host!r} cannot be read", _FORMS)
    token = _token(place.token_file) if place.token_file else ""
    return Endpoint((), host, port, token, place.tlscacert, place.tlscert, place.tlskey)


def _token(path: str) -> str:
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no token"
        raise UsageError(f"the file of the token {path} cannot be read: {why}") from error
    if not token.isprintable() or not token:
        raise UsageError(f"the file {path} holds no token", "volplug make-token makes one")
    return token
