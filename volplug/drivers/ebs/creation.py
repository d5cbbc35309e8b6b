"""Creates volumes: one idempotent call with all tags and a client token.

The token is derived from cluster and name, so that hosts which create one name concurrently request the same
volume: EC2 returns one volume to all if the requests are equal, and refuses all but one if they differ. A
token outlives its volume, so a name that is used again needs the next token; all hosts try them in the same
order. The number remembered here only saves calls, and expires before EC2 forgets the token: hosts that began
at different tokens would make two volumes then.
https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from cachetools import TTLCache

from volplug.drivers.cloud.timeouts import VOLUMES_KNOWN
from volplug.drivers.ebs import timeouts
from volplug.drivers.ebs.errors import Ec2Refused, translated
from volplug.drivers.ebs.options import create_parameters, user_tags
from volplug.drivers.ebs.settings import EbsSettings
from volplug.drivers.ebs.tags import tags_of
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.drivers.ebs.volumes import Caller, ClusterVolumes, Ec2Volume, creation_failed, the_one
from volplug.errors import LimitExceeded, OperationTimeout, UnexpectedState, VolumeExists
from volplug.models import Volume, VolumeSpec, VolumeState

_TOKEN_USED: Final = "IdempotentParameterMismatch"  # noqa: S105  # an error code
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/troubleshoot-ebs-volumes.html
_ALREADY_DELETED: Final = "already deleted"


def token_of(cluster: str, name: str, number: int) -> str:
    """Return the token of a name's volume: 64 characters, the most that EC2 takes."""
    return hashlib.sha256("\0".join((cluster, name, str(number))).encode()).hexdigest()


class VolumeCreator:
    """Creates volumes."""

    def __init__(
        self,
        caller: Caller,
        volumes: ClusterVolumes,
        settings: EbsSettings,
        limits: Ec2Timeouts,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._caller = caller
        self._volumes = volumes
        self._settings = settings
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        memory = VOLUMES_KNOWN, timeouts.TOKENS_REMEMBERED_S, clock
        self._next_number: TTLCache[str, int] = TTLCache(*memory)  # by name
        self._numbers: TTLCache[str, int] = TTLCache(*memory)  # by volume id

    async def create(self, spec: VolumeSpec, zone: str) -> Volume:
        """See `Driver.create`; the spec was checked."""
        parameters = create_parameters(spec, self._settings, zone)
        tags = tags_of(spec, self._volumes.cluster, user_tags(spec, self._settings))
        parameters["TagSpecifications"] = [{"ResourceType": "volume", "Tags": tags}]
        if not self._volumes.was_absent(spec.name):
            await self._refuse_existing(spec.name)
        answer = await self._with_first_unused_token(spec.name, parameters)
        self._volumes.own.created(answer.volume)
        return await self._available(answer.volume, parameters)

    def deleted(self, volume: Volume) -> None:
        """Note that a volume was deleted, so that its token cannot be used again."""
        number = self._numbers.pop(volume.volume_id, None)
        if number is not None:
            self._next_number[volume.name] = number + 1

    async def _refuse_existing(self, name: str) -> None:
        existing = the_one(await self._volumes.by_name(name))
        if existing is not None:
            raise VolumeExists(f"{existing.volume_id} has this name")

    async def _with_first_unused_token(self, name: str, parameters: Mapping[str, Any]) -> Ec2Volume:
        """Send CreateVolume with one token after the other, until one was not used for another volume.

        Raises:
            VolumeExists: If another host turns out to have created a volume of this name.
        """
        first = number = self._next_number.get(name, 0)
        give_up_at = self._clock() + self._limits.tokens_s
        has_searched = False
        while number == first or self._clock() < give_up_at:
            token = token_of(self._volumes.cluster, name, number)
            try:
                answer = await self._caller.call("CreateVolume", ClientToken=token, **parameters)
            except Ec2Refused as refused:
                if refused.code != _TOKEN_USED:
                    raise translated(refused) from refused
                # One search is enough if EC2 reports the volumes of the tokens as deleted: what other hosts
                # have created since has one of the next tokens.
                is_search_done = _ALREADY_DELETED in refused.message and has_searched
                await self._refuse_new(name, 0.0 if is_search_done else self._limits.search_s)
                has_searched = True
            else:
                self._numbers[str(answer["VolumeId"])] = number
                return self._volumes.read(answer)
            number += 1
            self._next_number[name] = number
        raise LimitExceeded(
            f"the name was used {number - first} times recently, which EC2 still remembers",
            "Try again, or choose another name",
        )

    async def _refuse_new(self, name: str, for_s: float) -> None:
        """Search for a volume that another host has just created, which reads may not show yet.

        Raises:
            VolumeExists: If there is one.
        """
        waited_s = 0.0
        await self._refuse_existing(name)
        while waited_s < for_s:
            await self._sleep(self._limits.search_pause_s)
            waited_s += self._limits.search_pause_s
            await self._refuse_existing(name)

    async def _available(self, volume: Volume, parameters: Mapping[str, Any]) -> Volume:
        """Wait until a new volume is available.

        Raises:
            UnexpectedState: If EC2 gives up creating it.
            OperationTimeout: If that takes too long.
        """
        volume_id, limits = volume.volume_id, self._limits
        seen = await self._volumes.wait_settled(volume_id, limits.create_s, limits.new_absent_reads)
        if seen is None:
            raise OperationTimeout(f"EC2 is still creating {volume_id}", "Try again")
        if seen.state is VolumeState.DELETING:
            self._volumes.deleted(volume_id)
            self.deleted(volume)
            cause = creation_failed(f"EC2 gave up creating {volume_id}", parameters)
            raise UnexpectedState(
                cause, "Check the key's policy" if "KmsKeyId" in parameters else "Try again"
            )
        self._volumes.own.created(seen.volume)
        if seen.state is VolumeState.ERROR:
            raise UnexpectedState(
                f"{volume_id}: {seen.volume.detail}",
                "Nothing is on it yet: remove the volume and create it again",
            )
        return seen.volume
