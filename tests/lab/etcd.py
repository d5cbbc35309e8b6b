"""A real etcd on this machine, of one member or of several, on free ports of the loopback interface."""

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.api.certificates import Pair
from tests.lab import lane
from tests.lab.programs import clean_environment, find_program, settled, tail
from tests.lab.waiting import wait_until

_START_S = 20.0


def _missing() -> str:
    found = shutil.which("etcd", path=clean_environment()["PATH"])
    return "" if found else "not installed: etcd (make setup as root)"


ETCD = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(_missing()), reason=_missing() or "-"),
]


@dataclass(frozen=True)
class EtcdTls:
    """What etcd shows, and whom it asks for certificates."""

    pair: Pair
    authority: Path


@dataclass
class Member:
    """One member, whose process may be killed, paused and started again."""

    argv: Sequence[str]
    client_url: str
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.argv, stdout=log, stderr=log, env=clean_environment())

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            settled(self.process, 10)
            self.process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Answer nothing meanwhile, but accept connections: as one that is cut off, or whose disk hangs."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)


class Etcd:
    """A running etcd; `call` is a plain client of its gateway."""

    def __init__(self, members: Sequence[Member], context: ssl.SSLContext | None) -> None:
        self.members = members
        self._context = context

    @property
    def urls(self) -> str:
        """All members, as the setting has them."""
        return ",".join(member.client_url for member in self.members)

    def call(self, path: str, body: object, *, member: int = 0, token: str = "") -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310  # a URL of the lab
            f"{self.members[member].client_url}/v3/{path}",
            json.dumps(body).encode(),
            {"Authorization": token} if token else {},
        )
        with urllib.request.urlopen(request, timeout=6, context=self._context) as answer:  # noqa: S310
            read: dict[str, Any] = json.loads(answer.read())
        return read

    def put(self, key: str, value: str, *, member: int = 0) -> int:
        """Write a key as another program would, once its member has a leader, and return the revision."""
        wait_until(lambda: self.answers(member), _START_S, "etcd has a leader")
        answer = self.call("kv/put", {"key": encoded(key), "value": encoded(value)}, member=member)
        return int(answer["header"]["revision"])

    def values(self, prefix: str, token: str = "") -> dict[str, str]:
        body = {"key": encoded(prefix), "range_end": encoded(prefix[:-1] + chr(ord(prefix[-1]) + 1))}
        found = self.call("kv/range", body, token=token).get("kvs", ())
        return {decoded(each["key"]): decoded(each.get("value", "")) for each in found}

    def compact(self, revision: int, *, member: int = 0) -> None:
        self.call("kv/compaction", {"revision": revision, "physical": True}, member=member)

    def protect(self, user: str, password: str) -> None:
        """Let only users in: root, and one who may do everything below /volplug/."""
        self.call("auth/role/add", {"name": "root"})
        self.call("auth/role/add", {"name": "volplug"})
        permission = {"permType": "READWRITE", "key": encoded("/volplug/"), "range_end": encoded("/volplug0")}
        self.call("auth/role/grant", {"name": "volplug", "perm": permission})
        for name, role in (("root", "root"), (user, "volplug")):
            self.call("auth/user/add", {"name": name, "password": password})
            self.call("auth/user/grant", {"user": name, "role": role})
        self.call("auth/enable", {})

    def answers(self, member: int = 0) -> bool:
        """Whether a member answers, and has a leader."""
        try:
            self.call("kv/range", {"key": encoded("x")}, member=member)
        except urllib.error.HTTPError as error:
            return error.code in (400, 401)  # it asks for a user
        except OSError:
            return False
        return True


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def decoded(text: str) -> str:
    return base64.b64decode(text).decode()


def _ports(count: int) -> list[int]:
    open_ones = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in open_ones]
    for each in open_ones:
        each.close()
    return ports


@contextmanager
def etcd(members: int = 1, tls: EtcdTls | None = None, *options: str) -> Iterator[Etcd]:
    """Start an etcd, and end it in any case."""
    directory, ports = lane.new_directory(), _ports(2 * members)
    scheme = "https" if tls else "http"
    clients = [f"{scheme}://127.0.0.1:{port}" for port in ports[:members]]
    peers = [f"http://127.0.0.1:{port}" for port in ports[members:]]
    initial = ",".join(f"m{number}={peer}" for number, peer in enumerate(peers))
    of_tls = ["--cert-file", str(tls.pair.certificate), "--key-file", str(tls.pair.key)] if tls else []
    made = []
    for number, (client, peer) in enumerate(zip(clients, peers, strict=True)):
        data = directory / f"m{number}"
        argv = [
            *(find_program("etcd"), "--name", f"m{number}", "--data-dir", str(data)),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", initial, "--heartbeat-interval", "100", "--election-timeout", "1000"),
            *of_tls,
            *options,
        ]
        made.append(Member(argv, client, directory / f"m{number}.log"))
    context = ssl.create_default_context(cafile=tls.authority) if tls else None
    running = Etcd(made, context)
    try:
        for member in made:
            member.start()
        wait_until(
            lambda: all(running.answers(number) for number in range(members)),
            _START_S,
            f"etcd answers: {tail(made[0].log, 5)}",
        )
        yield running
    finally:
        for member in made:
            member.kill()
        shutil.rmtree(directory)
