"""What this process did to volumes a moment ago: look-ups of EC2 may not know of it yet.

"The Amazon EC2 API follows an eventual consistency model":
https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html. So for a minute what EC2 has
confirmed to us counts more than a look-up that shows how things were before it. What a look-up shows that is
neither how they were before nor what we did is somebody else's doing, and newer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from volplug.models import FilesystemTag, Volume, VolumeState

_HORIZON_S: Final = 60.0


@dataclass
class _Deeds:
    """What was done to one volume.

    Attributes:
        created: The volume as its creation was answered.
        created_until_s: For how long look-ups may not show it.
        was_shown: Whether a look-up has shown it since.
        deleted: Whether it is gone.
        holder: Who has it: an instance, "" for nobody, None if nothing was done about that.
        earlier_holders: What look-ups may still show; "" for nobody.
        is_recognised: Whether a look-up that shows `holder` cannot show the past.
        detached_from: The instances that it was detached from here.
        filesystem: The tag written last.
        earlier_filesystems: What look-ups may still show.
        until_s: When all of it is forgotten.
    """

    until_s: float
    created: Volume | None = None
    created_until_s: float = 0.0
    was_shown: bool = False
    deleted: bool = False
    holder: str | None = None
    earlier_holders: set[str] = field(default_factory=set)
    is_recognised: bool = False
    detached_from: set[str] = field(default_factory=set)
    filesystem: FilesystemTag | None = None
    earlier_filesystems: set[FilesystemTag] = field(default_factory=set)


class Recent:
    """The deeds of the last minute.

    Args:
        clock: Seconds that never go back.
        horizon_s: For how long EC2 may show the past.
    """

    def __init__(self, clock: Callable[[], float], horizon_s: float = _HORIZON_S) -> None:
        self._clock = clock
        self._horizon_s = horizon_s
        self._deeds: dict[str, _Deeds] = {}

    def created(self, volume: Volume) -> None:
        """Note a creation that EC2 has answered."""
        deeds = self._of(volume.volume_id)
        deeds.created, deeds.created_until_s = volume, deeds.until_s

    def deleted(self, volume_id: str) -> None:
        """Note a deletion that EC2 has answered."""
        self._of(volume_id).deleted = True

    def held(self, volume_id: str, holder: str, before: str | None) -> None:
        """Note who has a volume now, "" for nobody, and who had it before."""
        deeds = self._of(volume_id)
        if deeds.holder is not None:
            deeds.earlier_holders.add(deeds.holder)
        deeds.earlier_holders.add(before or "")
        if holder:
            deeds.earlier_holders.add("")  # between two instances it is nobody's
        else:
            deeds.detached_from.add(before or "")
            if deeds.holder and before == deeds.holder:
                # We had it, so whoever had it before us and shows now has got it again.
                deeds.earlier_holders &= {before, ""}
        deeds.is_recognised = holder not in deeds.earlier_holders
        deeds.earlier_holders.discard(holder)
        deeds.holder = holder

    def tagged(self, volume_id: str, tag: FilesystemTag, before: FilesystemTag) -> None:
        """Note the filesystem tag that was written, and what it replaced."""
        deeds = self._of(volume_id)
        if deeds.filesystem is not None:
            deeds.earlier_filesystems.add(deeds.filesystem)
        deeds.earlier_filesystems.add(before)
        deeds.earlier_filesystems.discard(tag)
        deeds.filesystem = tag

    def is_new(self, volume_id: str) -> bool:
        """Tell whether this process created the volume within the last minute."""
        deeds = self._current(volume_id)
        return deeds is not None and self._is_new(deeds)

    def was_shown(self, volume_id: str) -> bool:
        """Tell whether a look-up has shown a volume of the last minute's deeds."""
        deeds = self._current(volume_id)
        return deeds is not None and deeds.was_shown

    def is_deleted(self, volume_id: str) -> bool:
        """Tell whether this process deleted the volume within the last minute."""
        deeds = self._current(volume_id)
        return deeds is not None and deeds.deleted

    def was_let_go(self, volume_id: str) -> bool:
        """Tell whether this process detached the volume within the last minute."""
        deeds = self._current(volume_id)
        return deeds is not None and deeds.holder == ""

    def expected(self) -> list[Volume]:
        """Return what was created: a look-up that does not show it is late, or others have deleted it.

        That one look-up has shown it says nothing of the next: each may be answered by another server.
        """
        known = [self._current(volume_id) for volume_id in list(self._deeds)]
        return [
            self.corrected(deeds.created)
            for deeds in known
            if deeds is not None and deeds.created is not None and self._is_new(deeds) and not deeds.deleted
        ]

    def seen(self, shown: Iterable[Volume]) -> list[Volume]:
        """Return what a look-up shows, corrected by what was done since."""
        volumes = [each for each in shown if not self.is_deleted(each.volume_id)]
        for each in volumes:
            self._recognise(each)
        return [self.corrected(each) for each in volumes]

    def _recognise(self, volume: Volume) -> None:
        """Drop what was before a deed once a look-up shows its effect: what differs from then on is newer."""
        deeds = self._current(volume.volume_id)
        if deeds is not None:
            deeds.was_shown = True
        is_over = volume.state in (VolumeState.IN_USE, VolumeState.AVAILABLE)
        if deeds is not None and is_over and deeds.is_recognised and (volume.holder or "") == deeds.holder:
            deeds.earlier_holders.clear()

    def corrected(self, volume: Volume) -> Volume:
        """Return a volume as it is after what was done to it."""
        deeds = self._current(volume.volume_id)
        if deeds is None or volume.state is VolumeState.ERROR:
            return volume
        if deeds.filesystem is not None and volume.filesystem in deeds.earlier_filesystems:
            volume = replace(volume, filesystem=deeds.filesystem)
        return self._with_holder(volume, deeds)

    def _with_holder(self, volume: Volume, deeds: _Deeds) -> Volume:
        shown = volume.holder or ""
        if deeds.holder is None or shown not in deeds.earlier_holders | {deeds.holder}:
            return volume
        is_leaving = volume.state is VolumeState.DETACHING and shown == deeds.holder
        if is_leaving and shown not in deeds.detached_from:
            return volume  # no detach of ours, so somebody else's, and newer
        if deeds.holder:
            return replace(volume, state=VolumeState.IN_USE, holder=deeds.holder)
        if volume.state in (VolumeState.IN_USE, VolumeState.DETACHING, VolumeState.ATTACHING):
            return replace(volume, state=VolumeState.AVAILABLE, holder=None)
        return volume

    def _is_new(self, deeds: _Deeds) -> bool:
        return deeds.created is not None and self._clock() < deeds.created_until_s

    def _of(self, volume_id: str) -> _Deeds:
        deeds = self._current(volume_id)
        if deeds is None:
            deeds = self._deeds[volume_id] = _Deeds(0.0)
        deeds.until_s = self._clock() + self._horizon_s
        return deeds

    def _current(self, volume_id: str) -> _Deeds | None:
        deeds = self._deeds.get(volume_id)
        if deeds is not None and deeds.until_s <= self._clock():
            del self._deeds[volume_id]
            return None
        return deeds
