"""QEMU's control socket."""

import json
import socket
import threading
from typing import Any

_TIMEOUT_S = 120.0


class QmpError(RuntimeError):
    """QEMU refused a command."""


class Qmp:
    """The control socket of one QEMU. Calls block, from any thread.

    Protocol: https://www.qemu.org/docs/master/interop/qmp-spec.html
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.settimeout(_TIMEOUT_S)
        self._lines = connection.makefile("rb")
        self._events: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._read()  # its greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> Any:  # noqa: ANN401 - each command has its own
        """Execute a command and return its result."""
        with self._lock:
            self._connection.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
            while True:
                message = self._read()
                if "error" in message:
                    raise QmpError(f"{command} {arguments}: {message['error']['desc']}")
                if "return" in message:
                    return message["return"]
                self._events.append(message)

    def await_deleted(self, device: str) -> None:
        """Wait until the guest has released a device."""
        with self._lock:
            while True:
                for event in self._events:
                    if event["event"] == "DEVICE_DELETED" and event["data"].get("device") == device:
                        self._events.remove(event)
                        return
                self._events.append(self._read())

    def close(self) -> None:
        """Close it; QEMU continues."""
        self._lines.close()
        self._connection.close()

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise QmpError("QEMU has ended")
        message = json.loads(line)
        assert isinstance(message, dict)
        return message
