"""A real OpenStack for tests: Keystone, Placement, Glance, Cinder, and Nova with several hosts.

    with OpenStackLab() as lab:
        server = lab.servers.create("a", node="node1")
        volume_id = lab.storage.create("db")
        lab.servers.attach(server, volume_id)
        server.disks()[volume_id]  # the path of its device node

Real are the APIs, the states, the policies and the errors. The last step, of the storage and of the
hypervisor, is the lab's own (services): a volume is a sparse file, and attached it is a loop device, which
its server sees in a /sys and a /dev of its own.

The services run in the network of the thread that enters. One network has room for one lab.
"""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from openstack.connection import Connection

from tests.lab import lane, loops
from tests.lab.openstack import accounts, configs, software, starting, template
from tests.lab.openstack.configs import LOCAL, CloudSite
from tests.lab.openstack.faults import Faults
from tests.lab.openstack.hosts import ComputeHosts
from tests.lab.openstack.outages import Outages
from tests.lab.openstack.processes import Processes
from tests.lab.openstack.servers import Servers
from tests.lab.openstack.storage import Storage


class OpenStackLab:
    """The cloud.

    Attributes:
        directory: Of all its files; removed at the end.
        clouds_yaml: The file for clients, with the clouds admin, demo (a member), demo-app (an application
            credential of demo), other (a member of another project), viewer (a reader of demo's project) and
            operator (an admin in demo's project).
        auth_url: Keystone's URL.
        faults: Delays and failures of the storage and the hosts.
        outages: Outages of services and of the database.
        hosts: The hosts' compute services.
        storage: The volumes of demo's project.
        servers: The servers of demo's project.
    """

    directory: Path
    clouds_yaml: Path
    auth_url: str
    faults: Faults
    outages: Outages
    hosts: ComputeHosts
    storage: Storage
    servers: Servers

    def __init__(
        self,
        directory: Path | None = None,
        *,
        address: str = LOCAL,
        nodes: Sequence[str] = ("node1", "node2"),
        capacity_gb: float = 200.0,
    ) -> None:
        """Describe it; nothing runs before ``with``.

        Args:
            directory: A new one with a short path, on a disk that allows device nodes; by default one in the
                lane's directory.
            address: Of the APIs, one of the network that it runs in.
            nodes: The names of its hosts.
            capacity_gb: How much the sizes of all volumes and snapshots may add up to.
        """
        self._given = directory
        self._address = address
        self._nodes = tuple(nodes)
        self._capacity_gb = capacity_gb
        self._connections: dict[str, Connection] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        first_state = template.template(self._nodes)
        with ExitStack() as stack:
            self.directory = self._given or lane.new_directory()
            stack.callback(self._remove_directory)
            site = CloudSite(
                self.directory, software.environment(), self._address, self._nodes, self._capacity_gb
            )
            self._start(stack, site, first_state)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def connection(self, cloud: str) -> Connection:
        """The connection of one of the clouds of clouds.yaml."""
        if cloud not in self._connections:
            self._connections[cloud] = accounts.connection(self._site, cloud)
        return self._connections[cloud]

    def empty(self) -> None:
        """End all faults, and detach and delete all volumes and snapshots; the servers stay."""
        self.faults.end()
        self.hosts.start_all()
        self.servers.detach_all()
        self.storage.delete_all()
        self.storage.end_quota()

    def _start(self, stack: ExitStack, site: CloudSite, first_state: Path) -> None:
        template.copy(first_state, site)
        configs.write(site)
        processes = stack.enter_context(Processes(site))
        starting.infrastructure(processes)
        template.move(processes, site)
        starting.services(processes, site)
        self._site = site
        self.clouds_yaml = site.directory / "clouds.yaml"
        self.auth_url = f"{site.url(configs.KEYSTONE)}/v3"
        stack.callback(self._disconnect)
        self.faults = Faults(site.directory / "faults")
        self.outages = Outages(processes)
        self.hosts = ComputeHosts(self.connection("admin"), processes, site.nodes)
        self.storage = Storage(self.connection("operator"), processes.sql)
        self.servers = Servers(self.connection("operator"), self.storage, self.directory / "guests")

    def _disconnect(self) -> None:
        for each in self._connections.values():
            each.close()

    def _remove_directory(self) -> None:
        loops.detach_below(self.directory)
        shutil.rmtree(self.directory)
