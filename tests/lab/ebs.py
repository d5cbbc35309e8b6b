"""EC2 for several hosts: each is an instance, and its volumes are loop devices that only it sees."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self, TypeVar

from tests.ec2sim import Ec2Cloud, LoopHypervisor
from tests.lab.host import Host, Hosts
from tests.lab.leaks import check_logs

_ZONE_SUFFIX: Final = "a"
_NAME_TAG: Final = "volplug:name"
_CLUSTER: Final = "lab"
_Result = TypeVar("_Result")


class EbsCloud:
    """The cloud, in this process, reachable by the hosts.

    Attributes:
        volume_options: for small volumes.
        zone: the availability zone of the volumes.
        images: a directory above the images of the volumes.
        ec2: the simulated EC2, for its plan of faults and its counts of calls.
    """

    volume_options: Mapping[str, str] = MappingProxyType({"size": "1GiB"})
    zone: str
    images: Path
    ec2: Ec2Cloud

    def __init__(self, hosts: Hosts) -> None:
        """Describe the cloud; nothing runs before ``with``."""
        self._hosts = hosts
        self.images = hosts.directory
        self._inside = hosts.network.threads()
        self._secrets: set[str] = set()

    def __enter__(self) -> Self:
        self.ec2 = self._inside.submit(self._start).result()
        self.zone = f"{self.ec2.region}{_ZONE_SUFFIX}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._inside:
            self._run(self.ec2.close)
        if kind is None:
            check_logs((log for host in self._hosts for log in host.logs()), self._secrets)

    def _start(self) -> Ec2Cloud:
        hypervisor = LoopHypervisor(str(self._hosts.directory))
        return Ec2Cloud(hypervisor=hypervisor, address=self._hosts.network.cloud).__enter__()

    def _run(self, action: Callable[[], _Result]) -> _Result:
        return self._inside.submit(action).result()

    def settings(self, host: Host) -> Mapping[str, str]:
        """Add the host as an instance, and return the settings of its volplug, as environment."""
        instance = self.ec2.add_instance(self.node_id(host), zone=self.zone, name=host.name)
        self._secrets |= {instance.secret_key, instance.session_token}
        lines = [
            'backend = "ebs"',
            f'cluster = "{_CLUSTER}"',
            "[backends.ebs]",
            'driver = "ebs"',
            f'endpoint = "{self.ec2.endpoint}"',
            f'imds_endpoint = "{self.ec2.imds_endpoint_of(instance.instance_id)}"',
            f'sys_root = "{instance.sys_root}"',
            f'dev_root = "{instance.dev_root}"',
            "proof_s = 0.2",
            "poll_s = 0.1",
        ]
        config = self._hosts.directory / f"{host.name}.toml"
        config.write_text("".join(f"{line}\n" for line in lines))
        return {"VOLPLUG_CONFIG": str(config)}

    def volumes(self) -> list[str]:
        """The names of all volumes."""
        return sorted(volume.tags[_NAME_TAG] for volume in self.ec2.volumes())

    def holders(self, volume: str) -> set[str]:
        """The hosts that the volume is attached to."""
        names = {self.node_id(host): host.name for host in self._hosts}
        return {
            names[each.attachment.instance_id]
            for each in self.ec2.volumes()
            if each.tags[_NAME_TAG] == volume and each.attachment is not None
        }

    def node_id(self, host: Host) -> str:
        """The id of its instance."""
        return f"i-{host.number:017x}"

    def stop_command(self, host: Host) -> str:
        """The command that stops its instance."""
        return f"aws ec2 stop-instances --instance-ids {self.node_id(host)}"

    def stop(self, host: Host) -> None:
        """Set its instance to stopped."""
        self.ec2.set_instance_state(self.node_id(host), "stopped")

    def make_state_unknown(self, host: Host) -> None:
        """Set its instance to a state that proves nothing."""
        self.ec2.set_instance_state(self.node_id(host), "pending")

    def start(self, host: Host) -> None:
        """Set its instance to running."""
        self.ec2.set_instance_state(self.node_id(host), "running")
