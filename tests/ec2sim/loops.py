"""A hypervisor whose volumes are real block devices: loop devices on sparse images."""

import fcntl
import os
import shutil
import threading
from typing import Final, NamedTuple

from tests.ec2sim.hypervisor import InstanceView, Views
from tests.lab.guest_disks import announce
from volplug.errors import VolumeInUse
from volplug.host import loop_attach, loopdev
from volplug.host.devices import is_held_now, opened

_LOOP_CLR_FD: Final = 0x4C01  # linux/loop.h; on a device in use: once its last user closes it


class _Plugged(NamedTuple):
    """A volume on an instance."""

    loop: loopdev.LoopDevice
    device: str


class LoopHypervisor:
    """Makes an attached volume a loop device that its instance sees as EC2 shows it; see `Hypervisor`.

    A volume's image is DIRECTORY/volumes/ID.img, so its data survives moves between instances; an instance's
    /sys and /dev are DIRECTORY/instances/ID/{sys,dev}. The directory has to allow device nodes.
    """

    def __init__(self, directory: str) -> None:
        self._volumes = f"{directory}/volumes"
        self._views = Views(directory)
        self._plugged: dict[str, _Plugged] = {}
        self._lock = threading.Lock()
        os.makedirs(self._volumes, exist_ok=True)

    def provision(self, volume_id: str, size_bytes: int) -> None:
        with open(self._image(volume_id), "xb") as image:
            image.truncate(size_bytes)

    def plug(self, instance_id: str, volume_id: str, device: str) -> None:
        """Attach the image to a loop device, show it, then announce it to listeners of the kernel."""
        loop = loop_attach.attach(self._image(volume_id), volume_id, direct_io=False, discards=True)
        plugged = _Plugged(loop, device)
        with self._lock:
            self._plugged[volume_id] = plugged
        self._show(instance_id, volume_id, plugged)

    def unplug(self, instance_id: str, volume_id: str) -> bool:
        """Hide the volume and detach its loop device, unless the kernel reports it in use."""
        with self._lock:
            plugged = self._plugged[volume_id]
        if is_held_now(plugged.loop.path):
            return False
        self._views.hide(instance_id, volume_id)
        try:
            loopdev.detach(plugged.loop.path, expected=plugged.loop)
        except VolumeInUse:  # opened just now
            self._show(instance_id, volume_id, plugged)
            return False
        with self._lock:
            del self._plugged[volume_id]
        announce(plugged.loop.path)
        return True

    def discard(self, volume_id: str) -> None:
        os.unlink(self._image(volume_id))

    def power_on(self, instance_id: str, kind: str) -> InstanceView:
        return self._views.add(instance_id, kind)

    def close(self) -> None:
        """Detach what is still attached and remove all images.

        Raises:
            VolumeInUse: If a device is still used: a test has not cleaned up. All others are gone then.
        """
        held = []
        with self._lock:
            for volume_id, plugged in self._plugged.items():
                try:
                    loopdev.detach(plugged.loop.path, expected=plugged.loop)
                except VolumeInUse:
                    held.append(f"{plugged.loop.path} ({volume_id})")
                    _detach_at_last_close(plugged.loop.path)
            self._plugged.clear()
        self._views.close()
        shutil.rmtree(self._volumes, ignore_errors=True)
        if held:
            raise VolumeInUse(f"the cloud ends while guests still use {', '.join(held)}")

    def _show(self, instance_id: str, volume_id: str, plugged: _Plugged) -> None:
        number = os.stat(plugged.loop.path).st_rdev
        size_bytes, numbers = os.path.getsize(self._image(volume_id)), (os.major(number), os.minor(number))
        self._views.show(instance_id, volume_id, plugged.device, size_bytes, numbers)
        announce(plugged.loop.path)

    def _image(self, volume_id: str) -> str:
        return f"{self._volumes}/{volume_id}.img"


def _detach_at_last_close(path: str) -> None:
    with opened(path, os.O_RDONLY) as device:
        fcntl.ioctl(device, _LOOP_CLR_FD)
