"""What makes attached volumes appear on instances, and what an instance sees of itself.

Files stand for its /sys and /dev; what of them is shown is what a guest has on EC2:

- Nitro, https://docs.aws.amazon.com/ebs/latest/userguide/nvme-ebs-volumes.html: the serial number is the
  volume's id without the dash, the model "Amazon Elastic Block Store"; devices are numbered as they are
  found, whatever name was asked for at AttachVolume.
- Xen, https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html: the name that was asked for,
  with `xvd` for `sd`; no serial number.
- board_asset_tag is the instance's id on Nitro only,
  https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html.
"""

import contextlib
import os
import shutil
import stat
import threading
from typing import Final, NamedTuple, Protocol, runtime_checkable

_MODEL: Final = "Amazon Elastic Block Store"
_SECTOR_BYTES: Final = 512
_ROOT_SIZE_BYTES: Final = 8 * 1024**3
_ROOT_NUMBERS: Final = {"nitro": (259, 0), "xen": (202, 0)}


class InstanceView(NamedTuple):
    """What stands for an instance's /sys and /dev; empty if it has none."""

    sys_root: str
    dev_root: str


class Hypervisor(Protocol):
    """Makes attached volumes appear on instances. Calls block; each is made in a thread.

    Calls for one volume come one after the other, calls for different volumes at the same time.
    """

    def provision(self, volume_id: str, size_bytes: int) -> None:
        """Take note of a new, blank volume."""

    def plug(self, instance_id: str, volume_id: str, device: str) -> None:
        """Make a volume appear on an instance."""

    def unplug(self, instance_id: str, volume_id: str) -> bool:
        """Take a volume from an instance; False: the guest uses it, so EC2 says busy."""

    def discard(self, volume_id: str) -> None:
        """Forget a deleted volume."""


@runtime_checkable
class ShowsInstances(Protocol):
    """A hypervisor whose instances have a place of their own for /sys and /dev."""

    def power_on(self, instance_id: str, kind: str) -> InstanceView:
        """Return what the instance sees of itself."""

    def close(self) -> None:
        """Take everything away again."""


@runtime_checkable
class Pulls(Protocol):
    """A hypervisor that can take a device from a guest that uses it, as DetachVolume with Force does."""

    def pull(self, instance_id: str, volume_id: str) -> None:
        """Take the device away, whoever uses it."""


class Plugged(NamedTuple):
    """A volume on an instance."""

    instance_id: str
    device: str


class MemoryHypervisor:
    """Plugs volumes into nothing, for tests without devices; see `Hypervisor`.

    With a directory, instances see their volumes as files in their views: dev nodes are plain files then.
    """

    def __init__(self, directory: str = "") -> None:
        self._views = Views(directory) if directory else None
        self._sizes: dict[str, int] = {}
        self._plugged: dict[str, Plugged] = {}
        self._used: set[str] = set()
        self._lock = threading.Lock()

    def provision(self, volume_id: str, size_bytes: int) -> None:
        self._sizes[volume_id] = size_bytes

    def plug(self, instance_id: str, volume_id: str, device: str) -> None:
        with self._lock:
            if volume_id in self._plugged:
                raise RuntimeError(f"{volume_id} is plugged already: {self._plugged[volume_id]}")
            self._plugged[volume_id] = Plugged(instance_id, device)
            if self._views is not None:
                self._views.of(instance_id).show(volume_id, device, self._sizes[volume_id], None)

    def unplug(self, instance_id: str, volume_id: str) -> bool:
        with self._lock:
            if volume_id in self._used:
                return False
            plugged = self._plugged[volume_id]
            if plugged.instance_id != instance_id:
                raise RuntimeError(f"{volume_id} is on {plugged.instance_id}, not on {instance_id}")
            del self._plugged[volume_id]
            if self._views is not None:
                self._views.of(instance_id).hide(volume_id)
            return True

    def discard(self, volume_id: str) -> None:
        del self._sizes[volume_id]

    def pull(self, instance_id: str, volume_id: str) -> None:
        self.end_use(volume_id)
        self.unplug(instance_id, volume_id)

    def power_on(self, instance_id: str, kind: str) -> InstanceView:
        return self._views.add(instance_id, kind) if self._views else InstanceView("", "")

    def close(self) -> None:
        if self._views is not None:
            self._views.close()

    def use(self, volume_id: str) -> None:
        """Let the guest use a volume, as a mount would."""
        self._used.add(volume_id)

    def end_use(self, volume_id: str) -> None:
        """Let the guest stop using a volume."""
        self._used.discard(volume_id)

    def plugged(self) -> dict[str, Plugged]:
        """Return where volumes are."""
        return dict(self._plugged)


