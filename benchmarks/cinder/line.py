"""The line to Cinder and Nova: passes calls on, and counts them."""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

_LOCAL: Final = "127.0.0.1"
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BASE: Final = re.compile(r"^/v[0-9.]+(/[0-9a-f]{32})?(?=/|$)")  # of a service's endpoint
_OF_ONE_CONNECTION: Final = ("connection", "content-length", "transfer-encoding")


def action_of(method: str, path: str) -> str:
    """Return the name under which a call is counted: all reads are `GET`."""
    if method == "GET":
        return method
    return f"{method} {_ID.sub('ID', _BASE.sub('', path.partition('?')[0]))}"


class Line:
    """Counts the calls that pass; each port passes them to one service.

    Args:
        address: Of the services.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def counts(self) -> Counter[str]:
        """Return how often each call was made so far."""
        with self._lock:
            return Counter(self._counts)

    def count(self, method: str, path: str) -> None:
        """Count a call."""
        with self._lock:
            self._counts[action_of(method, path)] += 1

    @contextmanager
    def to(self, port: int) -> Iterator[str]:
        """Pass calls on to the service at a port; return the URL of this end."""
        line, address = self, self._address

        class Passing(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                line.count(self.command, self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                there = HTTPConnection(address, port)
                try:
                    there.request(self.command, self.path, body or None, dict(self.headers.items()))
                    answer = there.getresponse()
                    content = answer.read()
                finally:
                    there.close()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in _OF_ONE_CONNECTION:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = _pass  # noqa: N815  # names of http.server

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        with ThreadingHTTPServer((_LOCAL, 0), Passing) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield f"http://{_LOCAL}:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()
