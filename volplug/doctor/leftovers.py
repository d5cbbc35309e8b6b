"""Checks for what is left over here: stale mounts, loop devices that no volume needs; and their fixes.

What is mended is looked at anew right before: volplug may have started, a container may use it by now. While
volplug runs, it does the mending itself, under its locks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from volplug.api.client_errors import answered_error
from volplug.doctor.examination import Examination
from volplug.doctor.state import load, locked
from volplug.doctor.volumes import KnownVolume, known_volumes
from volplug.drivers.loop.directory import Directory, unlock_all
from volplug.drivers.loop.driver import LoopDriver
from volplug.errors import DeviceNotFound, HostError, OperationTimeout, UnexpectedState, VolumeInUse
from volplug.findings import Finding, Fix, Level
from volplug.host import holders, loopdev, mounts
from volplug.host.devices import is_held_now
from volplug.host.mountinfo import MountEntry
from volplug.volumes.ledger import Desired

_RELEASE_S: Final = 60.0
_SYS_DEV: Final = Path("/sys/dev/block")


# Mounts


async def check_mounts(examination: Examination) -> Sequence[Finding]:
    """Find mounts below the mount root that volplug does not know, or whose device has gone."""
    root = str(examination.settings.resolved_mount_root)
    places = await examination.quickly("the mount root", mounts.mounts_below, root)
    known = _by_name(await examination.blocking(known_volumes, examination))
    findings = await examination.quickly("what is mounted", _find_mounts, examination, places, known)
    well = f"{len(places)} mounted, each known to volplug and on its device"
    return findings or [Finding("mounts", Level.GREEN, root, well)]


def _find_mounts(
    examination: Examination, places: Sequence[str], known: Mapping[str, KnownVolume]
) -> Sequence[Finding]:
    findings = []
    for place in places:
        entry = mounts.top_entry(place)
        if entry is None:
            continue  # unmounted meanwhile
        volume = known.get(os.path.basename(place))
        cause = stale_because(
            volume,
            has_device=_has_device(entry),
            is_outdated=_is_outdated(entry, volume),
            is_needed=volume is not None and _is_needed(examination, volume),
        )
        if cause:
            findings.append(_stale(examination, place, entry, volume, cause))
    return findings


def stale_because(volume: KnownVolume | None, *, has_device: bool, is_outdated: bool, is_needed: bool) -> str:
    """Return why a mount is stale; "" if it is not. Pure.

    Args:
        volume: The one that is known by the name of the mount's directory.
        has_device: Whether its disk is there.
        is_outdated: Whether its disk is another one than the volume's.
        is_needed: Whether containers use the volume, or volplug is about to do something with it.
    """
    if not has_device:
        return "its disk has gone, and what was not yet written with it"
    if volume is None:
        return "is mounted, and volplug does not know a volume of this name"
    if is_outdated:
        return "what is mounted is not the image of this volume"
    if not is_needed:
        return "is still mounted, and no container is counted as using it"
    return ""


def _stale(
    examination: Examination, place: str, entry: MountEntry, volume: KnownVolume | None, cause: str
) -> Finding:
    found = partial(Finding, "mounts", subject=place, message=cause)
    by_hand = f"See who uses it, fuser -vm {place}, then umount {place}"
    if volume is not None and volume.is_claimed:
        remedy = "Stop the containers that use it; the last Unmount releases it"
        return found(level=Level.RED, remedy=remedy)
    if examination.daemon is None:
        fix = Fix(
            f"Unmount the stale mount at {place}, if nothing uses it?",
            partial(examination.blocking, _unmount, examination.settings.state_dir, place, entry),
        )
        return found(level=Level.YELLOW, remedy=by_hand, fix=fix)
    if volume is None:
        return found(level=Level.YELLOW, remedy=by_hand)
    return found(
        level=Level.YELLOW,
        remedy=f"volplug volume release {volume.name}",
        fix=_release_fix(examination, volume.name, f"the stale mount at {place}"),
    )


def _unmount(state_dir: Path, place: str, expected: MountEntry) -> str:
    """Unmount a stale mount that nothing uses, while volplug does not run. Blocks."""
    with locked(state_dir):
        _refuse_claimed(state_dir, os.path.basename(place))
        if (entry := mounts.top_entry(place)) is None:
            return f"{place} is not mounted any more"
        if (entry.device, entry.source) != (expected.device, expected.source):
            raise UnexpectedState(f"something else is mounted at {place} by now", "Run doctor again")
        users = holders.describe(None, place)
        if users != holders.UNSEEN_HOLDER:
            raise VolumeInUse(f"it is in use by {users}", "Stop that first")
        mounts.unmount(place)
    with suppress(HostError):  # its disk has gone, or it had none
        if is_held_now(entry.source):
            return f"unmounted {place}; its disk {entry.source} is in use by {holders.UNSEEN_HOLDER}"
    return f"unmounted {place}"


def _has_device(entry: MountEntry) -> bool:
    """Tell whether the disk of a mount is there; of a filesystem without a disk of its own, yes."""
    if (number := mounts.disk_number(entry)) is None:
        return False
    return os.major(number) == 0 or (_SYS_DEV / f"{os.major(number)}:{os.minor(number)}").exists()


def _is_outdated(entry: MountEntry, volume: KnownVolume | None) -> bool:
    """Tell whether the mounted loop device has another image than the volume's; False for other disks.

    Only for devices with the label of a volume: one that was attached by hand has none.
    """
    if volume is None or not volume.image or not entry.source.startswith("/dev/loop"):
        return False
    device = loopdev.status(entry.source)
    if device is None or not device.label.startswith("loop-"):
        return False
    return bool(volume.volume_id) and device.label != volume.volume_id


# Loop devices


@dataclass(frozen=True, slots=True)
class AttachedImage:
    """An image of a loop backend, and the device that has it."""

    name: str
    image: str
    device: loopdev.LoopDevice
    is_deleted: bool = False


async def check_loop_devices(examination: Examination) -> Sequence[Finding]:
    """Find loop devices with images of this host's backends that no volume needs."""
    directories = [
        driver.directory for driver in examination.drivers.values() if isinstance(driver, LoopDriver)
    ]
    if not directories:
        return []
    attached, unknown = await examination.blocking(_attached_images, directories)
    known = _by_name(await examination.blocking(known_volumes, examination))
    findings = await examination.quickly("a loop device", _find_loops, examination, attached, known)
    text = f"{len(attached)} with images of this host's volumes, each needed"
    return [*findings, *unknown] or [Finding("loop-devices", Level.GREEN, "", text)]


