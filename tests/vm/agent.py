"""Runs in a guest and executes requests of the test there; it needs nothing but Python.

A request is a line of JSON on a connection of its own, and so is the answer.
"""

import base64
import errno
import json
import os
import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PORT = 7
READY = "agent listens"


class Agent(socketserver.StreamRequestHandler):
    """One question."""

    def handle(self) -> None:
        """Answer it."""
        question = json.loads(self.rfile.readline())
        kind = question.pop("do")
        try:
            if kind == "connect":
                self._connect(question["socket"])
            else:
                self._answer(_ANSWERS[kind](**question))
        except Exception as error:
            self._answer({"error": repr(error)})

    def _answer(self, answer: Mapping[str, Any]) -> None:
        self.wfile.write(json.dumps(answer).encode() + b"\n")

    def _connect(self, path: str) -> None:
        """Pass everything on from and to a Unix socket here."""
        with socket.socket(socket.AF_UNIX) as there:
            there.connect(path)
            self._answer({})
            sending = threading.Thread(target=_copy, args=(self.connection, there), daemon=True)
            sending.start()
            _copy(there, self.connection)


def run(argv: list[str], env: Mapping[str, str], input_base64: str, timeout_s: float) -> Mapping[str, Any]:
    """Run a program and wait for its end."""
    done = subprocess.run(
        argv,
        env={**os.environ, **env},
        input=base64.b64decode(input_base64),
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    texts = {"out": done.stdout.decode(errors="replace"), "err": done.stderr.decode(errors="replace")}
    return {"code": done.returncode, **texts}


def spawn(argv: list[str], env: Mapping[str, str], log: str) -> Mapping[str, Any]:
    """Start a program; its output is appended to a file."""
    with Path(log).open("ab") as output:
        process = subprocess.Popen(
            argv, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    threading.Thread(target=process.wait, daemon=True).start()
    return {"pid": process.pid}


def is_running(pid: int) -> Mapping[str, Any]:
    """Return whether a spawned program runs; cheaper than another program."""
    return {"running": Path(f"/proc/{pid}").exists()}


def read(path: str) -> Mapping[str, Any]:
    """Read a file; cheaper than another program."""
    return {"text": Path(path).read_text(errors="replace")}


def is_held(serial: str) -> Mapping[str, Any]:
    """Return whether the disk with this serial is in use in the guest."""
    for shown in Path("/sys/block").glob("nvme*n*"):
        if (shown / "device" / "serial").read_text().strip() == serial:
            try:
                os.close(os.open(f"/dev/{shown.name}", os.O_RDONLY | os.O_EXCL))
            except OSError as error:
                return {"held": error.errno == errno.EBUSY}
    return {"held": False}


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return  # one side has gone


class Server(socketserver.ThreadingTCPServer):
    """A thread for each request."""

    allow_reuse_address = True
    daemon_threads = True


_ANSWERS: Mapping[str, Callable[..., Mapping[str, Any]]] = {
    "run": run,
    "spawn": spawn,
    "is_running": is_running,
    "read": read,
    "is_held": is_held,
}

if __name__ == "__main__":
    with Server(("", PORT), Agent) as server:
        print(READY, flush=True)  # noqa: T201 - to the console
        server.serve_forever()
