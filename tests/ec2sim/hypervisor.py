"""Makes attached volumes appear on instances, in files that are an instance's /sys and /dev.

They show what a guest sees on EC2:

- Nitro, https://docs.aws.amazon.com/ebs/latest/userguide/nvme-ebs-volumes.html: the serial number is the
  volume's id without the dash, the model "Amazon Elastic Block Store"; devices are numbered as they are
  found, whatever name was asked for at AttachVolume.
- Xen, https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html: the name that was asked for,
  with `xvd` for `sd`; no serial number.
- board_asset_tag is the instance's id on Nitro only,
  https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html.
"""

import shutil
import threading
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol, runtime_checkable

from tests.lab.guest_disks import GuestDisk, GuestDisks

_MODEL: Final = "Amazon Elastic Block Store"
_ROOT_SIZE_BYTES: Final = 8 * 1024**3
_ROOTS: Final = {"nitro": ("nvme0n1", (259, 0)), "xen": ("xvda", (202, 0))}
_DMI: Final = "devices/virtual/dmi/id"
_FACTS: Final = {
    "nitro": {f"{_DMI}/sys_vendor": "Amazon EC2", f"{_DMI}/board_asset_tag": "{}"},
    "xen": {f"{_DMI}/sys_vendor": "Xen", f"{_DMI}/product_name": "HVM domU", "hypervisor/type": "xen"},
}


class InstanceView(NamedTuple):
    """The directories that are an instance's /sys and /dev."""

    sys_root: str
    dev_root: str


class Hypervisor(Protocol):
    """Makes attached volumes appear on instances. Calls block; each is made in a thread.

    Calls for one volume come one after the other, calls for different volumes at the same time.
    """

    def provision(self, volume_id: str, size_bytes: int) -> None:
        """Make a new, blank volume."""

    def plug(self, instance_id: str, volume_id: str, device: str) -> None:
        """Make a volume appear on an instance."""

    def unplug(self, instance_id: str, volume_id: str) -> bool:
        """Take a volume from an instance, unless the guest uses it; return whether it has gone."""

    def discard(self, volume_id: str) -> None:
        """Forget a deleted volume."""


@runtime_checkable
class ShowsInstances(Protocol):
    """A hypervisor whose instances have a /sys and a /dev of their own."""

    def power_on(self, instance_id: str, kind: str) -> InstanceView:
        """Make the instance's /sys and /dev."""

    def close(self) -> None:
        """Remove all devices and files."""


@runtime_checkable
class CopiesVolumes(Protocol):
    """A hypervisor whose volumes can be copied and grow."""

    def copy(self, source: str, target: str) -> None:
        """Copy the content of a volume or snapshot to another of at least its size, or to a new one."""

    def grow(self, volume_id: str, size_bytes: int) -> None:
        """Give a volume another size, also while an instance has it."""


class Plugged(NamedTuple):
    """A volume on an instance."""

    instance_id: str
    device: str


class MemoryHypervisor:
    """Records where volumes are, for tests without devices; see `Hypervisor`."""

    def __init__(self) -> None:
        self._plugged: dict[str, Plugged] = {}

    def provision(self, volume_id: str, size_bytes: int) -> None:
        pass

    def plug(self, instance_id: str, volume_id: str, device: str) -> None:
        if volume_id in self._plugged:
            raise RuntimeError(f"{volume_id} is plugged already: {self._plugged[volume_id]}")
        self._plugged[volume_id] = Plugged(instance_id, device)

    def unplug(self, instance_id: str, volume_id: str) -> bool:
        del self._plugged[volume_id]
        return True

    def discard(self, volume_id: str) -> None:
        pass

    def plugged(self) -> dict[str, Plugged]:
        """Return the plugged volumes."""
        return dict(self._plugged)


class Views:
    """The /sys and /dev of all instances, below one directory."""

    def __init__(self, directory: str) -> None:
        self._directory = f"{directory}/instances"
        self._kinds: dict[str, str] = {}
        self._names: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def add(self, instance_id: str, kind: str) -> InstanceView:
        """Show an instance with its root volume."""
        self._kinds[instance_id], self._names[instance_id] = kind, {}
        disks = self._disks(instance_id)
        name, number = _ROOTS[kind]
        root_id = f"vol-{instance_id.removeprefix('i-')}"
        disks.boot(
            {path: text.format(instance_id) for path, text in _FACTS[kind].items()},
            GuestDisk(name, _ROOT_SIZE_BYTES, number, self._attributes(instance_id, root_id)),
        )
        return InstanceView(disks.sys_root, disks.dev_root)

    def show(
        self, instance_id: str, volume_id: str, device: str, size_bytes: int, number: tuple[int, int]
    ) -> None:
        """Show an instance a volume that is the block device with a number."""
        with self._lock:
            names = self._names[instance_id]
            taken = {"nvme0n1", *names.values()}
            free = (name for each in range(1000) if (name := f"nvme{each}n1") not in taken)
            name = next(free) if self._kinds[instance_id] == "nitro" else _xen_name(device)
            names[volume_id] = name
            disk = GuestDisk(name, size_bytes, number, self._attributes(instance_id, volume_id))
            self._disks(instance_id).show(disk)

    def resize(self, instance_id: str, volume_id: str, size_bytes: int) -> None:
        """Show another size of a volume."""
        with self._lock:
            self._disks(instance_id).resize(self._names[instance_id][volume_id], size_bytes)

    def hide(self, instance_id: str, volume_id: str) -> None:
        """Hide a volume; one that is not shown is success."""
        with self._lock:
            name = self._names[instance_id].pop(volume_id, "")
            if name:
                self._disks(instance_id).hide(name)

    def close(self) -> None:
        """Remove all files."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _disks(self, instance_id: str) -> GuestDisks:
        return GuestDisks(f"{self._directory}/{instance_id}")

    def _attributes(self, instance_id: str, volume_id: str) -> Mapping[str, str]:
        if self._kinds[instance_id] != "nitro":
            return {}
        # The controller's field for the model is 40 characters wide.
        return {"device/serial": volume_id.replace("-", ""), "device/model": _MODEL.ljust(40)}


def _xen_name(device: str) -> str:
    name = device.removeprefix("/dev/")
    return f"xvd{name.removeprefix('sd')}" if name.startswith("sd") else name
