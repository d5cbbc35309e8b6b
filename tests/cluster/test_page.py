"""The commands of docs/cluster.md: etcd from nothing, and hosts whose volplug serves as on a real one."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import pages
from tests.lab.etcd import ETCD
from tests.lab.operator import Operator
from tests.lab.plugin import VolplugProcess
from tests.lab.programs import clean_environment
from tests.lab.waiting import wait_until
from tests.served.conftest import local_machine
from volplug.api.client import ControlClient, Endpoint

pytestmark = [*ETCD, pytest.mark.loop, pytest.mark.lane("cluster-page")]

_PAGE = "docs/cluster.md"
_PROGRAMS = {
    "volplug": 'PYTHONPATH={root} exec {python} -m volplug "$@"',
    "apt-get": "true",
    # As Debian's unit: the settings are the environment.
    "systemctl": """set -a
. {directory}/etcd
setsid etcd >{directory}/etcd.log 2>&1 &
echo $! >{directory}/etcd.pid""",
}


class PageHost:
    """A host with an address of its own, where an operator types."""

    def __init__(self, directory: Path, number: int) -> None:
        self.directory = directory
        self.address = f"127.0.0.{number}"
        programs = directory / "programs"
        programs.mkdir()
        names = {f"10.0.0.{each}": f"127.0.0.{each}" for each in (5, 6, 7)} | {
            "self=10.0.0.5": f"self={self.address}",
            "/etc/default/etcd": str(directory / "etcd"),
            "/var/lib/etcd/volplug": str(directory / "etcd-data"),
            "/var/lib/volplug/etcd-password": str(directory / "password"),
            "NODE": "node7",
        }
        self.operator = Operator(self._run, names, programs)
        for name, script in _PROGRAMS.items():
            text = script.format(root=pages.ROOT, python=sys.executable, directory=directory)
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        self.socket = directory / "volplug" / "control.sock"

    def _run(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = clean_environment(VOLPLUG_HOST=f"unix://{self.socket}")
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, env=environment, cwd=self.directory
        )

    def end_etcd(self) -> None:
        pid = self.directory / "etcd.pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGKILL)
            pid.unlink()

    def etcd_answers(self) -> bool:
        return self.operator.tries(f"etcdctl --endpoints http://{self.address}:2379 get x").returncode == 0

    def settings(self) -> dict[str, str]:
        """Those that the page shows for the first host."""
        shown = re.findall(r"^(VOLPLUG_\w+)=(\S+)$", (pages.ROOT / _PAGE).read_text(), re.MULTILINE)
        words = self.operator.types("".join(f"echo {name}={value}\n" for name, value in shown)).split()
        return dict(word.split("=", 1) for word in words)


@contextmanager
def _hosts(*numbers: int) -> Iterator[list[PageHost]]:
    with ExitStack() as stack:
        hosts = []
        for number in numbers:
            machine = stack.enter_context(local_machine())
            host = PageHost(machine.directory, number)
            stack.callback(host.end_etcd)
            hosts.append(host)
        yield hosts


@contextmanager
def _served(host: PageHost, **env: str) -> Iterator[None]:
    with local_machine() as machine:
        settings = {"VOLPLUG_NODE_ID": f"node{host.address[-1]}", **env}
        with VolplugProcess(machine, env=settings, state_dir=host.directory / "volplug"):
            wait_until(host.socket.exists, 10, "the control API is served")
            yield


def _live(host: PageHost) -> list[str]:
    client = ControlClient(Endpoint((str(host.socket),)))
    try:
        return [node["name"] for node in client.get("cluster")["nodes"] if node["is_live"]]
    finally:
        client.close()


def _states(host: PageHost) -> dict[str, str]:
    rows = host.operator.does(_PAGE, "Add a host", 1).splitlines()[1:]
    return {row.split()[0]: row.split()[2] for row in rows}


def test_three_hosts_from_nothing() -> None:
    with _hosts(5, 6, 7) as hosts, ExitStack() as running:
        first, second, third = hosts
        for host in hosts:
            host.operator.does(_PAGE, "etcd on three hosts, to keep", 0)
        for host in hosts:
            wait_until(host.etcd_answers, 20, "etcd answers")
        first.operator.does(_PAGE, "etcd on three hosts, to keep", 1)
        (first.directory / "password").write_text("PASSWORD\n")
        running.enter_context(_served(first, **first.settings()))
        for host in (second, third):
            running.enter_context(_served(host, VOLPLUG_CLUSTER_ADDRESS=f"{host.address}:7443"))
        assert second.operator.types(first.operator.does(_PAGE, "Begin")) == "node6\n"
        assert third.operator.types(first.operator.does(_PAGE, "Add a host", 0)) == "node7\n"
        everyone = ["node5", "node6", "node7"]
        wait_until(lambda: all(_live(host) == everyone for host in hosts), 10, "all are live")
        assert _states(second) == dict.fromkeys(everyone, "live")
        third.end_etcd()
        second.operator.does(_PAGE, "Remove a host", 0)
        wait_until(lambda: _live(first) == ["node5", "node6"], 20, "it is gone")
        third.operator.does(_PAGE, "Remove a host", 1)
        refused = third.operator.tries("volplug cluster show")
        told = "volplug: this host is a member of no cluster"
        assert (refused.returncode, refused.stderr.split(".")[0]) == (1, told)


def test_one_etcd_to_try_is_enough_to_begin() -> None:
    with _hosts(5) as (host,):
        host.operator.does(_PAGE, "etcd on one host, to try")
        wait_until(host.etcd_answers, 20, "etcd answers")
        etcd = f"http://{host.address}:2379"
        with _served(host, VOLPLUG_CLUSTER_ADDRESS=f"{host.address}:7443", VOLPLUG_CLUSTER_ETCD=etcd):
            assert host.operator.does(_PAGE, "Begin").startswith(f"volplug cluster join {host.address}:7443 ")
            host.operator.types("volplug cluster leave")


def test_hosts_that_the_file_lists() -> None:
    with _hosts(5, 6) as hosts, ExitStack() as running:
        first, second = hosts
        text = pages.files(_PAGE)["/etc/volplug/config.toml"].replace("10.0.0.", "127.0.0.")
        for host in hosts:
            own = text.replace('cluster_address = "127.0.0.5', f'cluster_address = "{host.address}')
            renamed = own.replace("nodes.node1", "nodes.node5").replace("nodes.node2", "nodes.node6")
            (host.directory / "config.toml").write_text(renamed)
        running.enter_context(_served(first, VOLPLUG_CONFIG=str(first.directory / "config.toml")))
        assert first.operator.does(_PAGE, "Begin") == ""
        first.operator.knows({"certificate node2": "certificate node6"})
        assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", first.operator.does(_PAGE, "Without etcd"))
        (second.directory / "volplug").mkdir(mode=0o700)
        (first.directory / "node6").rename(second.directory / "volplug" / "cluster")
        running.enter_context(_served(second, VOLPLUG_CONFIG=str(second.directory / "config.toml")))
        for host in hosts:
            assert _states(host) == {"node5": "unknown", "node6": "unknown"}
