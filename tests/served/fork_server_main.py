"""The process of a fork server: it imports all modules, and forks a process for each request.

Run by fork_server.py. Standard input is a socket, which brings a request per message; each is answered at
once. The process ends when the other end is closed.
"""

import gc
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence

# What `volplug serve` imports only when it needs it.
import volplug.app
import volplug.drivers.loop  # noqa: F401
from tests.served.fork_server import LONGEST_MESSAGE, SERVE, SERVE_AND_DIE
from volplug.__main__ import main as serve
from volplug.testing.serve import main as serve_and_die

_MAINS = {SERVE: serve, SERVE_AND_DIE: serve_and_die}


def main() -> None:
    """Answer requests until none can come any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end what they started
    gc.collect()
    gc.freeze()  # memory that no collection touches stays shared with the forked processes
    with socket.socket(fileno=sys.stdin.fileno()) as requests:
        while message := requests.recv(LONGEST_MESSAGE):
            request = json.loads(message)
            reply = _exit_code(**request) if "pid" in request else _fork(**request)
            requests.send(json.dumps(reply).encode())


def _exit_code(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _fork(module: str, arguments: Sequence[str], env: Mapping[str, str], log: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _become_independent(env, log)
        code = _MAINS[module](arguments)
    except SystemExit as error:  # argparse refuses arguments
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _become_independent(env: Mapping[str, str], log: str) -> None:
    """Take the environment and the streams that a started process would have been given."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    streams = (
        (os.open(os.devnull, os.O_RDONLY), sys.stdin),
        (os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), sys.stdout),
    )
    for descriptor, stream in streams:
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
    os.dup2(sys.stdout.fileno(), sys.stderr.fileno())


if __name__ == "__main__":
    main()
