"""Statuses of volumes in Cinder, and what they mean here. Pure.

The statuses are those of https://docs.openstack.org/api-ref/block-storage/v3/#volumes-volumes.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from volplug.models import VolumeState

_STATES: Final = MappingProxyType(
    {
        "creating": VolumeState.CREATING,
        "downloading": VolumeState.CREATING,
        "available": VolumeState.AVAILABLE,
        "reserved": VolumeState.ATTACHING,
        "attaching": VolumeState.ATTACHING,
        "in-use": VolumeState.DETACHING,  # its attachment has ended a moment earlier
        "detaching": VolumeState.DETACHING,
        "deleting": VolumeState.DELETING,
    }
)
# With an attachment, work of Cinder's that leaves the volume in use.
_IN_USE: Final = frozenset(
    {"in-use", "extending", "retyping", "backing-up", "uploading", "reserved", "attaching"}
)
# Without one, work that ends, but is neither of this host nor waited for.
_WORKING: Final = frozenset(
    {
        "awaiting-transfer",
        "backing-up",
        "extending",
        "maintenance",
        "managing",
        "restoring-backup",
        "retyping",
        "unmanaging",
        "uploading",
    }
)
_FAILED: Final = MappingProxyType(
    {
        "error": "Cinder could not create it, or its administrator has set this",
        "error_backing-up": "a backup of it has failed",
        "error_deleting": "Cinder could not delete it",
        "error_extending": "Cinder could not extend it",
        "error_managing": "Cinder could not take it over",
        "error_restoring": "Cinder could not restore a backup to it, so its contents are incomplete",
    }
)


def state_of(
    status: str, volume_id: str, *, holders: int, is_shareable: bool, is_bootable: bool
) -> tuple[VolumeState, str]:
    """Return the state of a volume, and the reason for an error.

    Args:
        status: Cinder's.
        volume_id: Named in the command that repairs it.
        holders: How many servers have it.
        is_shareable: Whether several servers may have it (`multiattach`).
        is_bootable: Whether it was made from an image, or is marked as bootable.
    """
    if status == "deleting":
        return VolumeState.DELETING, ""
    if holders > 1 or is_shareable:
        return VolumeState.ERROR, "it can be attached to several servers at once, which is not supported"
    if is_bootable:
        return VolumeState.ERROR, "it is a bootable volume, which volplug does not mount"
    if holders and status in _IN_USE:
        return VolumeState.IN_USE, ""
    if status in _STATES:
        return _STATES[status], ""
    if status in _WORKING:
        return VolumeState.ERROR, f"Cinder is not done with it ({status}); it can be used once that has ended"
    why = _FAILED.get(status, f"Cinder calls its status {status!r}")
    to = "in-use" if holders else "available"
    return VolumeState.ERROR, f"{why}; if it is sound: openstack volume set --state {to} {volume_id}"
