"""Compares the sizes of a volume, its device and its filesystem, and words what differs. Pure."""

from __future__ import annotations

from typing import Final

from volplug.host.filesystems.base import is_outgrown
from volplug.models import BlockDevice, Contents, MountSource, Volume, VolumeState
from volplug.sizes import MIB, rounded_size
from volplug.volumes.observed import SizeMatch

# What an attachment may keep for itself: a LUKS2 header is 16 MiB. Volumes of clouds grow by whole GiB.
_HIDDEN_BYTES: Final = 16 * MIB


def size_match_of(volume: Volume | None, source: MountSource | None, contents: Contents | None) -> SizeMatch:
    """Compare the sizes of record, device and filesystem, as far as they are known.

    A filesystem without a device has no other size than its quota, which may be changed at any time.
    """
    if volume is None or not isinstance(source, BlockDevice) or volume.state is VolumeState.ERROR:
        return SizeMatch.EQUAL
    filesystem_bytes = contents.filesystem_bytes if contents else None
    if filesystem_bytes is not None and filesystem_bytes > source.size_bytes:
        return SizeMatch.FILESYSTEM_LARGER
    if not volume.size_bytes - source.hidden_bytes <= source.size_bytes <= volume.size_bytes:
        if filesystem_bytes is not None:
            return SizeMatch.FILESYSTEM_FITS
        is_smaller = source.size_bytes < volume.size_bytes
        return SizeMatch.DEVICE_SMALLER if is_smaller else SizeMatch.DEVICE_LARGER
    if filesystem_bytes is not None and is_outgrown(filesystem_bytes, source.size_bytes):
        return SizeMatch.FILESYSTEM_SMALLER
    return SizeMatch.EQUAL


def describe_difference(volume_bytes: int, device_bytes: int, filesystem_bytes: int | None) -> str:
    """Return what is smaller than what of a volume that is served all the same, "" if nothing is."""
    differences = []
    if filesystem_bytes is not None and is_outgrown(filesystem_bytes, device_bytes):
        differences.append(
            f"its filesystem, {rounded_size(filesystem_bytes)}, is smaller than its device,"
            f" {rounded_size(device_bytes)}"
        )
    if device_bytes + _HIDDEN_BYTES < volume_bytes:
        differences.append(
            f"its device, {rounded_size(device_bytes)}, is smaller than the volume at its backend,"
            f" {rounded_size(volume_bytes)}"
        )
    return "; ".join(differences)
