"""An OpenStack of its own, and volplug on its servers."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from openstack.config import OpenStackConfig
from openstack.connection import Connection

from benchmarks.cinder.line import Line
from benchmarks.clouds import CloudVolplug
from benchmarks.place import Place
from tests.lab.openstack import configs
from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.servers import Server
from tests.lab.waiting import wait_until

CLUSTER: Final = "bench"
VOLUME_SIZE: Final = "1GiB"
_CLOUD: Final = "demo"
_NODES: Final = ("node1", "node2")
_SETTLED_TIMEOUT_S: Final = 60.0


def link_of(server: Server, volume_id: str) -> Path:
    """Return the path at which a server has a link to the disk of a volume while that is attached."""
    return server.directory / "volumes" / volume_id


def is_bare(server: Server) -> bool:
    """Return whether a server has no volume's disk."""
    return not os.listdir(server.directory / "volumes")


class Testbed:
    """A lab with a server on each of its hosts: the first is volplug's, the second that of the bare calls.

    Args:
        lab: Runs.
        where: Where volplug runs.
    """

    def __init__(self, lab: OpenStackLab, where: Place) -> None:
        self._lab = lab
        self._where = where
        lab.storage.set_quota(volumes=1000, gigabytes=1000)
        self.ours, self.bare = (lab.servers.create(f"bench-{node}", node=node) for node in _NODES)

    @property
    def clouds_yaml(self) -> Path:
        """The file for clients that call the services directly."""
        return self._lab.clouds_yaml

    @contextmanager
    def line(self) -> Iterator[tuple[Line, Path]]:
        """Make a line that counts calls; return it with the file for clients that use it."""
        content = json.loads(self._lab.clouds_yaml.read_text())
        address = self._lab.auth_url.partition("://")[2].partition(":")[0]
        line, project = Line(address), self.connection(self.clouds_yaml).current_project_id
        with line.to(configs.CINDER) as cinder, line.to(configs.NOVA) as nova:
            content["clouds"][_CLOUD] |= {
                "block_storage_endpoint_override": f"{cinder}/v3/{project}",
                "compute_endpoint_override": f"{nova}/v2.1",
            }
            file = self._where.directory / "counted.yaml"
            file.write_text(json.dumps(content))
            yield line, file

    def volplug(
        self, name: str, clouds_yaml: Path, *, mount_grace_s: float = 1, **table: float
    ) -> CloudVolplug:
        """Describe a volplug on its server, which detaches at once after the last unmount.

        Args:
            name: Of its files.
            clouds_yaml: Names the services.
            mount_grace_s: As for `CloudVolplug`.
            table: Further settings of the backend.
        """
        text = config_text(self.ours, clouds_yaml, **table)
        return CloudVolplug(self._where, name, text, VOLUME_SIZE, mount_grace_s)

    def connection(self, clouds_yaml: Path) -> Connection:
        """Return a connection of the SDK."""
        config = OpenStackConfig(config_files=[str(clouds_yaml)], load_envvars=False)
        return Connection(config=config.get_one(_CLOUD))

    def await_settled(self) -> None:
        """Wait until no volume is attached or in a transition."""

        def is_settled() -> bool:
            states = {volume.status for volume in self._lab.storage.volumes()}
            listed = [*self._lab.servers.volumes(self.ours), *self._lab.servers.volumes(self.bare)]
            return states <= {"available"} and not listed

        wait_until(is_settled, _SETTLED_TIMEOUT_S, "all volumes are available")


@contextmanager
def served(where: Place) -> Iterator[Testbed]:
    """Run an OpenStack."""
    with OpenStackLab(nodes=_NODES) as lab:
        yield Testbed(lab, where)
        lab.empty()


def config_text(server: Server, clouds_yaml: Path, **table: float) -> str:
    """The configuration file of volplug on a server."""
    settings = {
        "driver": "cinder",
        "cloud": _CLOUD,
        "clouds_file": str(clouds_yaml),
        "sys_root": server.sys_root,
        "dev_root": server.dev_root,
        **table,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join([f'cluster = "{CLUSTER}"', "linger_s = 0", "[backends.cinder]", *lines, ""])
