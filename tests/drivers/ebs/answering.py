"""A web server on loopback that answers as a test says, and keeps what it was asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs


@dataclass(frozen=True)
class Asked:
    """One request; names of headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    form: dict[str, str]

    @property
    def action(self) -> str:
        return self.form.get("Action", "")


@dataclass(frozen=True)
class Reply:
    """What is answered; `closed`: nothing, the connection is closed instead."""

    body: str = ""
    status: int = 200
    closed: bool = False


CLOSED = Reply(closed=True)


def refusal(code: str, message: str = "because", status: int = 400) -> Reply:
    """An error as EC2 words it."""
    error = f"<Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
    return Reply(f"<Response>{error}<RequestID>r-1</RequestID></Response>", status)


@dataclass
class Server:
    """What runs, and what it was asked so far."""

    url: str
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def answering(answer: Callable[[Asked], Reply]) -> Iterator[Server]:
    """Serve for the time of the context; `answer` is called in a thread for each request and may wait."""
    server = Server("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet for an answer: two of them meet delayed acknowledgements

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            form = {key: values[0] for key, values in parse_qs(body).items()}
            asked = Asked(self.command, self.path, headers, form)
            server.asked.append(asked)
            reply = answer(asked)
            if reply.closed:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            content = reply.body.encode()
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        do_GET = do_POST = do_PUT = _serve  # noqa: N815  # the library's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
            pass

    class Listener(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that has gone is no error of the test."""

    with Listener(("127.0.0.1", 0), Handler) as listener:
        server.url = f"http://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()


def metadata_of(**known: str) -> Callable[[Asked], Reply]:
    """Answer as the instance metadata service does, to those who show a token; `__` stands for `/`."""
    paths = {
        f"/latest/meta-data/{name.replace('__', '/').replace('_', '-')}": text for name, text in known.items()
    }

    def answer(asked: Asked) -> Reply:
        if (asked.method, asked.path) == ("PUT", "/latest/api/token"):
            return Reply("token-1")
        if asked.headers.get("x-aws-ec2-metadata-token") != "token-1":
            return Reply("Unauthorized", 401)
        return Reply(paths[asked.path]) if asked.path in paths else Reply("Not Found", 404)

    return answer
