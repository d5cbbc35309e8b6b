"""A simulated EC2 as a process of its own, its instances, and volplug on one of them."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.client import TIMEOUT_S, CallError, PluginClient, decoded, request
from benchmarks.place import Place
from tests.ec2sim import Instance, RemoteEc2Cloud
from tests.lab.plugin import VolplugProcess
from tests.lab.programs import settled, tail
from tests.lab.waiting import wait_until

CLUSTER: Final = "bench"
VOLUME_SIZE: Final = "1GiB"  # the smallest that EBS has
_MOST_VOLUMES: Final = 128
_START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 30.0
_DISK_TIMEOUT_S: Final = 10.0
CHECK_EVERY_S: Final = 0.0001
_AT_ONCE_TIMEOUT_S: Final = 120.0  # as long as Docker waits for a Mount
_ROOT_DISK: Final = "nvme0n1"


@contextmanager
def served(where: Place) -> Iterator[RemoteEc2Cloud]:
    """Run a simulated EC2 whose volumes are loop devices."""
    log = where.directory / "ec2.log"
    argv = [sys.executable, "-m", "tests.ec2sim", "--directory", str(where.directory / "ec2")]
    process = where.spawn(argv, log=log)

    def endpoint() -> str:
        if process.poll() is not None:
            raise CallError(f"the simulated EC2 ended while starting:\n{tail(log)}")
        ready = [line for line in log.read_text().splitlines(keepends=True) if line.startswith("{")]
        return str(json.loads(ready[0])["endpoint"]) if ready and ready[0].endswith("\n") else ""

    try:
        wait_until(lambda: bool(endpoint()), _START_TIMEOUT_S, "the simulated EC2 is ready")
        yield RemoteEc2Cloud(endpoint())
    finally:
        process.terminate()
        settled(process, _STOP_TIMEOUT_S)


def add_instance(cloud: RemoteEc2Cloud, number: int) -> Instance:
    """Add an instance that takes many volumes."""
    return cloud.add_instance(f"i-{number:017x}", attachment_limit=_MOST_VOLUMES)


def disk_of(instance: Instance, volume_id: str) -> str:
    """Return the device node of a volume on the instance; empty if there is none."""
    serial = volume_id.replace("-", "")
    for name in _disks(instance):
        try:
            shown = Path(instance.sys_root, "block", name, "device", "serial").read_text()
        except FileNotFoundError:  # it disappears just now
            continue
        if shown.strip() == serial:
            return f"{instance.dev_root}/{name}"
    return ""


def is_bare(instance: Instance) -> bool:
    """Return whether the instance has no disk but its root."""
    return _disks(instance) == [_ROOT_DISK]


def _disks(instance: Instance) -> list[str]:
    return [name for name in os.listdir(f"{instance.sys_root}/block") if name.startswith("nvme")]


def spin_until(condition: Callable[[], object], what: str, check_every_s: float = CHECK_EVERY_S) -> None:
    """Check so often that the interval adds nothing to the measured time."""
    deadline = time.monotonic() + _DISK_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise CallError(f"waited {_DISK_TIMEOUT_S:g} s in vain until {what}")
        time.sleep(check_every_s)


def config_text(cloud: RemoteEc2Cloud, instance: Instance, poll_s: float = 1.0) -> str:
    """The configuration file of volplug on an instance."""
    table = {
        "poll_s": poll_s,
        "driver": "ebs",
        "region": cloud.region,
        "endpoint": cloud.endpoint,
        "imds_endpoint": cloud.imds_endpoint_of(instance.instance_id),
        "access_key": instance.access_key,
        "secret_key": instance.secret_key,
        "session_token": instance.session_token,
        "sys_root": instance.sys_root,
        "dev_root": instance.dev_root,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join([f'cluster = "{CLUSTER}"', "linger_s = 0", "[backends.ebs]", *lines, ""])


class EbsVolplug:
    """`volplug serve` on an instance, which detaches at once after the last unmount.

    Args:
        where: Where it runs.
        name: The name of its files.
        cloud: The simulated EC2.
        instance: One of its instances.
        mount_grace_s: Also the delay of the one search that follows every start.
        poll_s: The first interval of polls.
    """

    def __init__(
        self,
        where: Place,
        name: str,
        cloud: RemoteEc2Cloud,
        instance: Instance,
        *,
        mount_grace_s: float = 1,
        poll_s: float = 1,
    ) -> None:
        config = where.directory / f"{name}.toml"
        config.write_text(config_text(cloud, instance, poll_s))
        env = {"VOLPLUG_CONFIG": str(config), "VOLPLUG_MOUNT_GRACE_S": str(mount_grace_s)}
        self.process = VolplugProcess(where, name=name, socket=where.directory / f"{name}.sock", env=env)

    def __enter__(self) -> Self:
        self.process.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.__exit__(kind, error, trace)

    @property
    def pid(self) -> int:
        """See `benchmarks.peers.Plugin`."""
        return self.process.pid

    def connect(self, timeout_s: float = TIMEOUT_S) -> PluginClient:
        """See `benchmarks.peers.Plugin`."""
        return PluginClient(self.process.socket, timeout_s)

    def at_once(self, verb: str, names: Sequence[str], **body: object) -> dict[str, str]:
        """Make one call for each name, all at once; return the errors by name with the last answer."""
        with ExitStack() as stack:
            clients = [stack.enter_context(self.connect(_AT_ONCE_TIMEOUT_S)) for _ in names]
            for name, client in zip(names, clients, strict=True):
                client.send(request(verb, {"Name": name, **body}))
            errors = [str(decoded(client.receive()).get("Err") or "") for client in clients]
        return {name: error for name, error in zip(names, errors, strict=True) if error}

    def create(self, client: PluginClient, name: str) -> None:
        """See `benchmarks.peers.Plugin`."""
        client.call("Create", Name=name, Opts={"size": VOLUME_SIZE})
