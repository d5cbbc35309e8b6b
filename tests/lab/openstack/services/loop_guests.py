"""A driver for nova-compute: Nova's own FakeDriver, whose guests see attached volumes as loop devices.

A guest is a directory GUESTS/HOST/SERVER with

    sys, dev       its /sys and /dev, see tests/lab/guest_disks.py
    volumes/ID     a link with the kernel name of the disk that is the volume, such as vdb

The serial is the volume's id. A virtio-blk disk cuts it at 20 bytes (VIRTIO_BLK_ID_BYTES in
linux/virtio_blk.h); a virtio-scsi disk has it in page 0x80 of its vital product data. A server has the latter
with the metadata disk_bus=scsi, as with the image property hw_disk_bus.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nova import exception
from nova.compute import power_state
from nova.conf import CONF
from nova.virt import fake
from oslo_config import cfg

from tests.lab.guest_disks import GuestDisk, GuestDisks, announce, first_free
from tests.lab.openstack.services.striking import strike

if TYPE_CHECKING:
    from nova.objects.instance import Instance

CONF.register_opts([cfg.StrOpt("guests"), cfg.StrOpt("faults")], group="lab")

_DMI = "devices/virtual/dmi/id"
_SERIAL_BYTES = 20
_ROOT_SIZE_BYTES = 1024**3
_ROOT_NUMBERS = {"vd": (254, 0), "sd": (8, 0)}
_RELEASE_TIMEOUT_S = 5.0
_POLL_S = 0.05
_Connection = dict[str, dict[str, str]]
_Devices = dict[str, list[dict[str, _Connection]]] | None


class LoopGuest:
    """The files of one guest."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._disks = GuestDisks(directory)

    def boot(self, server_id: str, bus: str) -> None:
        """Make them, unless they exist: a guest outlives its nova-compute."""
        if self.exists():
            return
        os.makedirs(f"{self._directory}/volumes")
        facts = {
            f"{_DMI}/sys_vendor": "OpenStack Foundation",
            f"{_DMI}/product_name": "OpenStack Nova",
            f"{_DMI}/product_uuid": server_id,
        }
        prefix = "sd" if bus == "scsi" else "vd"
        root = GuestDisk(f"{prefix}a", _ROOT_SIZE_BYTES, _ROOT_NUMBERS[prefix], {})
        self._disks.boot(facts, root)

    def exists(self) -> bool:
        """Return whether it was booted and not removed."""
        return os.path.exists(self._directory)

    def has(self, volume_id: str) -> bool:
        """Return whether a volume is shown."""
        return os.path.islink(self._link(volume_id))

    def volumes(self) -> list[str]:
        """Return the ids of the volumes that are shown."""
        return os.listdir(f"{self._directory}/volumes")

    def show(self, volume_id: str, device: str, size_bytes: int) -> None:
        """Show a volume that is a block device of this machine."""
        names = self._disks.names()
        prefix = "sd" if "sda" in names else "vd"
        name = first_free(prefix, names)
        number = os.stat(device).st_rdev
        self._disks.show(
            GuestDisk(name, size_bytes, (os.major(number), os.minor(number)), _attributes(prefix, volume_id))
        )
        os.symlink(name, self._link(volume_id))

    def resize(self, volume_id: str, size_bytes: int) -> None:
        """Show another size of a volume."""
        self._disks.resize(os.readlink(self._link(volume_id)), size_bytes)

    def hide(self, volume_id: str) -> None:
        """Hide a volume."""
        self._disks.hide(os.readlink(self._link(volume_id)))
        os.unlink(self._link(volume_id))

    def remove(self) -> None:
        """Remove all files."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _link(self, volume_id: str) -> str:
        return f"{self._directory}/volumes/{volume_id}"


def _attributes(prefix: str, volume_id: str) -> dict[str, str | bytes]:
    if prefix == "vd":
        return {"serial": volume_id[:_SERIAL_BYTES]}
    page = bytes([0, 0x80, 0, len(volume_id)]) + volume_id.encode("ascii")
    return {"device/vendor": "QEMU    ", "device/model": "QEMU HARDDISK   ", "device/vpd_pg80": page}


class LoopGuestDriver(fake.FakeDriverWithoutFakeNodes):
    """See `nova.virt.driver.ComputeDriver` for the calls."""

    vcpus = 64
    memory_mb = 131072
    local_gb = 2000

    def spawn(self, context: object, instance: Instance, *args: object, **kwargs: _Devices) -> None:
        _strike("spawn")
        super().spawn(context, instance, *args, **kwargs)
        self._boot(instance, kwargs.get("block_device_info"))

    def resume_state_on_host_boot(
        self,
        context: object,
        instance: Instance,
        network_info: object,
        share_info: object,
        block_device_info: _Devices = None,
    ) -> None:
        """Know a guest again after a start of nova-compute."""
        self._know(instance, power_state.RUNNING)
        self._boot(instance, block_device_info)

    def power_on(self, context: object, instance: Instance, *args: object, **kwargs: object) -> None:
        """Start a guest."""
        self._know_again(instance)
        super().power_on(context, instance, *args, **kwargs)

    def get_info(self, instance: Instance, use_cache: bool = True) -> object:
        """Return the power state of a guest."""
        self._know_again(instance)
        return super().get_info(instance, use_cache)

    def destroy(
        self,
        context: object,
        instance: Instance,
        network_info: object,
        block_device_info: _Devices = None,
        *args: object,
        **kwargs: object,
    ) -> None:
        for connection in _connections(block_device_info):
            self._unplug(instance, connection)
        super().destroy(context, instance, network_info, block_device_info, *args, **kwargs)
        self._guest(instance).remove()

    def attach_volume(
        self,
        context: object,
        connection_info: _Connection,
        instance: Instance,
        mountpoint: str,
        **kwargs: object,
    ) -> None:
        _strike("attach_volume")
        self._plug(instance, connection_info)
        super().attach_volume(context, connection_info, instance, mountpoint, **kwargs)

    def detach_volume(
        self,
        context: object,
        connection_info: _Connection,
        instance: Instance,
        mountpoint: str,
        **kwargs: object,
    ) -> None:
        _strike("detach_volume")
        super().detach_volume(context, connection_info, instance, mountpoint, **kwargs)
        self._unplug(instance, connection_info)

    def extend_volume(
        self, context: object, connection_info: _Connection, instance: Instance, requested_size: int
    ) -> None:
        _strike("grow_device")
        for device in _devices_of(_file(connection_info)):
            _run("losetup", "--set-capacity", device)
            self._guest(instance).resize(_volume_id(connection_info), requested_size)
            announce(device)

    def _boot(self, instance: Instance, devices: _Devices) -> None:
        self._guest(instance).boot(instance.uuid, instance.metadata.get("disk_bus", ""))
        for connection in _connections(devices):
            self._plug(instance, connection)

    def _know_again(self, instance: Instance) -> None:
        """Know a guest that was off when nova-compute started: Nova resumes only those that ran."""
        if instance.uuid not in self.instances and self._guest(instance).exists():
            self._know(instance, power_state.SHUTDOWN)

    def _know(self, instance: Instance, power: int) -> None:
        self.instances[instance.uuid] = fake.FakeInstance(instance.name, power, instance.uuid)

    def _guest(self, instance: Instance) -> LoopGuest:
        return LoopGuest(f"{CONF.lab.guests}/{self._host}/{instance.uuid}")

    def _plug(self, instance: Instance, connection: _Connection) -> None:
        guest, volume_id, path = self._guest(instance), _volume_id(connection), _file(connection)
        if guest.has(volume_id):
            return
        if not _is_shown(volume_id):
            _await_release(path)
        found = _devices_of(path) or [_run("losetup", "--find", "--show", path)]
        guest.show(volume_id, found[0], os.path.getsize(path))
        announce(found[0])

    def _unplug(self, instance: Instance, connection: _Connection) -> None:
        guest, volume_id = self._guest(instance), _volume_id(connection)
        if not guest.has(volume_id):
            return
        guest.hide(volume_id)
        for device in _devices_of(_file(connection)):
            if not _is_shown(volume_id):
                _run("losetup", "--detach", device)  # one that is open is detached when it is closed
            announce(device)


def _is_shown(volume_id: str) -> bool:
    """Return whether any guest shows a volume: two do with multiattach, and after an evacuation."""
    hosts = [entry.path for entry in os.scandir(CONF.lab.guests)]
    guests = [entry.path for host in hosts for entry in os.scandir(host)]
    return any(LoopGuest(path).has(volume_id) for path in guests)


def _await_release(path: str) -> None:
    """Wait for the end of a loop device that a former guest still has open."""
    deadline = time.monotonic() + _RELEASE_TIMEOUT_S
    while devices := _devices_of(path):
        if time.monotonic() > deadline:
            raise exception.NovaException(f"a former guest still uses {devices[0]}")
        time.sleep(_POLL_S)


def _connections(devices: _Devices) -> Iterable[_Connection]:
    return [each["connection_info"] for each in (devices or {}).get("block_device_mapping", [])]


def _volume_id(connection: _Connection) -> str:
    return str(connection["serial"])


def _file(connection: _Connection) -> str:
    return connection["data"]["device_path"]


def _devices_of(path: str) -> list[str]:
    with contextlib.suppress(subprocess.CalledProcessError):  # there is no such file
        return _run("losetup", "--noheadings", "--output=NAME", "--associated", path).split()
    return []


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def _strike(operation: str) -> None:
    strike(CONF.lab.faults, operation, exception.NovaException)
