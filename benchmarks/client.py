"""A client of plugin sockets with little overhead: prepared bytes out, bytes in, nothing decoded.

In Python because it is not the bottleneck: against a server that only echoes it is within some microseconds
of a client in C, and its own time is measured in every run (the row "client and socket alone").
"""

import json
import re
import socket
import time
from pathlib import Path
from typing import Any, Self

TIMEOUT_S = 30.0
_ROOM_BYTES = 8 << 20
_HEAD_BYTES = 1024
_HEAD_END = b"\r\n\r\n"
_CHUNKS_END = b"0\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class CallError(RuntimeError):
    """A peer answered an error, or not at all in time."""


def request(verb: str, body: object) -> bytes:
    """The bytes of one call, as dockerd would send them."""
    content = json.dumps(body).encode()
    path = "/Plugin.Activate" if verb == "Activate" else f"/VolumeDriver.{verb}"
    head = f"POST {path} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class PluginClient:
    """One kept-alive connection."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._room = memoryview(bytearray(_HEAD_BYTES))
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def with_room(self) -> Self:
        """Make room for answers of some MiB, such as those of List."""
        self._room = memoryview(bytearray(_ROOM_BYTES))
        return self

    def send(self, ready: bytes) -> None:
        """Send a call without waiting for the answer."""
        self._socket.sendall(ready)

    def receive(self) -> memoryview:
        """Receive one whole answer, head included; it is valid until the next one."""
        room = self._room
        try:
            filled = self._socket.recv_into(room)
            head = bytes(room[: min(filled, _HEAD_BYTES)])
            end = head.find(_HEAD_END)
            if end < 0:
                raise CallError(f"no answer: {head[:80]!r}")
            length = _LENGTH.search(head, 0, end)
            while not _is_whole(room, filled, end, length):
                if filled == len(room):
                    self._room = memoryview(bytearray(2 * filled))
                    self._room[:filled] = room
                    room = self._room
                more = self._socket.recv_into(room[filled:])
                if not more:
                    raise CallError("the connection was closed in the middle of an answer")
                filled += more
        except TimeoutError:
            raise CallError(f"no answer within {self._socket.gettimeout():g} s") from None
        except ConnectionError as error:
            raise CallError(f"no answer: {error}") from error
        return room[:filled]

    def call(self, verb: str, **body: object) -> dict[str, Any]:
        """Call and decode the answer; CallError if it is an error."""
        self.send(request(verb, body))
        answer = decoded(self.receive())
        if answer.get("Err"):
            raise CallError(f"{verb}: {answer['Err']}")
        return answer

    def timed(self, ready: bytes, count: int) -> list[float]:
        """Call ``count`` times and return the milliseconds of each."""
        taken: list[float] = []
        for _ in range(count):
            begun = time.perf_counter_ns()
            self._socket.sendall(ready)
            self.receive()
            taken.append((time.perf_counter_ns() - begun) / 1e6)
        return taken


def _is_whole(room: memoryview, filled: int, end: int, length: re.Match[bytes] | None) -> bool:
    if length is not None:
        return filled >= end + len(_HEAD_END) + int(length[1])
    return bytes(room[filled - len(_CHUNKS_END) : filled]) == _CHUNKS_END


def decoded(answer: memoryview) -> dict[str, Any]:
    """The JSON object of an answer, whose body may come in chunks."""
    head, _, body = bytes(answer).partition(_HEAD_END)
    if _LENGTH.search(head) is None:
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
        body = whole
    content = json.loads(body)
    if not isinstance(content, dict):
        raise CallError(f"not a JSON object: {body[:80]!r}")
    return content
