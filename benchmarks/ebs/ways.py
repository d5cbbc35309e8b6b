"""The other way to do what volplug does: the minimum of bare calls."""

import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import boto3.session
from botocore.config import Config

from benchmarks import kernel
from benchmarks.client import CallError
from benchmarks.clouds import CHECK_EVERY_S, spin_until
from benchmarks.ebs.testbed import CLUSTER, disk_of
from tests.ec2sim import Instance, RemoteEc2Cloud
from tests.lab.programs import find_program

_PAGE: Final = 500
_EXISTING: Final = ("creating", "available", "in-use", "error")
_CONNECTIONS: Final = 64
_BATCH_S: Final = 0.02
# The poll interval of both ways if EC2's states take no time: that of production, 1 s, would hide all else.
POLL_S: Final = 0.01


class BySdk:
    """Bare calls of the SDK and of the kernel, on an instance of its own.

    Args:
        cloud: The simulated EC2.
        instance: One of its instances.
        targets: Where to mount.
        tags: The tags of a volume that volplug has created; new ones get the same.
    """

    def __init__(
        self, cloud: RemoteEc2Cloud, instance: Instance, targets: Path, tags: Mapping[str, str]
    ) -> None:
        self._instance = instance
        self._targets = targets
        self._tags = tags
        self._attached: dict[str, str] = {}
        self.devices = [
            f"/dev/xvd{first}{second}" for first in "bcd" for second in "abcdefghijklmnopqrstuvwxyz"
        ]
        self._client: Any = boto3.session.Session(
            instance.access_key, instance.secret_key, instance.session_token, cloud.region
        ).client("ec2", endpoint_url=cloud.endpoint, config=Config(max_pool_connections=_CONNECTIONS))

    def create(self, name: str) -> None:
        """See `Way`: DescribeVolumes, CreateVolume, DescribeVolumes until it is available."""
        self.require_absent([name])
        self.make(name)
        time.sleep(POLL_S)
        spin_until(lambda: self.shown([name])[name]["State"] == "available", f"{name} is available", POLL_S)

    def require_absent(self, names: Sequence[str]) -> None:
        """DescribeVolumes, which must show nothing."""
        if found := self.shown(names):
            raise CallError(f"{', '.join(found)} exist")

    def make(self, name: str) -> None:
        """CreateVolume."""
        tags = [{"Key": key, "Value": value} for key, value in tags_for(self._tags, name).items()]
        self._client.create_volume(
            AvailabilityZone=self._instance.zone,
            Size=1,
            VolumeType="gp3",
            ClientToken=uuid.uuid4().hex,
            TagSpecifications=[{"ResourceType": "volume", "Tags": tags}],
        )

    def mount(self, name: str) -> None:
        """See `Way`: DescribeVolumes, AttachVolume, the device, mount."""
        self._attach_and_mount(name, self._ids([name])[name], self.devices[0])

    def unmount(self, name: str) -> None:
        """See `Way`."""
        kernel.unmount(self._targets / name)

    def wait_detached(self, name: str) -> None:
        """See `Way`: DetachVolume, the device; the volume's id is known."""
        volume_id = self.detach(name)
        spin_until(lambda: not disk_of(self._instance, volume_id), f"{name} has gone")

    def detach(self, name: str) -> str:
        """Call DetachVolume for a volume attached here; return its id."""
        volume_id = self._attached.pop(name)
        self._client.detach_volume(VolumeId=volume_id, InstanceId=self._instance.instance_id)
        return volume_id

    def remove(self, name: str) -> None:
        """See `Way`: DescribeVolumes, DeleteVolume."""
        self.delete(self._ids([name])[name])

    def delete(self, volume_id: str) -> None:
        """DeleteVolume."""
        self._client.delete_volume(VolumeId=volume_id)

    def mount_all(self, names: Sequence[str]) -> None:
        """See `Way`: one DescribeVolumes, then everything else in a thread for each."""
        found = self._ids(names)
        volumes = [found[name] for name in names]
        with ThreadPoolExecutor(len(names)) as threads:
            # If all of them checked as often as one, they would slow down what they wait for.
            list(threads.map(self._attach_and_mount, names, volumes, self.devices, repeat(_BATCH_S)))

    def get(self, name: str) -> None:
        """DescribeVolumes of one volume."""
        self.shown([name])

    def count(self) -> int:
        """Read all volumes, page by page."""
        return len(self._described())

    def _attach_and_mount(
        self, name: str, volume_id: str, device: str, check_every_s: float = CHECK_EVERY_S
    ) -> None:
        self.attach(name, volume_id, device)
        self.mount_attached(name, check_every_s)

    def attach(self, name: str, volume_id: str, device: str) -> None:
        """AttachVolume."""
        self._client.attach_volume(VolumeId=volume_id, InstanceId=self._instance.instance_id, Device=device)
        self._attached[name] = volume_id

    def mount_attached(
        self, name: str, check_every_s: float = CHECK_EVERY_S, *, is_blank: bool = False
    ) -> None:
        """Wait for the device, format it if it is blank, mount it."""
        volume_id = self._attached[name]
        target = self._targets / name
        target.mkdir(parents=True, exist_ok=True)
        spin_until(lambda: disk_of(self._instance, volume_id), f"{name} is there", check_every_s)
        device = disk_of(self._instance, volume_id)
        if is_blank:
            subprocess.run([find_program("mkfs.ext4"), "-q", "-E", "nodiscard", device], check=True)
        kernel.mount(device, target)

    def shown(self, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """DescribeVolumes: descriptions by name."""
        found = self._described({"Name": "tag:volplug:name", "Values": list(names)})
        return {_name_of(each): each for each in found}

    def _ids(self, names: Sequence[str]) -> dict[str, str]:
        return {name: str(each["VolumeId"]) for name, each in self.shown(names).items()}

    def _described(self, *filters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        wanted = [
            {"Name": "tag:volplug:cluster", "Values": [CLUSTER]},
            {"Name": "status", "Values": list(_EXISTING)},
            *filters,
        ]
        shown: list[Mapping[str, Any]] = []
        more: dict[str, str] = {}
        while True:
            answer = self._client.describe_volumes(Filters=wanted, MaxResults=_PAGE, **more)
            shown += answer["Volumes"]
            if not answer.get("NextToken"):
                return shown
            more = {"NextToken": answer["NextToken"]}


def _name_of(description: Mapping[str, Any]) -> str:
    return next(str(tag["Value"]) for tag in description["Tags"] if tag["Key"] == "volplug:name")


def tags_for(tags: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the tags of a volume for one of another name, as volplug writes them."""
    return {**tags, "Name": name, "volplug:name": name}
