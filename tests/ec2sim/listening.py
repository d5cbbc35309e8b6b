"""A small HTTP server in threads of its own; tests' event loops never wait for it."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, Final

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request; the names of its headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    client_address: str


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)


Answerer = Callable[[HttpRequest], HttpAnswer | None]
"""Answers a request; None closes the connection without an answer."""


class Listener:
    """Listens at a port of the kernel's choice until it is closed.

    Attributes:
        address: The IP address.
        port: The port.
        url: Both of them.
    """

    def __init__(self, address: str, answerer: Answerer) -> None:
        self._server = _Server((address, 0), answerer)
        self.address = address
        self.port = int(self._server.server_address[1])
        self.url = f"http://{address}:{self.port}"
        self._thread = threading.Thread(target=self._server.accept_all, name="ec2-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end all connections."""
        self._server.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingTCPServer):
    request_queue_size = 256
    allow_reuse_address = True
    daemon_threads = False  # so that server_close waits for the connections' threads

    def __init__(self, address: tuple[str, int], answerer: Answerer) -> None:
        self.answerer = answerer
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def accept_all(self) -> None:
        """Accept connections until the socket is shut; serve_forever would have to be polled for its end."""
        while True:
            try:
                request, client_address = self.get_request()
            except OSError:
                return
            self.process_request(request, client_address)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as socketserver has it
        """Begin with a connection."""
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - as socketserver has it
        """End with a connection."""
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """End all connections, also those that wait for a next request."""
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)  # an answer that is under way still gets out
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as socketserver has it
        """Say what went wrong, but not to the terminal."""
        _LOG.debug("a connection from %s ended early", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as EC2 keeps them
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one piece
    server: _Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = HttpRequest(self.command, self.path, headers, body, self.client_address[0])
        try:
            answer = self.server.answerer(request)
        except Exception:  # a defect of the cloud must not look like a slow network
            _LOG.exception("%s %s failed", self.command, self.path)
            answer = HttpAnswer(500, b"the served EC2 has a defect, see its log")
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = _answer  # noqa: N815 - as http.server calls them

    def log_message(self, *_: object) -> None:
        """Write nothing to the terminal."""
