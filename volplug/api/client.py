"""A client of the control API: on its Unix socket, or on TCP with TLS.

Of the standard library, and with bodies as they come: commands have to start quickly, and to load the models
of `schemas.py`, or aiohttp, takes longer than all else that a command does. One thread uses it at a time.
"""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

from volplug.api.client_errors import DaemonUnreachable, VersionMismatch, answered_error
from volplug.errors import Forbidden, InvalidRequest, Unauthenticated

Json = dict[str, Any]
LOST: Final = "lost"  # the kind of an event that tells that some before it are not known
# Where volplug is on its host: the service, and the managed plugin.
LOCAL_SOCKETS: Final = ("/run/volplug/control.sock", "/var/lib/volplug/control.sock")

_T = TypeVar("_T")
_ANSWER_S: Final = 130.0  # an answer may wait for a cloud; volplug's own limits end before that
_SILENCE_S: Final = 90.0  # an event stream has a comment each 30 s
_RESTART_S: Final = 30.0  # an upgrade, or a restart by systemd
_RETRY_S: Final = 0.5
_LONGEST_WAIT_S: Final = 60.0  # of the API
_PAGE: Final = 1000
# With TLS 1.3, a client learns only when it reads that its certificate was refused.
_ENDED: Final = (ConnectionResetError, BrokenPipeError, ssl.SSLError)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a control API is, and what its client shows there.

    Attributes:
        sockets: Paths of Unix sockets, of which the first that accepts is used; empty for TCP.
        host: Name or address on TCP.
        port: On TCP.
        token: For TCP; empty for none.
        ca: File with the certificates that are trusted; empty for those of the system.
        certificate: File with the client's certificate; empty for none.
        key: File with its key.
    """

    sockets: Sequence[str] = LOCAL_SOCKETS
    host: str = ""
    port: int = 0
    token: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.host else " and ".join(self.sockets)


class ControlClient:
    """Calls the control API. Once it has had an answer, it waits for volplug to restart where it gets none.

    Args:
        endpoint: Where it is.
        restart_s: How long to wait for a restart.
    """

    def __init__(self, endpoint: Endpoint, restart_s: float = _RESTART_S) -> None:
        self.endpoint = endpoint
        self._restart_s = restart_s
        self._connection: http.client.HTTPConnection | None = None
        self._was_reached = False

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    # Reading

    def version(self) -> str:
        """Return volplug's version."""
        return str(self.get("version")["version"])

    def get(self, *path: str, **query: object) -> Json:
        """Return what is at a path below /v1.

        Raises:
            VolplugError: What was answered, or why nothing was.
        """
        return self._repeated(lambda: self._call("GET", path, query=query))

    def pages(self, path: str, **query: object) -> Iterator[Json]:
        """Return all elements of a list, which is named like its path."""
        cursor = ""
        while True:
            page = self.get(path, **query, limit=_PAGE, cursor=cursor)
            yield from page[path]
            if not (cursor := page["next_cursor"] or ""):
                return

    def operation(self, operation_id: str, wait_s: float) -> Json:
        """Return an operation once it has ended, or as it is after the time."""
        return self.get("operations", operation_id, wait_s=round(min(wait_s, _LONGEST_WAIT_S), 3))

    def events(self, *, kept: bool = False, **query: object) -> Generator[Json]:
        """Return events as they happen, without an end, also across restarts of volplug.

        Args:
            kept: Return those that volplug still knows instead, and end.
            query: Which of them.
        """
        if not kept:
            yield from self._streamed(query)
            return
        cursor = ""
        while (page := self.get("events", **query, limit=_PAGE, after=cursor))["events"]:
            yield from page["events"]
            cursor = page["cursor"]

    # Changing

    def start(self, method: str, *path: str, body: Json | None = None) -> Json:
        """Start an operation, once, however often the request has to be sent, and return it."""
        headers = {"Idempotency-Key": secrets.token_urlsafe(16)}
        return self._repeated(lambda: self._call(method, path, body=body, headers=headers))

    def post(self, *path: str, body: Json | None = None) -> Json:
        """Send a request that starts nothing."""
        return self._call("POST", path, body=body)

    def delete(self, *path: str) -> None:
        """Delete what needs no operation."""
        self._call("DELETE", path)

    # Transport

    def _repeated(self, call: Callable[[], _T]) -> _T:
        """Call until there is an answer, if there has been one before."""
        until: float | None = None
        while True:
            try:
                return call()
            except DaemonUnreachable:
                now = time.monotonic()
                until = now + self._restart_s if until is None else until  # the call may have waited for long
                if not self._was_reached or now >= until:
                    raise
                time.sleep(_RETRY_S)

    def _call(
        self,
        method: str,
        path: Sequence[str],
        *,
        query: Mapping[str, object] | None = None,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        if self._connection is None:
            self._connection = _connection(self.endpoint, _ANSWER_S)
        try:
            response = self._send(self._connection, method, _target(path, query or {}), body, headers or {})
            with response:
                read = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error) from error
        except BaseException:  # half of an answer must not be taken for the next one
            self.close()
            raise
        answer = self._read(read) if response.status != http.client.NO_CONTENT else {}
        self._was_reached = True
        if not 200 <= response.status < 300:
            raise answered_error(answer)
        return answer

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        body: Json | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        sent = dict(headers)
        if body is not None:
            sent["Content-Type"] = "application/json"
        if self.endpoint.token:
            sent["Authorization"] = f"Bearer {self.endpoint.token}"
        connection.request(method, target, None if body is None else json.dumps(body), sent)
        return connection.getresponse()

    def _read(self, read: bytes) -> Json:
        try:
            answer = json.loads(read)
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            return answer
        raise DaemonUnreachable(
            f"what answers at {self.endpoint} is not volplug's control API", "Name it by --host"
        )

    def _streamed(self, query: Mapping[str, object]) -> Iterator[Json]:
        last = ""
        while True:
            with closing(_connection(self.endpoint, _SILENCE_S)) as connection:
                response = self._repeated(partial(self._stream, connection, query, last))
                try:
                    for event in _read_events(response):
                        last = event["id"] or last
                        yield event
                except (OSError, http.client.HTTPException):
                    continue  # volplug has ended: go on with the next one

    def _stream(
        self, connection: http.client.HTTPConnection, query: Mapping[str, object], last: str
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        try:
            response = self._send(connection, "GET", _target(("events",), query), None, headers)
            if response.status != http.client.OK:
                raise answered_error(self._read(response.read()))
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from error
        self._was_reached = True
        return response

    def _unreachable(self, error: Exception) -> Exception:
        where = self.endpoint
        if isinstance(error, PermissionError):
            return Forbidden(
                f"this user may not connect to {where}", "Run it as root, or see VOLPLUG_CONTROL_GROUP"
            )
        if isinstance(error, ssl.SSLCertVerificationError):
            cause = f"the certificate of {where} is not trusted: {error.verify_message}"
            return DaemonUnreachable(cause, "Name the file of its authority by --tlscacert")
        if where.certificate and not self._was_reached and isinstance(error, _ENDED):
            return Unauthenticated(
                f"{where} has ended the connection; it may not accept the certificate {where.certificate}"
            )
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        cause = f"volplug does not answer at {where}: {why or type(error).__name__}"
        return DaemonUnreachable(cause, "Start volplug, or name another place by --host")


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a Unix socket.

    Args:
        paths: Of which the first that accepts is used.
        timeout_s: For each of connecting, sending and receiving.
    """

    def __init__(self, paths: Sequence[str], timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._paths = paths

    def connect(self) -> None:
        """Connect to the first socket behind which a process listens."""
        for path in self._paths:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            try:
                self.sock.connect(path)
            except OSError as error:
                self.sock.close()
                is_absent = isinstance(error, FileNotFoundError | ConnectionRefusedError)
                if not is_absent or path == self._paths[-1]:
                    raise
            else:
                return


def _connection(endpoint: Endpoint, timeout_s: float) -> http.client.HTTPConnection:
    """Return a connection, which is made when it is used.

    Raises:
        InvalidRequest: If a file that it needs cannot be used.
    """
    if not endpoint.host:
        return UnixConnection(endpoint.sockets, timeout_s)
    try:
        context = ssl.create_default_context(cafile=endpoint.ca or None)
        if endpoint.certificate:
            context.load_cert_chain(endpoint.certificate, endpoint.key or None)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = ", ".join(filter(None, (endpoint.ca, endpoint.certificate, endpoint.key)))
        raise InvalidRequest(f"the files of TLS cannot be used ({files}): {error}") from error
    return http.client.HTTPSConnection(endpoint.host, endpoint.port, timeout=timeout_s, context=context)


def _target(path: Sequence[str], query: Mapping[str, object]) -> str:
    given = {key: value for key, value in query.items() if value not in (None, "")}
    parts = "/".join(quote(part, safe="") for part in path)
    return f"/v1/{parts}" + (f"?{urlencode(given)}" if given else "")


def _read_events(response: http.client.HTTPResponse) -> Iterator[Json]:
    """Read server-sent events: blocks of lines, of which volplug's have an id, a name and one line of data.

    Raises:
        OSError: When the stream ends, which it does with volplug.
    """
    block: dict[str, str] = {}
    while line := response.readline():
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            block[name] = value
            continue
        if "data" in block:
            event = json.loads(block["data"])
            yield {"kind": LOST, "id": block.get("id", ""), **event} if block.get("event") == LOST else event
        block = {}
    raise ConnectionResetError("the event stream has ended")


def check_versions(client: str, daemon: str) -> None:
    """Check that a client and volplug are at most one minor version apart.

    Raises:
        VersionMismatch: If they are further apart.
    """
    ours, theirs = _major_and_minor(client), _major_and_minor(daemon)
    if ours is None or theirs is None or ours[0] != theirs[0] or abs(ours[1] - theirs[1]) > 1:
        raise VersionMismatch(
            f"this command is of volplug {client}, and what it calls is volplug {daemon}",
            f"Install the command of that version: pipx install --force 'volplug[cli]=={daemon}'",
        )


def _major_and_minor(version: str) -> tuple[int, int] | None:
    match version.split("."):
        case [major, minor, *_] if major.isdecimal() and minor.isdecimal():
            return int(major), int(minor)
    return None
