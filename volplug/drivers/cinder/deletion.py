"""Deletes volumes: one request, then a wait, for Cinder may fail to delete."""

from __future__ import annotations

from typing import Final

from volplug.drivers.cinder.errors import OpenStackRefused, translated
from volplug.drivers.cinder.openstack import CINDER, Call, OpenStackCaller
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cinder.volumes import CinderVolumes
from volplug.errors import OperationTimeout, UnexpectedState, VolumeInUse
from volplug.models import Volume, VolumeState

_SNAPSHOTS: Final = "If it has snapshots, delete them first: openstack volume snapshot list --volume"


class CinderDeleter:
    """Deletes volumes."""

    def __init__(self, caller: OpenStackCaller, volumes: CinderVolumes, limits: CinderTimeouts) -> None:
        self._caller = caller
        self._volumes = volumes
        self._limits = limits

    async def delete(self, volume: Volume) -> None:
        """See `Driver.delete`; the volume is known to be one of the cluster's."""
        volume_id = volume.volume_id
        for requests_left in reversed(range(self._limits.delete_requests)):
            try:
                await self._caller.call(Call(CINDER, "DELETE", f"/volumes/{volume_id}"))
                break
            except OpenStackRefused as refused:
                if await self._is_deleting(refused, volume_id):
                    break
                if not requests_left:
                    raise UnexpectedState(f"Cinder does not delete {volume_id}", _SNAPSHOTS) from refused
        left = await self._volumes.wait_settled(volume_id, self._limits.delete_s)
        if left is None:
            raise OperationTimeout(f"Cinder is still deleting {volume_id}", "Try again")
        if left.state is not VolumeState.DELETING:
            raise UnexpectedState(f"{volume_id} was not deleted: {left.volume.detail or left.status}")
        self._volumes.deleted(volume_id)

    async def _is_deleting(self, refused: OpenStackRefused, volume_id: str) -> bool:
        """Tell whether a volume is being deleted although the request was refused; if not, it is repeated.

        Raises:
            VolplugError: If it would be refused again.
        """
        if refused.is_missing:
            if refused.was_repeated:
                return True  # the response to the first try was lost
            self._volumes.deleted(volume_id)
        if refused.status not in {400, 409}:
            raise translated(refused) from refused
        seen = await self._volumes.by_id(volume_id)
        if seen is not None and seen.is_transitional and seen.state is not VolumeState.DELETING:
            seen = await self._volumes.wait_settled(volume_id, self._limits.transition_s) or seen
        if seen is None or seen.state is VolumeState.DELETING:
            return True
        if seen.holder or seen.is_transitional:
            raise VolumeInUse(
                f"{volume_id} is attached to {seen.holder or 'a server'} ({seen.status})", holder=seen.holder
            ) from refused
        if seen.state is not VolumeState.AVAILABLE:
            raise UnexpectedState(f"Cinder does not delete {volume_id}: {seen.volume.detail or seen.status}")
        return False  # what it was refused for has ended, unless it has snapshots
