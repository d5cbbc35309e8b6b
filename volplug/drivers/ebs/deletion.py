"""Deletes volumes: one call. EC2 cannot undo a deletion, so a volume in state `deleting` counts as gone."""

from __future__ import annotations

from volplug.drivers.cloud.volumes import no_volume
from volplug.drivers.ebs.errors import Ec2Refused, translated
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.drivers.ebs.volumes import Caller, ClusterVolumes
from volplug.errors import BackendUnavailable, VolplugError, VolumeInUse, VolumeNotFound
from volplug.models import Volume, VolumeState

_UNKNOWN = "InvalidVolume.NotFound"
_WRONG_STATE = ("VolumeInUse", "IncorrectState")


class VolumeDeleter:
    """Deletes volumes."""

    def __init__(self, caller: Caller, volumes: ClusterVolumes, limits: Ec2Timeouts) -> None:
        self._caller = caller
        self._volumes = volumes
        self._limits = limits

    async def delete(self, volume: Volume) -> None:
        """See `Driver.delete`; the volume is known to be one of the cluster's."""
        for requests_left in reversed(range(self._limits.delete_requests)):
            try:
                await self._caller.call("DeleteVolume", VolumeId=volume.volume_id)
                break
            except Ec2Refused as refused:
                if await self._is_gone(refused, volume):
                    break
                if not requests_left:
                    raise _given_up(refused, volume) from refused
        self._volumes.deleted(volume.volume_id)

    async def _is_gone(self, refused: Ec2Refused, volume: Volume) -> bool:
        """Tell whether a volume is gone although its deletion was refused; if not, the request is retried.

        EC2 has refused because of a state that the core's last read did not show, so that read was stale;
        the current state comes from the shared poll.

        Raises:
            VolplugError: If a retry would be refused as well.
        """
        volume_id = volume.volume_id
        if refused.code == _UNKNOWN:
            if refused.was_repeated:
                return True  # the response to the first try was lost
            if not self._volumes.own.is_created(volume_id):
                raise self._not_found(volume_id) from refused
        elif refused.code not in _WRONG_STATE:
            raise translated(refused) from refused
        seen = await self._volumes.wait_settled(volume_id, self._limits.transition_s)
        if seen is None:
            raise VolumeInUse(f"{volume_id} is still being created or detached") from refused
        if seen.holder:
            raise VolumeInUse(f"{volume_id} is attached to {seen.holder}", holder=seen.holder) from refused
        is_gone = seen.state is VolumeState.DELETING
        if is_gone and refused.code == _UNKNOWN:
            raise self._not_found(volume_id) from refused
        return is_gone

    def _not_found(self, volume_id: str) -> VolumeNotFound:
        self._volumes.deleted(volume_id)
        return no_volume(volume_id)


def _given_up(refused: Ec2Refused, volume: Volume) -> VolplugError:
    if refused.code == _UNKNOWN:  # but reads show it, so it must not count as gone
        return BackendUnavailable(f"EC2 shows {volume.volume_id}, but does not know it yet", "Try again")
    return translated(refused)