def _attached_images(directories: Sequence[Path]) -> tuple[Sequence[AttachedImage], Sequence[Finding]]:
    """Return the images of the directories that are attached, and a finding for each silent device."""
    devices, unknown = loopdev.all_devices()
    attached = [image for each in directories for image in _images_of(each, devices)]
    return attached, [
        Finding(
            "loop-devices",
            Level.YELLOW,
            path,
            "does not say which image it has; its image may lie on a file server that does not answer",
            f"See what it is attached to: cat /sys/block/{os.path.basename(path)}/loop/backing_file",
        )
        for path in unknown
    ]


def _find_loops(
    examination: Examination, attached: Sequence[AttachedImage], known: Mapping[str, KnownVolume]
) -> Sequence[Finding]:
    findings = []
    for image in attached:
        volume = known.get(image.name)
        if image.is_deleted or volume is None or not _is_needed(examination, volume):
            with suppress(DeviceNotFound):  # detached meanwhile
                findings.append(_left_over(examination, image, volume))
    return findings


def _images_of(directory: Path, devices: Sequence[loopdev.LoopDevice]) -> Sequence[AttachedImage]:
    """Return the images of a directory that are attached, known by device and inode.

    The kernel's paths differ between mount namespaces; they are all that is left of a deleted image.
    """
    try:
        entries = [each for each in os.scandir(directory) if each.name.endswith(".img")]
    except FileNotFoundError:
        entries = []
    files = {(status.st_dev, status.st_ino): each for each in entries for status in [each.stat()]}
    found = []
    real = os.path.realpath(directory)
    for device in devices:
        if file := files.get((device.backing_dev, device.backing_inode)):
            found.append(AttachedImage(Path(file.name).stem, file.path, device))
            continue
        path = loopdev.image_path(os.path.basename(device.path))
        image = path.removesuffix(loopdev.DELETED)
        if image != path and os.path.dirname(image) == real and device.label.startswith("loop-"):
            found.append(AttachedImage(Path(image).stem, image, device, is_deleted=True))
    return found


