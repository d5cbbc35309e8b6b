"""The process of a fork server: has loaded volplug's modules, and forks programs.

Run by fork_server.py as a program of its own, without the tests. A request is a line of JSON on standard
input, which is a socket, and so is the answer. It ends when the socket is closed.
"""

import ctypes
import gc
import json
import os
import runpy
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

# What `volplug serve` loads at its start.
import volplug.app
import volplug.drivers.loop  # noqa: F401

_NAMESPACES = ("net", "uts", "mnt")
_LIBC = ctypes.CDLL(None, use_errno=True)
_exit_codes: dict[int, int] = {}


def main() -> None:
    """Answer requests until the connection is closed."""
    for driver in sys.argv[1:]:
        _SDKS[driver]()
    gc.collect()
    gc.freeze()  # the children do not write to these objects, so that their memory stays shared
    signal.signal(signal.SIGCHLD, _reap)
    with socket.socket(fileno=0) as connection, connection.makefile("rw") as lines:
        for line in lines:
            lines.write(json.dumps(_answer(**json.loads(line))) + "\n")
            lines.flush()


def _answer(do: str, **arguments: Any) -> Mapping[str, Any]:  # noqa: ANN401 - each action has its own
    try:
        return _ACTIONS[do](**arguments)
    except OSError as error:
        return {"error": str(error)}


def _load_sdk_of_ec2() -> None:
    """Load the modules that the first call of EC2 loads; this starts no thread."""
    import boto3.session
    import botocore.config

    import volplug.drivers.ebs  # noqa: F401

    unsigned = botocore.config.Config(signature_version=botocore.UNSIGNED)
    boto3.session.Session().client("ec2", region_name="eu-central-1", config=unsigned)


def _load_sdk_of_openstack() -> None:
    """Load the modules that the first call of Cinder or Nova loads; this starts no thread."""
    import keystoneauth1.adapter  # noqa: F401
    from openstack.config import OpenStackConfig

    import volplug.drivers.cinder  # noqa: F401

    auth = {
        "auth_url": "http://127.0.0.1/v3",
        "application_credential_id": "none",
        "application_credential_secret": "none",
    }
    config = OpenStackConfig(load_yaml_config=False, load_envvars=False)
    config.get_one(auth_type="v3applicationcredential", auth=auth).get_session()


def _start(first_pid: int | None, argv: Sequence[str], env: Mapping[str, str], log: str) -> Mapping[str, Any]:
    """Run a module, as `python -m` does, in the namespaces of a host if one is named."""
    _enter(first_pid or os.getpid(), "pid")  # which is where children are born; this process stays
    # Until an earlier program of this pid has been reaped, or the end of the new one would be lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    try:
        pid = os.fork()
        if pid == 0:
            _be_the_program(first_pid, argv, env, log)
        _exit_codes.pop(pid, None)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    return {"pid": pid}


def _poll(pid: int) -> Mapping[str, Any]:
    """Return the exit code of a program as `subprocess.Popen.returncode` does; null if it runs."""
    return {"code": _exit_codes.get(pid)}


def _signal(pid: int, number: int) -> Mapping[str, Any]:
    """Send a signal to a program; nothing happens if it has ended."""
    if pid not in _exit_codes:
        os.kill(pid, number)
    return {}


def _be_the_program(first_pid: int | None, argv: Sequence[str], env: Mapping[str, str], log: str) -> NoReturn:
    code = 1
    try:
        _become_independent(env, log)
        if first_pid is not None:
            _move_to(first_pid)
        code = _run(argv)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _become_independent(env: Mapping[str, str], log: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for descriptor, standard in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, standard)
    for descriptor in (output, nothing):
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(env)


def _move_to(first_pid: int) -> None:
    root = os.open(f"/proc/{first_pid}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for kind in _NAMESPACES:
        _enter(first_pid, kind)
    os.fchdir(root)
    os.chroot(".")
    os.close(root)


def _run(argv: Sequence[str]) -> int:
    _, option, module, *arguments = argv
    assert option == "-m", argv
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _enter(first_pid: int, kind: str) -> None:
    # os.setns() comes with Python 3.12 only.
    descriptor = os.open(f"/proc/{first_pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.setns(descriptor, 0) != 0:
            raise OSError(ctypes.get_errno(), f"setns to the {kind} namespace of {first_pid}")
    finally:
        os.close(descriptor)


def _reap(*_: object) -> None:
    """Reap programs that have ended; their namespaces end with the last of them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _exit_codes[pid] = os.waitstatus_to_exitcode(status)


_ACTIONS: Mapping[str, Callable[..., Mapping[str, Any]]] = {"start": _start, "poll": _poll, "signal": _signal}

_SDKS: Mapping[str, Callable[[], None]] = {"ebs": _load_sdk_of_ec2, "cinder": _load_sdk_of_openstack}

if __name__ == "__main__":
    main()
