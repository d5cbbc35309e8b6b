"""Creating volumes: one call that carries everything, with a token that makes it one volume however repeated.

The token is made of cluster and name, so that hosts which create one name at the same moment ask for the
same volume: EC2 gives them the same one if they agree, and refuses all but one if they do not. A token
outlives its volume, so a name that is used again needs the next token, which all hosts find in the same
order. What this host remembers of that order is a short cut, and forgotten before EC2 forgets: hosts that
begin at different tokens would make two volumes then.
https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any, Final

from cachetools import TTLCache

from volplug.drivers.ebs.cloud import Cloud
from volplug.drivers.ebs.faults import Ec2Refused, translated
from volplug.drivers.ebs.lookups import GONE, Description, Found
from volplug.drivers.ebs.options import create_parameters, user_tags
from volplug.drivers.ebs.settings import EbsSettings
from volplug.drivers.ebs.tags import read_volume, tags_of
from volplug.errors import (
    BackendUnavailable,
    DuplicateVolumes,
    LimitExceeded,
    OperationTimeout,
    UnexpectedState,
    VolumeExists,
)
from volplug.models import Volume, VolumeSpec, VolumeState

_TOKEN_USED: Final = "IdempotentParameterMismatch"  # noqa: S105  # an error code
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/troubleshoot-ebs-volumes.html
_SAYS_DELETED: Final = "already deleted"
_REMEMBERED_S: Final = 3600.0
_MOST_REMEMBERED: Final = 10_000
_FRESH_S: Final = 10.0
_CAN_FAIL_LATER: Final = ("KmsKeyId", "SnapshotId")


class _Used(Enum):
    """What a token that was used before stands for, if not for the volume that is wanted."""

    GONE = auto()  # EC2 has answered with its volume, and that is gone
    DELETED = auto()  # EC2 says so
    UNCLEAR = auto()  # perhaps for a volume of another host, which look-ups do not show yet


def token_of(cluster: str, name: str, number: int) -> str:
    """Return the token of a name's volume: 64 characters, the most that EC2 takes."""
    return hashlib.sha256("\0".join((cluster, name, str(number))).encode()).hexdigest()


