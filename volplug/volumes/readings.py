"""What is found, in the words of the decision. Pure."""

from __future__ import annotations

from typing import Final

from volplug.errors import DeviceMismatch, VolplugError
from volplug.models import MountSource, Volume, VolumeState
from volplug.volumes.convergence import Device, Record

_DIRECT_RECORDS: Final = {
    VolumeState.INCOMPLETE: Record.INCOMPLETE,
    VolumeState.CREATING: Record.CREATING,
    VolumeState.AVAILABLE: Record.AVAILABLE,
    VolumeState.DETACHING: Record.DETACHING,
    VolumeState.DELETING: Record.DELETING,
    VolumeState.ERROR: Record.ERROR,
}


def record_of(found: Volume, node_id: str) -> Record:
    """Return what a backend's description of a volume means to this node."""
    is_here = found.holder == node_id
    if found.state is VolumeState.DETACHING and found.holder and not is_here:
        return Record.LEAVING
    return _DIRECT_RECORDS.get(found.state, Record.HERE if is_here else Record.ELSEWHERE)


def device_of(source: MountSource | None, volume: Volume | None, error: VolplugError | None) -> Device:
    """Return what the device that was located, or not, means for the volume."""
    if isinstance(error, DeviceMismatch):
        return Device.WRONG
    if source is None:
        return Device.NONE
    if source.outdated:
        return Device.OUTDATED
    is_right = volume is not None and source.size_bytes == volume.size_bytes
    return Device.RIGHT if is_right else Device.WRONG
