"""The managed plugin with volumes on Cinder: set as users set it, it creates, mounts and moves them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.engine import use
from tests.lab.built import built_plugin
from tests.lab.cinder import CinderCloud
from tests.lab.host import Host, Hosts
from tests.lab.leftovers import settled_difference, snapshot
from tests.lab.managed import ManagedVolplug
from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.shared import CINDER
from tests.lab.requirements import MULTIHOST, PLUGIN
from tests.lab.waiting import wait_until

pytestmark = [*CINDER, *MULTIHOST, *PLUGIN, pytest.mark.prepare(by=built_plugin)]

_DETACH_TIMEOUT_S: Final = 60.0
_MOST_MEMORY_MIB: Final = 110
_SECRET: Final = "OS_APPLICATION_CREDENTIAL_SECRET"  # noqa: S105  # a variable's name


class PluginHosts:
    """Two hosts with the plugin, each with its own way to the credentials.

    Attributes:
        a: Reads clouds.yaml of the host, which a mount shows.
        b: Has an application credential in variables, and its secret in the state directory.
        plugins: The plugin of each.
        cloud: The cloud of their volumes.
    """

    def __init__(self, hosts: Hosts, cloud: CinderCloud, plugins: Mapping[str, ManagedVolplug]) -> None:
        self.a, self.b = hosts["a"], hosts["b"]
        self.plugins = plugins
        self.cloud = cloud


def _installed(host: Host, hosts: Hosts, lab: OpenStackLab) -> ManagedVolplug:
    """Start a host's engine, with the plugin not yet enabled, which sees the disks of the host's server."""
    host.engine.power_on()
    hosts.network.plug(host.name, host.number, host.engine.first_pid)
    host.engine.start()
    host.engine.import_busybox(use.IMAGE)
    seen = (hosts.directory, lab.directory / "guests")
    return ManagedVolplug(host.engine, binds={path: str(path) for path in seen}).install()


def _with_clouds_yaml(settings: Mapping[str, str], openstack: Path) -> list[str]:
    ours = [f"{name}={value}" for name, value in settings.items() if not name.startswith("OS_")]
    return [*ours, "OS_CLOUD=demo", f"openstack.source={openstack}"]


def _with_secret_in_a_file(settings: Mapping[str, str], plugin: ManagedVolplug) -> list[str]:
    others = dict(settings)
    plugin.state_dir.mkdir(mode=0o700)
    (plugin.state_dir / "secret").write_text(others.pop(_SECRET))
    given = {**others, f"{_SECRET}_FILE": "/var/lib/volplug/secret"}
    return [f"{name}={value}" for name, value in given.items()]


@pytest.fixture(scope="module")
def plugin_hosts(openstack_lab: OpenStackLab) -> Iterator[PluginHosts]:
    before = snapshot()
    with Hosts("a", "b") as hosts, CinderCloud(hosts, openstack_lab) as cloud, ExitStack() as stack:
        stack.callback(hosts.close)  # before the cloud removes its devices
        openstack = hosts.directory / "openstack"
        openstack.mkdir()
        shutil.copy(openstack_lab.clouds_yaml, openstack)
        plugins = {host.name: _installed(host, hosts, openstack_lab) for host in hosts}
        plugins["a"].set(*_with_clouds_yaml(cloud.settings(hosts["a"]), openstack))
        plugins["b"].set(*_with_secret_in_a_file(cloud.settings(hosts["b"]), plugins["b"]))
        for plugin in plugins.values():
            stack.enter_context(plugin)
        yield PluginHosts(hosts, cloud, plugins)
    assert settled_difference(before) == []


def test_a_volume_moves_from_plugin_to_plugin(plugin_hosts: PluginHosts) -> None:
    a, b, cloud = plugin_hosts.a, plugin_hosts.b, plugin_hosts.cloud
    a.docker("volume", "create", "--driver=volplug", "--opt=size=1GiB", "db")
    use.run(a.engine, "-v", "db:/data", script="echo from a >/data/file; sync")
    moved = use.run(b.engine, "--volume-driver=volplug", "-v", "db:/data", script="cat /data/file")
    assert moved == "from a\n"
    use.run(b.engine, "-v", "db:/data", script="echo from b >/data/file")
    wait_until(lambda: not cloud.holders("db"), _DETACH_TIMEOUT_S, "the volume is detached")
    assert use.run(a.engine, "-v", "db:/data", script="cat /data/file") == "from b\n"
    for plugin in plugin_hosts.plugins.values():
        assert _resident_mib(plugin.pid) <= _MOST_MEMORY_MIB
    wait_until(lambda: not cloud.holders("db"), _DETACH_TIMEOUT_S, "the volume is detached")
    b.docker("volume", "rm", "db")
    assert cloud.volumes() == []


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1024
