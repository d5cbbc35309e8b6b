"""Attaching a volume to this instance: one call, then the kernel tells when the disk is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from volplug.drivers.cloud.first_result import first_result
from volplug.drivers.ebs.cloud import Cloud
from volplug.drivers.ebs.disks import Disks
from volplug.drivers.ebs.faults import Ec2Refused, translated
from volplug.drivers.ebs.identity import Identity
from volplug.drivers.ebs.lookups import Description
from volplug.drivers.ebs.situations import Place, Situation, Verdict, situation, verdict
from volplug.errors import (
    DeviceNotFound,
    HostError,
    InvalidRequest,
    LimitExceeded,
    UnexpectedState,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.models import MountSource, Volume, VolumeState

_LOG = structlog.get_logger(__name__)
_PASSING: Final = (Place.CREATING, Place.LEAVING, Place.UNSEEN)
_LOOKS_THAT_COUNT: Final = 3
_GONE_ALREADY: Final = ("IncorrectState", "InvalidAttachment.NotFound")


class Attaching:
    """Attaches volumes; any number at once.

    Args:
        cloud: EC2.
        disks: This host's disks.
    """

    def __init__(self, cloud: Cloud, disks: Disks) -> None:
        self._cloud = cloud
        self._disks = disks
        self.leaving: set[str] = set()

    async def attach(self, volume: Volume, node: Identity) -> MountSource:
        """See `Driver.attach`; the volume is known to be one of the cluster's."""
        is_leaving = volume.state is VolumeState.DETACHING and volume.holder == node.instance_id
        if is_leaving or volume.volume_id in self.leaving:
            await self._let_it_leave(volume, node)
        source = await self._disks.locate(volume)
        if source is None:
            self._refuse_other_zone(volume, node)
            if self._cloud.lookups.is_passing(volume.volume_id):
                await self._passed(volume, node)
            source = await self._attached(volume, node)
        before = volume.holder if volume.holder != node.instance_id else None
        self._cloud.recent.held(volume.volume_id, node.instance_id, before)
        return source

    async def _passed(self, volume: Volume, node: Identity) -> None:
        """Wait for what goes on at EC2 before asking for more; if it does not end, EC2 says what is wrong."""

        def passed(description: Description | None) -> bool | None:
            return None if situation(description, node.instance_id).place in _PASSING else True

        await self._cloud.states.until(volume.volume_id, passed, self._cloud.patience.settle_s)

    async def _attached(self, volume: Volume, node: Identity) -> MountSource:
        name, patience = "", self._cloud.patience
        for _ in range(patience.attach_tries):
            name = await self._request(volume, node)
            source = await self._arrival(volume, node, name)
            if source is not None:
                return source
            _LOG.warning("attach is stuck", volume=volume.name, volume_id=volume.volume_id, device=name)
            await self._give_up(volume, node, name)
        raise DeviceNotFound(
            f"{volume.volume_id} did not appear on {node.instance_id} within {patience.attaching_s:.0f} s, "
            f"{patience.attach_tries} times, last as {name}",
            "If this goes on, stop and start the instance",
        )

    # Asking for it

    async def _request(self, volume: Volume, node: Identity) -> str:
        """Ask EC2 to attach the volume until it does; return the name."""
        tries_left = self._cloud.patience.request_tries
        while True:
            tries_left -= 1
            name = await self._disks.take_name(volume.volume_id)
            try:
                await self._cloud.caller.call(
                    "AttachVolume", VolumeId=volume.volume_id, InstanceId=node.instance_id, Device=name
                )
            except Ec2Refused as refused:
                self._disks.leave_name(volume.volume_id)
                found = await self._after_refusal(refused, volume, node, name)
                if not found and tries_left <= 0:
                    raise translated(refused) from refused
                name = found
            except BaseException:
                self._disks.leave_name(volume.volume_id)
                raise
            if name:
                return name

    async def _after_refusal(self, refused: Ec2Refused, volume: Volume, node: Identity, name: str) -> str:
        """Return the name by which it is attached after all, or "" to try again."""
        volume_id = volume.volume_id
        match verdict(refused):
            case Verdict.NEXT_NAME:
                self._disks.avoid_name(name)
                return ""
            case Verdict.ASK:
                return await self._where_it_is(refused, volume, node)
            case Verdict.UNKNOWN_VOLUME:
                if await self._becomes_visible(volume):
                    return ""
                raise VolumeNotFound(f"{volume_id} does not exist") from refused
            case Verdict.OTHER_ZONE:
                await self._cloud.lookups.by_id(volume_id)
                self._refuse_other_zone(volume, node)
                raise InvalidRequest(
                    f"{volume_id} is in another availability zone than this host ({node.zone})"
                ) from refused
            case Verdict.FULL:
                count = await self._disks.attached_count()
                raise LimitExceeded(
                    f"{node.instance_id} takes no more volumes, it has {count} with its root: "
                    f"{refused.message}",
                    "Detach volumes from it, or use an instance type that takes more",
                ) from refused
            case Verdict.FAIL:
                raise translated(refused) from refused

    async def _where_it_is(self, refused: Ec2Refused, volume: Volume, node: Identity) -> str:
        """Look why EC2 refused: the volume may be here already, elsewhere, or on its way."""
        volume_id = volume.volume_id
        now = situation(await self._cloud.lookups.by_id(volume_id), node.instance_id)
        if (
            now.place is Place.FREE
            and refused.code == "IncorrectState"
            and node.instance_id in refused.message
        ):
            raise UnexpectedState(f"EC2 says: {refused.message}") from refused  # it is not running
        if now.place in _PASSING or now.place is Place.FREE:  # free in spite of the refusal: a late look
            now = await self._settled(refused, volume, node, now)
        if now.is_here:
            self._disks.use_name(volume_id, now.device)
            return now.device
        if now.place is Place.FREE:
            return ""
        if now.place is Place.ELSEWHERE:
            raise VolumeInUse(
                f"{volume_id} is attached to {now.holder} as {now.device}", holder=now.holder
            ) from refused
        if now.place is Place.DELETED:
            raise VolumeNotFound(f"{volume_id} does not exist") from refused
        raise UnexpectedState(f"{volume_id} is in state {now.detail!r}: {refused.message}") from refused

    async def _settled(
        self, refused: Ec2Refused, volume: Volume, node: Identity, before: Situation
    ) -> Situation:
        """Wait until what goes on at EC2 is over."""

        def settled(description: Description | None) -> Situation | None:
            now = situation(description, node.instance_id)
            return None if now.place in _PASSING else now

        settle_s = self._cloud.patience.settle_s
        now = await self._cloud.states.until(volume.volume_id, settled, settle_s)
        if now is not None:
            return now
        if before.holder:
            raise VolumeInUse(
                f"{volume.volume_id} has been leaving {before.holder} for {settle_s:.0f} s ({before.detail})",
                "Unmount it there",
                holder=before.holder,
            ) from refused
        raise UnexpectedState(f"EC2 is still {before.detail} {volume.volume_id}", "Try again") from refused

    async def _becomes_visible(self, volume: Volume) -> bool:
        """Wait for a volume that EC2 may just have created."""
        if not self._cloud.recent.is_new(volume.volume_id):
            return False
        seen = await self._cloud.states.until(
            volume.volume_id, lambda shown: True if shown else None, self._cloud.patience.visible_s
        )
        return seen is not None

    def _refuse_other_zone(self, volume: Volume, node: Identity) -> None:
        zone = self._cloud.lookups.zone_of(volume.volume_id)
        if zone and node.zone and zone != node.zone:
            raise InvalidRequest(
                f"{volume.volume_id} is in availability zone {zone}, this host in {node.zone}",
                f"Run the container in {zone}: a volume never leaves its zone",
            )

    # Waiting for it

    async def _arrival(self, volume: Volume, node: Identity, name: str) -> MountSource | None:
        """Wait for the disk; None if the attach is stuck or has failed."""
        patience = self._cloud.patience
        source = await self._disks.arrival(volume, name, patience.quiet_s)
        if source is not None:
            return source
        rest_s = patience.attaching_s - patience.quiet_s
        found = await first_result(
            self._disks.arrival(volume, name, rest_s),
            self._cloud.states.until(volume.volume_id, _gone_wrong(node.instance_id), rest_s),
        )
        return found if isinstance(found, MountSource) else None

    async def _give_up(self, volume: Volume, node: Identity, name: str) -> None:
        """Take back an attach that leads nowhere, and never use its name again."""
        self._disks.avoid_name(name)
        self._disks.leave_name(volume.volume_id)
        try:
            await self._cloud.caller.call(
                "DetachVolume", VolumeId=volume.volume_id, InstanceId=node.instance_id
            )
        except Ec2Refused as refused:
            if refused.code not in _GONE_ALREADY:
                raise translated(refused) from refused

    async def _let_it_leave(self, volume: Volume, node: Identity) -> None:
        """Wait for a detach that was asked for before; EC2 takes none back."""
        looks = 0

        def over(description: Description | None) -> bool | None:
            nonlocal looks
            now = situation(description, node.instance_id)
            if now.is_here:  # EC2 did not begin, or this look shows how it was before
                looks += 1
                return False if looks >= _LOOKS_THAT_COUNT else None
            if now.place is Place.UNSEEN or now.holder == node.instance_id:
                return None
            return True

        patience = self._cloud.patience
        has_left = await self._cloud.states.until(volume.volume_id, over, patience.settle_s)
        if has_left and not await self._disks.departure(volume.volume_id, patience.detach_s):
            raise HostError(
                f"EC2 has detached {volume.volume_id} from this host, which shows its disk still",
                "End whatever uses it; restart this instance if it stays",
            )
        if has_left is None:
            raise VolumeInUse(
                f"{volume.volume_id} is being detached from this host and still in use here",
                "End whatever uses it",
                holder=node.instance_id,
            )
        self.leaving.discard(volume.volume_id)


def _gone_wrong(instance_id: str) -> Callable[[Description | None], bool | None]:
    """Return what says False once EC2 has given an attach up; one look alone may show the past."""
    looks = 0

    def decide(description: Description | None) -> bool | None:
        nonlocal looks
        looks = 0 if situation(description, instance_id).is_here else looks + 1
        return False if looks >= _LOOKS_THAT_COUNT else None

    return decide
