"""OpenStack for several hosts: each is a server of Nova on a compute host of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, Self

from tests.lab.host import Host, Hosts
from tests.lab.leaks import check_logs
from tests.lab.openstack.configs import APPLICATION_SECRET, REGION
from tests.lab.openstack.shared import LAB_NUMBER

if TYPE_CHECKING:
    from tests.lab.openstack.lab import OpenStackLab
    from tests.lab.openstack.servers import Server

_NODES: Final = ("node1", "node2")
_NAME: Final = "volplug:name"  # in the metadata of volumes
_CLUSTER: Final = "lab"


def write_settings(config: Path, server: Server, cluster: str, **more: str | int) -> None:
    """Write the configuration of a server's volplug, without credentials unless they are among the others."""
    table: dict[str, str | int | float] = {
        "driver": "cinder",
        "sys_root": server.sys_root,
        "dev_root": server.dev_root,
        "proof_s": 0.2,
        "poll_s": 0.1,
        "race_s": 0.3,
        **more,
    }
    lines = ['backend = "cinder"', f'cluster = "{cluster}"', "[backends.cinder]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    config.write_text("".join(f"{line}\n" for line in lines))


class CinderCloud:
    """The cloud that a run shares, reachable by the hosts; their volplugs have an application credential.

    Attributes:
        volume_options: For small volumes.
        zone: The availability zone of the volumes.
        images: The directory of the files that are the volumes.
    """

    volume_options: Mapping[str, str] = MappingProxyType({"size": "1GiB"})
    zone = "nova"
    images: Path

    def __init__(self, hosts: Hosts, lab: OpenStackLab) -> None:
        """Describe the cloud; there are no servers before ``with``."""
        self._hosts = hosts
        self._lab = lab
        self._servers: dict[str, Server] = {}
        self.images = lab.directory / "volumes"

    def __enter__(self) -> Self:
        self._hosts.network.plug_in_caller(LAB_NUMBER)
        for host, node in zip(self._hosts, _NODES, strict=True):
            self._servers[host.name] = self._lab.servers.create(host.name, node=node)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lab.empty()
        for server in self._servers.values():
            self._lab.servers.delete(server)
        if kind is None:
            check_logs((log for host in self._hosts for log in host.logs()), [APPLICATION_SECRET])

    def settings(self, host: Host) -> Mapping[str, str]:
        """The settings of a host's volplug, as environment; the host finds its id in its firmware."""
        config = self._hosts.directory / f"{host.name}.toml"
        write_settings(config, self._servers[host.name], _CLUSTER)
        return {
            "VOLPLUG_CONFIG": str(config),
            "OS_AUTH_URL": self._lab.auth_url,
            "OS_REGION_NAME": REGION,
            "OS_USERNAME": "demo",
            "OS_APPLICATION_CREDENTIAL_NAME": "volplug",
            "OS_APPLICATION_CREDENTIAL_SECRET": APPLICATION_SECRET,
        }

    def volumes(self) -> list[str]:
        """The names of all volumes."""
        return sorted(volume.metadata[_NAME] for volume in self._lab.storage.volumes())

    def holders(self, volume: str) -> set[str]:
        """The hosts that the volume is attached to."""
        names = {server.id: name for name, server in self._servers.items()}
        return {
            names[attachment["server_id"]]
            for each in self._lab.storage.volumes()
            if each.metadata[_NAME] == volume
            for attachment in each.attachments
        }

    def node_id(self, host: Host) -> str:
        """The id of its server."""
        return self._servers[host.name].id

    def stop_command(self, host: Host) -> str:
        """The command that stops its server."""
        return f"openstack server stop {self.node_id(host)}"

    def stop(self, host: Host) -> None:
        """Stop its server, which its compute service does."""
        self._lab.servers.stop(self._servers[host.name])

    def make_state_unknown(self, host: Host) -> None:
        """Set its server to ERROR, as Nova does after a failure on its compute host."""
        self._lab.servers.set_status(self._servers[host.name], "ERROR")

    def start(self, host: Host) -> None:
        """Start its server, from any state that a test left it in."""
        server = self._servers[host.name]
        self.recover_compute(host)
        if self._lab.servers.status(server) == "SHUTOFF":
            self._lab.servers.start(server)
        else:
            self._lab.servers.set_status(server, "ACTIVE")

    # What no other cloud has

    def lose_compute(self, host: Host) -> None:
        """Kill the compute service of its server, which has missed its reports; the server stays as it is."""
        node = self._servers[host.name].node
        self._lab.hosts.kill(node)
        self._lab.hosts.miss_reports(node)

    def recover_compute(self, host: Host) -> None:
        """Start the compute service again."""
        self._lab.hosts.start(self._servers[host.name].node)
