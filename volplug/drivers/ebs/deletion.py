"""Deleting volumes: one call. EC2 takes no deletion back, so nothing is waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from volplug.drivers.ebs.cloud import Cloud
from volplug.drivers.ebs.faults import Ec2Refused, translated
from volplug.drivers.ebs.lookups import Description
from volplug.drivers.ebs.situations import Place, Situation, situation
from volplug.errors import BackendUnavailable, VolumeInUse, VolumeNotFound
from volplug.models import Volume

_WAIT_AND_ASK: Final = ("VolumeInUse", "IncorrectState")
_PASSING: Final = (Place.CREATING, Place.LEAVING, Place.UNSEEN)
_TRIES: Final = 3
_EARLY_TRIES: Final = 10
_LATE_LOOKS: Final = 5


class Deletion:
    """Deletes volumes.

    Args:
        cloud: EC2.
        forget: Told of every volume that is gone.
    """

    def __init__(self, cloud: Cloud, forget: Callable[[Volume], None]) -> None:
        self._cloud = cloud
        self._forget = forget

    async def delete(self, volume: Volume) -> None:
        """See `Driver.delete`; the volume is known to be one of the cluster's."""
        for tries_left in reversed(range(_TRIES)):
            try:
                await self._ask(volume)
            except Ec2Refused as refused:
                if refused.code == "InvalidVolume.NotFound":
                    self._note(volume)
                    if refused.was_repeated:
                        return  # the answer to the first call was lost
                    raise VolumeNotFound(f"{volume.volume_id} does not exist") from refused
                if refused.code not in _WAIT_AND_ASK or not tries_left:
                    raise translated(refused) from refused
                if await self._is_going(refused, volume):
                    break
            else:
                break
        self._note(volume)

    def _note(self, volume: Volume) -> None:
        self._cloud.recent.deleted(volume.volume_id)
        self._cloud.lookups.forget(volume.volume_id)
        self._forget(volume)

    async def _ask(self, volume: Volume) -> None:
        """Ask EC2 to delete a volume, again if it does not know yet what it has just created.

        Raises:
            BackendUnavailable: If it goes on not to know: the volume may exist all the same.
        """
        was_shown = self._cloud.recent.was_shown(volume.volume_id)
        for tries_left in reversed(range(_EARLY_TRIES)):
            try:
                await self._cloud.caller.call("DeleteVolume", VolumeId=volume.volume_id)
            except Ec2Refused as refused:
                is_early = refused.code == "InvalidVolume.NotFound" and not refused.was_repeated
                if not is_early or not self._cloud.recent.is_new(volume.volume_id):
                    raise
                shown = await self._shown(volume, was_shown=was_shown)
                is_gone = situation(shown, "").place is Place.DELETED or (shown is None and was_shown)
                if is_gone:  # somebody else has deleted it
                    raise
                if shown is None or not tries_left:
                    raise BackendUnavailable(
                        f"EC2 does not know {volume.volume_id} yet, which it has just created", "Try again"
                    ) from refused
                was_shown = True
            else:
                return

    async def _shown(self, volume: Volume, *, was_shown: bool) -> Description | None:
        patience = self._cloud.patience
        wait_s = patience.look_again_s if was_shown else patience.visible_s
        return await self._cloud.states.until(volume.volume_id, lambda description: description, wait_s)

    async def _is_going(self, refused: Ec2Refused, volume: Volume) -> bool:
        """Wait until what goes on at EC2 is over; tell whether that was a deletion.

        Raises:
            VolumeInUse: If the volume is attached.
        """
        late_looks = 0

        def settled(description: Description | None) -> Situation | None:
            nonlocal late_looks
            now = situation(description, "")
            if now.place in _PASSING:
                return None
            if late_looks < _LATE_LOOKS and self._contradicts(now, refused, volume):
                late_looks += 1
                return None
            return now

        now = settled(await self._cloud.lookups.by_id(volume.volume_id))
        if now is None:
            now = await self._cloud.states.until(volume.volume_id, settled, self._cloud.patience.settle_s)
        if now is None:
            raise VolumeInUse(f"{volume.volume_id} is still being made or detached") from refused
        if now.place is Place.ELSEWHERE:
            raise VolumeInUse(
                f"{volume.volume_id} is attached to {now.holder}", holder=now.holder
            ) from refused
        return now.place is Place.DELETED

    def _contradicts(self, now: Situation, refused: Ec2Refused, volume: Volume) -> bool:
        """Tell whether a look seems to show what was before the last change."""
        if now.place is Place.ELSEWHERE:
            return self._cloud.recent.was_let_go(volume.volume_id)
        return now.place is Place.FREE and refused.code == "VolumeInUse"