class View:
    """The files of one instance."""

    def __init__(self, directory: str, instance_id: str, kind: str) -> None:
        self.places = InstanceView(f"{directory}/sys", f"{directory}/dev")
        self._is_nitro = kind == "nitro"
        self._block = f"{self.places.sys_root}/block"
        self._names: dict[str, str] = {}
        self._lock = threading.Lock()
        os.makedirs(self._block)
        os.makedirs(self.places.dev_root)
        self._show_machine(instance_id)
        root, volume_id = "nvme0n1" if self._is_nitro else "xvda", f"vol-{instance_id.removeprefix('i-')}"
        self._make(root, volume_id, _ROOT_SIZE_BYTES, _ROOT_NUMBERS[kind])

    def show(self, volume_id: str, device: str, size_bytes: int, number: tuple[int, int] | None) -> None:
        """Show a volume; without a device number its node is a plain file."""
        with self._lock:
            name = self._next_nvme() if self._is_nitro else _xen_name(device)
            self._names[volume_id] = name
            kind, made = (stat.S_IFREG, 0) if number is None else (stat.S_IFBLK, os.makedev(*number))
            os.mknod(f"{self.places.dev_root}/{name}", kind | 0o600, made)
            self._make(name, volume_id, size_bytes, number or (0, 0))

    def hide(self, volume_id: str) -> None:
        """Show a volume no more; one that is not shown is success."""
        with self._lock:
            name = self._names.pop(volume_id, "")
            if not name:
                return
            gone = f"{self._block}/.gone-{name}"
            os.rename(f"{self._block}/{name}", gone)  # at once, as a device goes
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.places.dev_root}/{name}")
            shutil.rmtree(gone)

    def _next_nvme(self) -> str:
        taken = {"nvme0n1", *self._names.values()}
        return next(name for number in range(1000) if (name := f"nvme{number}n1") not in taken)

    def _show_machine(self, instance_id: str) -> None:
        dmi = f"{self.places.sys_root}/devices/virtual/dmi/id"
        if self._is_nitro:
            _write(f"{dmi}/sys_vendor", "Amazon EC2")
            _write(f"{dmi}/board_asset_tag", instance_id)
            return
        _write(f"{dmi}/sys_vendor", "Xen")
        _write(f"{dmi}/product_name", "HVM domU")
        _write(f"{self.places.sys_root}/hypervisor/type", "xen")

    def _make(self, name: str, volume_id: str, size_bytes: int, number: tuple[int, int]) -> None:
        new = f"{self._block}/.new-{name}"
        os.makedirs(f"{new}/device")
        _write(f"{new}/size", str(size_bytes // _SECTOR_BYTES))
        _write(f"{new}/dev", f"{number[0]}:{number[1]}")
        if self._is_nitro:
            _write(f"{new}/device/serial", volume_id.replace("-", ""))
            _write(f"{new}/device/model", _MODEL.ljust(40))  # as the controller's field is wide
        os.rename(new, f"{self._block}/{name}")  # all of it or nothing is seen


class Views:
    """The files of all instances, below one directory."""

    def __init__(self, directory: str) -> None:
        self._directory = f"{directory}/instances"
        self._views: dict[str, View] = {}

    def add(self, instance_id: str, kind: str) -> InstanceView:
        """Show an instance."""
        self._views[instance_id] = View(f"{self._directory}/{instance_id}", instance_id, kind)
        return self._views[instance_id].places

    def of(self, instance_id: str) -> View:
        """Return an instance's files."""
        return self._views[instance_id]

    def close(self) -> None:
        """Remove all files."""
        self._views.clear()
        shutil.rmtree(self._directory, ignore_errors=True)


def _xen_name(device: str) -> str:
    name = device.removeprefix("/dev/")
    return f"xvd{name.removeprefix('sd')}" if name.startswith("sd") else name


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{text}\n")
