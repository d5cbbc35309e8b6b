"""Diagnosis of a loop backend: its directory, records and images, and the loop devices of its images.

It takes no lock, so that it works next to the volplug that has it, and keeps none from starting. So a
creation or deletion that is in progress looks like one that was interrupted.
"""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import Final

from volplug.drivers.base import failed_check
from volplug.drivers.loop.directory import Directory
from volplug.drivers.loop.images import Images, is_image_name
from volplug.errors import VolplugError
from volplug.findings import Finding, Level
from volplug.host import loopdev
from volplug.host.loopdev import LoopDevice
from volplug.models import Volume, VolumeState
from volplug.sizes import rounded_size

_NAMED: Final = 5  # images in one message
_FINISH: Final = "docker volume create with its options, or docker volume rm {}"


class LoopDiagnosis:
    """Diagnoses a backend. Everything blocks.

    Args:
        directory: The backend's directory.
        images: The images in it.
        read_volumes: Reads all volumes, given the loop devices of this host.
        is_sparse: Tells whether a volume's image reserves no space.
    """

    def __init__(
        self,
        directory: Directory,
        images: Images,
        read_volumes: Callable[[Sequence[LoopDevice]], Sequence[Volume]],
        is_sparse: Callable[[Volume], bool],
    ) -> None:
        self._directory = directory
        self._images = images
        self._read_volumes = read_volumes
        self._is_sparse = is_sparse

    def findings(self) -> list[Finding]:
        """See `Diagnoses.diagnose`.

        Raises:
            VolplugError: If something cannot be read.
        """
        path = self._directory.path
        self._directory.check_without_lock()
        if not path.exists():
            return [self._green("directory", "it is made by the first docker volume create")]
        names = sorted(name for name in os.listdir(path) if is_image_name(name))
        devices, unknown = loopdev.all_devices()
        volumes = self._read_volumes(devices)
        ours = self._devices_by_image(names, devices)
        return [
            self._green("directory", "it is the one used before, and closed to other users"),
            *self._of_records(names, volumes),
            *self._of_space(volumes),
            *self._of_direct_io(names, [each for found in ours.values() for each in found]),
            *self._of_devices(ours, unknown),
        ]

    def unreadable(self, error: VolplugError) -> Finding:
        """Return the finding of a directory that cannot be read or used."""
        return failed_check("directory", str(self._directory.path), error)

    def _green(self, check: str, message: str) -> Finding:
        return Finding(check, Level.GREEN, str(self._directory.path), message)

    def _yellow(self, check: str, message: str, remedy: str) -> Finding:
        return Finding(check, Level.YELLOW, str(self._directory.path), message, remedy)

    def _of_records(self, names: Sequence[str], volumes: Sequence[Volume]) -> list[Finding]:
        found = [finding for each in volumes if (finding := _of_volume(each))]
        recorded = {each.name for each in volumes}
        for image in (self._directory.path / name for name in names):
            # Of a volume that is deleted meanwhile, the image goes first.
            if image.stem not in recorded and image.exists() and not image.with_suffix(".json").exists():
                cause = f"the image {image.name} has no record, so it is not volplug's"
                move = f"mv {quote(str(image))} {quote(f'{image}.old')}"
                remedy = f"Restore its record, see docs/operations.md, or move it away: {move}"
                found.append(self._yellow("records", cause, remedy))
        well = f"the {len(volumes)} volumes have a sound record and an image of its size each"
        return found or [self._green("records", well)]

    def _of_space(self, volumes: Sequence[Volume]) -> list[Finding]:
        path, found = self._directory.path, []
        promised = next(each for each in self._images.limits(path) if each.name == "promised")
        if promised.maximum is not None and promised.used > promised.maximum:
            grows, room = rounded_size(promised.used), rounded_size(promised.maximum)
            cause = f"images may grow by {grows}, but there is room for {room}; on a full disk, writes fail"
            found.append(self._yellow("space", cause, f"Free space: df -h {quote(str(path))}"))
        reserving = [each for each in volumes if each.state in _SOUND and not self._is_sparse(each)]
        if lacking := [each.name for each in reserving if self._images.unreserved_bytes(each.name)]:
            first = quote(str(self._images.path(lacking[0])))
            reserve = f"fallocate --length $(stat --format %s {first}) {first}"
            cause = f"the space of {_listed(lacking)} is not reserved; on a full disk, writes fail"
            remedy = f"While it is not in use: flock --nonblock {first} {reserve}"
            found.append(self._yellow("space", cause, remedy))
        return found or [self._green("space", "what images may still grow by is free, or reserved")]

    def _of_direct_io(self, names: Sequence[str], devices: Sequence[LoopDevice]) -> list[Finding]:
        """Check whether images are read past the page cache: by their devices, if there are any."""
        without = [each.path for each in devices if not each.direct_io]
        if not devices:
            without = [name for name in names[:1] if not _permits_direct_io(self._directory.path / name)]
        if not without:
            return [self._green("direct-io", "images are read and written past the page cache")]
        cause = f"{_listed(without)} has no direct I/O, so its data is in the page cache twice"
        remedy = "Move the directory to another disk (docs/operations.md, Move the state to a data disk)"
        return [self._yellow("direct-io", cause, remedy)]

    def _devices_by_image(
        self, names: Sequence[str], devices: Sequence[LoopDevice]
    ) -> dict[str, list[LoopDevice]]:
        by_inode: defaultdict[tuple[int, int], list[LoopDevice]] = defaultdict(list)
        for each in devices:
            by_inode[each.backing_dev, each.backing_inode].append(each)
        images = {name: self._images.stat(name.removesuffix(".img")) for name in names}
        return {
            name: by_inode[image.st_dev, image.st_ino]
            for name, image in images.items()
            if image is not None and (image.st_dev, image.st_ino) in by_inode
        }

    def _of_devices(self, ours: dict[str, list[LoopDevice]], unknown: Sequence[str]) -> list[Finding]:
        found = [
            self._yellow("loop-devices", f"{path} does not tell its image within 2 s", f"See losetup {path}")
            for path in unknown
        ]
        for name, devices in ours.items():
            if len(devices) > 1:
                paths = [each.path for each in devices]
                cause = (
                    f"one image is attached to {' and '.join(paths)} at once, which destroys its filesystem"
                )
                remedy = f"Stop what uses either, losetup -d {' '.join(paths)}, then check the filesystem"
                found.append(Finding("loop-devices", Level.RED, name.removesuffix(".img"), cause, remedy))
        return found or [self._green("loop-devices", f"{len(ours)} images are attached, to one device each")]


_SOUND: Final = frozenset({VolumeState.AVAILABLE, VolumeState.IN_USE})


def _of_volume(volume: Volume) -> Finding | None:
    """Judge a volume by its record and its image. Pure."""
    if volume.state is VolumeState.ERROR:
        remedy = f"Restore it from a backup, or give it up: delete {volume.name}.json and {volume.name}.img"
        return Finding("records", Level.RED, volume.name, volume.detail, remedy)
    if volume.state is VolumeState.INCOMPLETE:
        cause = "its creation was interrupted, unless it is in progress"
        return Finding("records", Level.YELLOW, volume.name, cause, _FINISH.format(volume.name))
    if volume.state is VolumeState.DELETING:
        cause = "its deletion was interrupted, unless it is in progress"
        return Finding("records", Level.YELLOW, volume.name, cause, f"docker volume rm {volume.name}")
    return None


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _permits_direct_io(image: Path) -> bool:
    try:
        os.close(os.open(image, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError as error:
        return error.errno != errno.EINVAL  # open(2); what else is wrong with it, other checks tell
    return True