def _left_over(examination: Examination, image: AttachedImage, volume: KnownVolume | None) -> Finding:
    device = image.device
    found = partial(Finding, "loop-devices", Level.YELLOW, device.path)
    what = f"has {'the deleted image' if image.is_deleted else 'the image'} {image.image}"
    if is_held_now(device.path):
        remedy = f"See who uses it: grep {device.path} /proc/mounts; fuser -v {device.path}"
        return found(f"{what}, which volplug does not count as used, but something uses it", remedy)
    message = f"{what}, and nothing uses it"
    if examination.daemon is None:
        fix = Fix(
            f"Detach {device.path} from {image.image}?",
            partial(examination.blocking, _detach, examination.settings.state_dir, image),
        )
        return found(message, f"losetup -d {device.path}", fix)
    if volume is None or image.is_deleted:
        return found(message, f"losetup -d {device.path}")
    fix = _release_fix(examination, volume.name, f"the loop device {device.path}")
    return found(message, f"volplug volume release {volume.name}", fix)


def _detach(state_dir: Path, image: AttachedImage) -> str:
    """Detach a loop device that nothing uses and that has the image still, while volplug does not run."""
    with locked(state_dir):
        if not image.is_deleted:
            _refuse_claimed(state_dir, image.name)
        try:
            Directory(Path(image.image).parent, None).check()  # locks it: another volplug may use it
            loopdev.detach(image.device.path, expected=image.device)
        finally:
            unlock_all()
    return f"detached {image.device.path} from {image.image}"


# Both


def _is_needed(examination: Examination, volume: KnownVolume) -> bool:
    """Tell whether containers use a volume, or the running volplug is about to do something with it."""
    return volume.is_claimed or not _is_idle(volume.desired, is_running=examination.daemon is not None)


def _is_idle(desired: Desired, *, is_running: bool) -> bool:
    """Tell whether nothing is to be reached; what is to be detached waits for a volplug that does not run."""
    return desired is Desired.NONE or (desired is Desired.DETACHED and not is_running)


def _by_name(known: Sequence[KnownVolume]) -> Mapping[str, KnownVolume]:
    """Return volumes by name; of several backends' volumes of one name the one that is in use."""
    return {volume.name: volume for volume in sorted(known, key=lambda each: each.is_claimed)}


def _refuse_claimed(state_dir: Path, name: str) -> None:
    """Refuse a volume that containers may use; the caller has locked the state directory."""
    loaded = load(state_dir)
    entry = next((each for each in loaded.entries if each.name == name), None) if loaded else None
    if entry is not None and (entry.is_claimed or not _is_idle(entry.desired, is_running=False)):
        raise VolumeInUse(f"containers may use volume {name} by now", "Run doctor again")


def _release_fix(examination: Examination, name: str, what: str) -> Fix:
    question = f"Let volplug release volume {name}, with {what}?"
    return Fix(question, partial(examination.blocking, _release, examination, name))


def _release(examination: Examination, name: str) -> str:
    """Let the running volplug detach a volume; it refuses one that is in use. Blocks."""
    client = examination.client()
    if client is None:
        raise UnexpectedState("volplug does not run", "Run doctor again")
    with closing(client):
        started = client.start("POST", "volumes", name, "release")
        ended = client.operation(started["id"], _RELEASE_S)
    if ended["failure"]:
        raise answered_error(ended["failure"])
    if ended["state"] == "running":
        raise OperationTimeout(f"the release has not ended yet, at {ended['phase']}", "It continues")
    return f"volplug released volume {name}"
