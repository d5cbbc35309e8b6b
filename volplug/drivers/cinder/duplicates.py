"""Decides which of several volumes of one name is the volume of that name. Pure.

Cinder's names are not unique, and its creations not idempotent, so hosts that create one name at once make
several volumes. All hosts choose the same one: that which was attached or formatted already, else the oldest.
The others were never attached, since the choice is made again before a volume is first attached.
"""

from __future__ import annotations

from collections.abc import Sequence

from volplug.drivers.cinder.volumes import CinderVolume
from volplug.drivers.cloud.volumes import duplicate_volumes
from volplug.models import VolumeState


def chosen_of(found: Sequence[CinderVolume]) -> CinderVolume | None:
    """Return the volume of a name, or None.

    Args:
        found: All volumes of the name, all read at one moment.

    Raises:
        DuplicateVolumes: If several are not those of concurrent creations, or several may have data.
    """
    existing = [each for each in found if not _is_going(each)]
    if len(existing) <= 1:
        return next(iter(existing or found), None)
    touched = [each for each in existing if not each.is_untouched]
    if len(touched) > 1 or not all(each.token for each in existing):
        raise duplicate_volumes(existing, "metadata")
    return touched[0] if touched else min(existing, key=_age)


def _is_going(found: CinderVolume) -> bool:
    """Tell whether a volume is to be deleted, by whichever host, also if Cinder has failed to."""
    has_failed = found.status == "error_deleting" and found.is_untouched
    return found.state is VolumeState.DELETING or has_failed


def _age(found: CinderVolume) -> tuple[str, str]:
    """Order by time of creation; Cinder's database may keep whole seconds only, so ids decide."""
    created_at = found.volume.created_at
    return created_at.isoformat() if created_at else "", found.volume_id
