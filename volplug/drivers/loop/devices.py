"""Finds the loop device that has the image of a volume. Every method blocks."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from volplug.drivers.loop.images import Images, is_image_name
from volplug.drivers.loop.records import RecordFiles
from volplug.errors import BackendUnavailable, DeviceMismatch
from volplug.host import devices, loopdev
from volplug.models import BlockDevice, Volume


class LoopDevices:
    """The loop devices of the volumes in one directory."""

    def __init__(self, directory: Path, records: RecordFiles, images: Images) -> None:
        self._directory = directory
        self._records = records
        self._images = images
        self._last: dict[tuple[str, str], loopdev.LoopDevice] = {}

    def find(self, volume: Volume) -> loopdev.LoopDevice | None:
        """Return the loop device of the volume, as this host's kernel reports it.

        It is identified by device and inode of the image and by our label. One of these may be missing: the
        image (removed or replaced by hand) or the label (attached by hand). With both, a volume that was
        created anew under the name of an old one is not taken for it. The label alone is not enough: a copied
        record, or a copied directory, has the same one.
        """
        found = self.find_by_image(volume)
        if found is None:
            labelled = (each for each in loopdev.attached(is_image_name) if each.label == volume.volume_id)
            found = next((each for each in labelled if self._had_our_image(volume, each)), None)
        if found is not None:
            self.note(volume, found)
        return found

    def find_by_image(self, volume: Volume) -> loopdev.LoopDevice | None:
        """Return the same unless the image was replaced before this process found its device; cheaper."""
        last = self._last.get((volume.name, volume.volume_id))
        status = loopdev.status(last.path) if last else None
        if last and status and loopdev.is_same_image(status, last) and status.label == volume.volume_id:
            return status
        image = self._images.stat(volume.name)
        name = self._images.path(volume.name).name
        found = loopdev.find(image.st_dev, image.st_ino, name) if image else None
        return found if found and (found.label == volume.volume_id or self._is_recorded(volume)) else None

    def find_and_keep(self, volume: Volume) -> loopdev.LoopDevice | None:
        """Return the same as `find`, after cancelling a detach that waits for the device's last close."""
        device = self.find(volume)
        return loopdev.keep(device) if device is not None and device.autoclear else device

    def note(self, volume: Volume, device: loopdev.LoopDevice) -> None:
        """Remember the device, so that it is tried first."""
        self._last[volume.name, volume.volume_id] = device

    def forget(self, volume: Volume) -> None:
        """Drop the remembered device of a deleted volume."""
        self._last.pop((volume.name, volume.volume_id), None)

    def source(self, volume: Volume, device: loopdev.LoopDevice) -> BlockDevice:
        """Describe the device of a volume, with `outdated` set if the image is another file by now."""
        outdated = ""
        with contextlib.suppress(BackendUnavailable):  # the disk does not answer: nothing was replaced on it
            image = self._images.stat(volume.name)
            if image and (image.st_dev, image.st_ino) != (device.backing_dev, device.backing_inode):
                path = self._images.path(volume.name)
                outdated = f"the image {path} was replaced while it was attached to {device.path}"
        return BlockDevice(device.path, volume.volume_id, devices.size_bytes(device.path), outdated)

    def refuse_outdated(self, volume: Volume) -> None:
        """Refuse to attach a second device while one is attached that has an earlier image of the volume.

        Raises:
            DeviceMismatch: If there is one.
        """
        device = self.find(volume)
        if device is not None and (outdated := self.source(volume, device).outdated):
            raise DeviceMismatch(
                outdated, "Stop the containers that use it; the next mount uses the present image"
            )

    def _had_our_image(self, volume: Volume, device: loopdev.LoopDevice) -> bool:
        """Tell whether the image of a device lies, or lay, in our directory and is not another volume's."""
        path = loopdev.image_path(os.path.basename(device.path)).removesuffix(loopdev.DELETED)
        directory, file = os.path.split(path)
        if not self._records.exists(volume.name):
            return True  # nothing contradicts the label: our disk is not mounted, or the files were removed
        is_anothers = file != self._images.path(volume.name).name and self._records.exists(Path(file).stem)
        return path != "" and not is_anothers and self._is_ours(directory)

    def _is_ours(self, directory: str) -> bool:
        """Tell whether a path of the kernel is that of our directory.

        After the end of a mount namespace, as of a managed plugin before its upgrade, its paths begin at a
        mount. Such a path is the end of our own, and leads to no directory here, or to the root.
        """
        with contextlib.suppress(OSError):
            if directory != "/":
                return os.path.samestat(os.stat(directory), os.stat(self._directory))
        return os.path.realpath(self._directory).endswith(directory.rstrip("/"))

    def _is_recorded(self, volume: Volume) -> bool:
        record = self._records.read(volume.name)
        return record is not None and record.volume_id == volume.volume_id
