"""A simulated EC2 as a process of its own, its instances, and volplug on one of them."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.client import CallError
from benchmarks.clouds import CloudVolplug
from benchmarks.place import Place
from tests.ec2sim import Instance, RemoteEc2Cloud
from tests.lab.programs import settled, tail
from tests.lab.waiting import wait_until

CLUSTER: Final = "bench"
VOLUME_SIZE: Final = "1GiB"  # the smallest that EBS has
_MOST_VOLUMES: Final = 128
_START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 30.0
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


def volplug_on(
    instance: Instance,
    where: Place,
    name: str,
    cloud: RemoteEc2Cloud,
    *,
    mount_grace_s: float = 1,
    poll_s: float = 1,
) -> CloudVolplug:
    """Describe a volplug on an instance, which detaches at once after the last unmount."""
    return CloudVolplug(where, name, config_text(cloud, instance, poll_s), VOLUME_SIZE, mount_grace_s)
