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

import os
import shutil
import stat
import threading
from typing import Final, NamedTuple, Protocol, runtime_checkable

_MODEL: Final = "Amazon Elastic Block Store"
_SECTOR_BYTES: Final = 512
_ROOT_SIZE_BYTES: Final = 8 * 1024**3
_ROOTS: Final = {"nitro": ("nvme0n1", (259, 0)), "xen": ("xvda", (202, 0))}


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
        places = self._places(instance_id)
        os.makedirs(places.dev_root)
        dmi = f"{places.sys_root}/devices/virtual/dmi/id"
        if kind == "nitro":
            _write(f"{dmi}/sys_vendor", "Amazon EC2")
            _write(f"{dmi}/board_asset_tag", instance_id)
        else:
            _write(f"{dmi}/sys_vendor", "Xen")
            _write(f"{dmi}/product_name", "HVM domU")
            _write(f"{places.sys_root}/hypervisor/type", "xen")
        root, number = _ROOTS[kind]
        self._make(instance_id, root, f"vol-{instance_id.removeprefix('i-')}", _ROOT_SIZE_BYTES, number)
        return places

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
            node = f"{self._places(instance_id).dev_root}/{name}"
            os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(*number))
            self._make(instance_id, name, volume_id, size_bytes, number)

    def resize(self, instance_id: str, volume_id: str, size_bytes: int) -> None:
        """Show another size of a volume."""
        with self._lock:
            name = self._names[instance_id][volume_id]
            block = f"{self._places(instance_id).sys_root}/block"
            _write(f"{block}/{name}/size", str(size_bytes // _SECTOR_BYTES))

    def hide(self, instance_id: str, volume_id: str) -> None:
        """Hide a volume; one that is not shown is success."""
        with self._lock:
            name = self._names[instance_id].pop(volume_id, "")
            if not name:
                return
            sys_root, dev_root = self._places(instance_id)
            os.rename(
                f"{sys_root}/block/{name}", f"{sys_root}/block/.gone"
            )  # at once, as a device disappears
            os.unlink(f"{dev_root}/{name}")
            shutil.rmtree(f"{sys_root}/block/.gone")

    def close(self) -> None:
        """Remove all files."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _places(self, instance_id: str) -> InstanceView:
        return InstanceView(*(f"{self._directory}/{instance_id}/{each}" for each in ("sys", "dev")))

    def _make(
        self, instance_id: str, name: str, volume_id: str, size_bytes: int, number: tuple[int, int]
    ) -> None:
        block = f"{self._places(instance_id).sys_root}/block"
        new = f"{block}/.new-{name}"
        _write(f"{new}/size", str(size_bytes // _SECTOR_BYTES))
        _write(f"{new}/dev", f"{number[0]}:{number[1]}")
        os.makedirs(f"{new}/device")
        if self._kinds[instance_id] == "nitro":
            _write(f"{new}/device/serial", volume_id.replace("-", ""))
            _write(f"{new}/device/model", _MODEL.ljust(40))  # as the controller's field is wide
        os.rename(new, f"{block}/{name}")  # readers see all of it or nothing


def _xen_name(device: str) -> str:
    name = device.removeprefix("/dev/")
    return f"xvd{name.removeprefix('sd')}" if name.startswith("sd") else name


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{text}\n")