def age_s(answer: Description) -> float:
    """Return for how long an answered volume has existed, by EC2's own clock; 0 if EC2 does not say."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    created = answer.get("CreateTime")
    try:
        now = parsedate_to_datetime(str(headers.get("date", "")))
    except ValueError:
        return 0.0
    if not isinstance(created, datetime) or created.tzinfo is None or now.tzinfo is None:
        return 0.0
    return (now - created).total_seconds()


def the_one(found: Sequence[Volume]) -> Volume | None:
    """Return the volume of a name, if there is one.

    Raises:
        DuplicateVolumes: If there are several.
    """
    if len(found) > 1:
        ids = tuple(sorted(volume.volume_id for volume in found))
        raise DuplicateVolumes(
            f"{len(ids)} volumes carry this name: {', '.join(ids)}",
            "Delete one, or change its tag volplug:name",
            volume_ids=ids,
        )
    return found[0] if found else None


class Creation:
    """Creates volumes.

    Args:
        cloud: EC2.
        settings: What every volume gets.
        cluster: Whose volumes they are.
        backend: Name of the configured backend.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        cloud: Cloud,
        settings: EbsSettings,
        cluster: str,
        backend: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cloud = cloud
        self._settings = settings
        self._cluster = cluster
        self._backend = backend
        self._clock = clock
        self._next_number: TTLCache[str, int] = TTLCache(_MOST_REMEMBERED, _REMEMBERED_S, clock)
        self._numbers: TTLCache[str, int] = TTLCache(_MOST_REMEMBERED, _REMEMBERED_S, clock)
        self._unanswered: TTLCache[str, VolumeSpec] = TTLCache(_MOST_REMEMBERED, _REMEMBERED_S, clock)

    async def create(self, spec: VolumeSpec, zone: str) -> Volume:
        """See `Driver.create`; the spec was checked."""
        parameters = create_parameters(spec, self._settings, zone)
        tags = tags_of(spec, self._cluster, user_tags(spec, self._settings))
        if not self._cloud.lookups.was_absent(spec.name):
            existing = self._existing(await self._cloud.lookups.by_name(spec.name), spec)
            if existing is not None:
                return existing
        self._cloud.lookups.forget_absence(spec.name)
        parameters["TagSpecifications"] = [{"ResourceType": "volume", "Tags": tags}]
        return await self._with_some_token(spec, parameters)

    def forget(self, volume: Volume) -> None:
        """Note that a volume was deleted: its token leads nowhere any more."""
        number = self._numbers.pop(volume.volume_id, None)
        if number is not None:
            self._next_number[volume.name] = number + 1

    async def _with_some_token(self, spec: VolumeSpec, parameters: Mapping[str, Any]) -> Volume:
        patience = self._cloud.patience
        first = number = self._next_number.get(spec.name) or 0
        give_up_at = self._clock() + patience.tokens_s
        has_looked = False
        while number == first or self._clock() < give_up_at:
            answer = await self._ask(spec, parameters, number)
            if not isinstance(answer, _Used):
                return await self._created(answer, parameters)
            if answer is not _Used.GONE:
                # Once is enough for what EC2 says is deleted; all that others may have made since is found by
                # the tokens that follow.
                is_sure = answer is _Used.DELETED and has_looked
                existing = await self._look_again(spec, 0.0 if is_sure else patience.look_again_s)
                has_looked = True
                if existing is not None:
                    return existing
            number += 1
            self._next_number[spec.name] = number
        raise LimitExceeded(
            f"the name was used {number - first} times lately, which EC2 still remembers",
            "Try again, or choose another name",
        )

    async def _ask(self, spec: VolumeSpec, parameters: Mapping[str, Any], number: int) -> Description | _Used:
        """Ask for a volume with one token."""
        token = token_of(self._cluster, spec.name, number)
        asked_at = self._clock()
        try:
            answer = await self._cloud.caller.call("CreateVolume", ClientToken=token, **parameters)
        except Ec2Refused as refused:
            if refused.code != _TOKEN_USED:
                raise translated(refused) from refused
            return _Used.DELETED if _SAYS_DELETED in refused.message else _Used.UNCLEAR
        except BackendUnavailable:
            self._unanswered[spec.name] = spec
            raise
        volume_id = str(answer["VolumeId"])
        self._numbers[volume_id] = number
        if self._is_gone(answer):
            return _Used.GONE
        if age_s(answer) - (self._clock() - asked_at) <= _FRESH_S:
            return answer
        # It may be what EC2 answered at first, of a volume that has been deleted since.
        shown = await self._cloud.lookups.by_id(volume_id)
        if shown is None:
            return _Used.UNCLEAR
        return _Used.GONE if self._is_gone(shown) else shown

    def _is_gone(self, answer: Description) -> bool:
        """Tell whether a token led to a volume that it made once and that is gone."""
        return answer.get("State") in GONE or self._cloud.recent.is_deleted(str(answer["VolumeId"]))

    async def _created(self, answer: Description, parameters: Mapping[str, Any]) -> Volume:
        volume = self._cloud.lookups.note(answer, is_look=False)
        if any(each in parameters for each in _CAN_FAIL_LATER):
            volume = await self._completed(volume, parameters)
        if volume.state is VolumeState.ERROR:
            raise UnexpectedState(f"{volume.volume_id}: {volume.detail}", "Remove the volume")
        self._cloud.recent.created(volume)
        return volume

    async def _completed(self, volume: Volume, parameters: Mapping[str, Any]) -> Volume:
        """Wait for what EC2 may still fail to do: it finds out late that it may not use a key."""
        was_seen = False

        def over(description: Description | None) -> Volume | None:
            nonlocal was_seen
            if description is None or description.get("State") in GONE:
                if was_seen:
                    raise self._given_up(volume, parameters)
                return None
            was_seen = True
            return None if description.get("State") == "creating" else read_volume(description, self._backend)

        done = await self._cloud.states.until(volume.volume_id, over, self._cloud.patience.create_s)
        if done is None and not was_seen:
            raise self._given_up(volume, parameters)
        if done is None:
            raise OperationTimeout(f"EC2 is still creating {volume.volume_id}", "Try again")
        return done

    def _given_up(self, volume: Volume, parameters: Mapping[str, Any]) -> UnexpectedState:
        self.forget(volume)
        self._cloud.lookups.forget(volume.volume_id)
        key = parameters.get("KmsKeyId", "")
        why = f", most often because it may not use the KMS key {key}" if key else ""
        return UnexpectedState(f"EC2 gave up creating {volume.volume_id}{why}", "Check the key's policy")

    async def _look_again(self, spec: VolumeSpec, for_s: float) -> Volume | None:
        """Look for what another host may have created a moment ago, which look-ups may not show yet."""
        waited_s, pause_s = 0.0, self._cloud.patience.look_pause_s
        while True:
            existing = self._existing(await self._cloud.lookups.by_name(spec.name), spec)
            if existing is not None or waited_s >= for_s:
                return existing
            await self._cloud.sleep(pause_s)
            waited_s += pause_s

    def _existing(self, found: Sequence[Found], spec: VolumeSpec) -> Volume | None:
        """Return a volume whose creation an earlier call began, without an answer or not yet finished.

        Raises:
            VolumeExists: If there is one that is finished, or another one.
            DuplicateVolumes: If there are several.
        """
        volume = the_one([each.volume for each in found])
        if volume is None:
            return None
        is_begun = any(each.is_creating for each in found) and not self._cloud.recent.is_new(volume.volume_id)
        is_begun = self._unanswered.pop(spec.name, None) == spec or is_begun
        if is_begun and volume.spec == spec:
            return volume
        raise VolumeExists(f"{volume.volume_id} has this name")
