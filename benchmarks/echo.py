"""A server that does nothing but answer, to measure the client and the socket alone.

Usage: python -m benchmarks.echo SOCKET. The body of a request is the number of bytes wanted.
"""

import contextlib
import socket
import sys

_ROOM_BYTES = 65_536


def main() -> None:
    """Serve one client after the other until killed."""
    answers: dict[bytes, bytes] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(sys.argv[1])
        listening.listen()
        while True:
            client, _ = listening.accept()
            with client, contextlib.suppress(ConnectionError):
                while asked := client.recv(_ROOM_BYTES):
                    wanted = asked.rpartition(b"\n")[2]
                    if wanted not in answers:
                        answers[wanted] = _answer(int(wanted))
                    client.sendall(answers[wanted])


def _answer(size_bytes: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {size_bytes}\r\n\r\n".encode() + b" " * size_bytes


if __name__ == "__main__":
    main()
