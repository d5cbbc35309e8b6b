"""DescribeVolumes: by name, by id, all; always within the cluster, always filtered by EC2.

Look-ups by name that come together are one call.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from volplug.drivers.ebs.patience import Patience
from volplug.drivers.ebs.recent import Recent
from volplug.drivers.ebs.tags import CLUSTER, NAME, as_mapping, read_volume
from volplug.errors import BackendUnavailable
from volplug.models import Volume

# EC2 never takes a deletion back, so a volume that is being deleted is gone.
_EXISTING: Final = ("creating", "available", "in-use", "error")
GONE: Final = ("deleting", "deleted")
_PAGE: Final = 500
_MOST_VALUES: Final = 190  # EC2 takes 200 in all filters of a call together
_TOGETHER_S: Final = 0.003
_ABSENT_FOR_S: Final = 10.0
_MOST_KNOWN: Final = 10_000

Description = Mapping[str, Any]


class Caller(Protocol):
    """What calls EC2; see `volplug.drivers.ebs.ec2.Ec2`."""

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        """Make one call and return EC2's answer."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What a look-up shows of one volume.

    Attributes:
        volume: The volume, corrected by what this process did a moment ago.
        is_creating: Whether EC2 is still creating it.
    """

    volume: Volume
    is_creating: bool


class Lookups:
    """The volumes of one cluster.

    Args:
        caller: Calls EC2.
        cluster: Only its volumes are seen.
        backend: Name of the configured backend.
        recent: What this process did a moment ago.
        clock: Seconds that never go back.
        patience: How long is waited for what.
    """

    def __init__(
        self,
        caller: Caller,
        cluster: str,
        backend: str,
        recent: Recent,
        clock: Callable[[], float],
        patience: Patience = Patience(),  # noqa: B008  # frozen
    ) -> None:
        self._caller = caller
        self._cluster = cluster
        self._backend = backend
        self._recent = recent
        self._clock = clock
        self._late_pauses_s = patience.late_pauses_s
        self._zones: dict[str, str] = {}
        self._passing: set[str] = set()
        self._absent: dict[str, float] = {}
        self._asked: dict[str, asyncio.Future[list[Found]]] = {}
        self._batches: set[asyncio.Task[None]] = set()

    def note(self, description: Description, *, is_look: bool = True) -> Volume:
        """Read a description of a volume of the cluster, and remember that it is one and where it is.

        Args:
            description: EC2's.
            is_look: Whether it tells how the volume is now; what EC2 answers to a creation says how it was
                when it began.
        """
        volume = read_volume(description, self._backend)
        self._zones.pop(volume.volume_id, None)  # what was seen last stands last
        self._zones[volume.volume_id] = str(description.get("AvailabilityZone", ""))
        if is_look and _is_passing(description):
            self._passing.add(volume.volume_id)
        else:
            self._passing.discard(volume.volume_id)
        self._absent.pop(volume.name, None)
        if len(self._zones) > _MOST_KNOWN:
            self.forget(next(iter(self._zones)))
        return volume

    def forget(self, volume_id: str) -> None:
        """Forget that a volume is one of the cluster's."""
        self._zones.pop(volume_id, None)
        self._passing.discard(volume_id)

    def is_known(self, volume_id: str) -> bool:
        """Tell whether the volume was seen to be one of the cluster's."""
        return volume_id in self._zones

    def zone_of(self, volume_id: str) -> str:
        """Return the zone of a volume that was seen, else ""."""
        return self._zones.get(volume_id, "")

    def is_passing(self, volume_id: str) -> bool:
        """Tell whether the last look showed a volume on its way to be available: attaching has to wait."""
        return volume_id in self._passing

    def forget_absence(self, name: str) -> None:
        """Note that a volume of this name may exist from now on."""
        self._absent.pop(name, None)

    def was_absent(self, name: str) -> bool:
        """Tell whether a look-up of the last seconds found no volume of this name."""
        seen_at = self._absent.get(name)
        return seen_at is not None and self._clock() - seen_at < _ABSENT_FOR_S

    async def by_name(self, name: str) -> list[Found]:
        """Return all volumes of a name, asked from now on.

        Raises:
            BackendUnavailable: If EC2 cannot say.
        """
        if name not in self._asked:
            self._asked[name] = asyncio.get_running_loop().create_future()
            if len(self._asked) == 1:
                self._begin(self._ask_together())
        return await asyncio.shield(self._asked[name])

    async def all(self) -> list[Volume]:
        """Return all volumes.

        Raises:
            BackendUnavailable: If EC2 cannot say.
        """
        known, passing = set(self._zones), set(self._passing)
        found = self._found(await self._describe(_filter("status", _EXISTING)))
        missing = self._missing(found)
        if missing:
            shown = await self._described(missing, (0.0,))
            found += self._found(shown.values())
            # What EC2 does not know yet makes no list unavailable: it is listed as it was made.
            found += [Found(each, is_creating=False) for each in missing if each.volume_id not in shown]
        # What is gone need not be remembered for ever; what came meanwhile is not gone.
        exist = {each.volume.volume_id for each in found}
        for volume_id in known - exist:
            self._zones.pop(volume_id, None)
        self._passing -= passing - exist
        return [each.volume for each in found]

    async def by_ids(self, volume_ids: Iterable[str]) -> dict[str, Description]:
        """Return EC2's own descriptions, in whatever state; those that it does not show are missing."""
        wanted = sorted(set(volume_ids))
        found: dict[str, Description] = {}
        for at in range(0, len(wanted), _MOST_VALUES):
            shown = await self._describe(_filter("volume-id", wanted[at : at + _MOST_VALUES]))
            for each in filter(self._is_ours, shown):
                self.note(each)
                found[str(each["VolumeId"])] = each
        return found

    async def by_id(self, volume_id: str) -> Description | None:
        """Return EC2's own description of a volume, or None if it shows none in this cluster."""
        return (await self.by_ids([volume_id])).get(volume_id)

    def _begin(self, batch: Any) -> None:  # noqa: ANN401  # a coroutine
        task = asyncio.ensure_future(batch)
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)

    async def _ask_together(self) -> None:
        await asyncio.sleep(_TOGETHER_S)
        asked, self._asked = self._asked, {}
        names = list(asked)
        for at in range(0, len(names), _MOST_VALUES):
            part = names[at : at + _MOST_VALUES]
            self._begin(self._ask({name: asked[name] for name in part}))

    async def _ask(self, asked: Mapping[str, asyncio.Future[list[Found]]]) -> None:
        try:
            shown = await self._describe(_filter("status", _EXISTING), _filter(f"tag:{NAME}", list(asked)))
            found = self._found(shown)
            missing = [each for each in self._missing(found) if each.name in asked]
            late = {each.name for each in missing}
            self._answer({name: answer for name, answer in asked.items() if name not in late}, found)
            if missing:
                await self._ask_by_id(missing, found, {name: asked[name] for name in late})
        except Exception as error:  # it is the answer to all who wait
            for answer in asked.values():
                _tell(answer, error)

    async def _ask_by_id(
        self,
        missing: Sequence[Volume],
        found: Sequence[Found],
        asked: Mapping[str, asyncio.Future[list[Found]]],
    ) -> None:
        """Ask for new volumes that a look-up by name does not show: it is late, or others deleted them."""
        shown = await self._described(missing, self._late_pauses_s)
        for volume in missing:
            if volume.volume_id not in shown:
                unknown = f"EC2 does not show {volume.volume_id}, which was created less than a minute ago"
                _tell(asked[volume.name], BackendUnavailable(unknown, "Try again in a minute"))
        self._answer(asked, [*found, *self._found(shown.values())])

    async def _described(
        self, volumes: Sequence[Volume], pauses_s: Sequence[float]
    ) -> dict[str, Description]:
        """Return what EC2 shows of volumes, asked for again after each pause until it shows all of them."""
        found: dict[str, Description] = {}
        for pause_s in pauses_s:
            await asyncio.sleep(pause_s)
            found |= await self.by_ids({each.volume_id for each in volumes} - found.keys())
            if len(found) == len(volumes):
                break
        for volume_id, description in found.items():
            if description.get("State") in GONE:
                self._recent.deleted(volume_id)
                self.forget(volume_id)
        return found

    def _missing(self, shown: Sequence[Found]) -> list[Volume]:
        """Return the new volumes that a look-up does not show."""
        ids = {each.volume.volume_id for each in shown}
        return [each for each in self._recent.expected() if each.volume_id not in ids]

    def _answer(self, asked: Mapping[str, asyncio.Future[list[Found]]], found: Sequence[Found]) -> None:
        now = self._clock()
        self._absent = {name: at for name, at in self._absent.items() if now - at < _ABSENT_FOR_S}
        for name, answer in asked.items():
            named = [each for each in found if each.volume.name == name]
            if not named:
                self._absent[name] = now
            if not answer.done():
                answer.set_result(named)

    def _found(self, shown: Collection[Description]) -> list[Found]:
        states = {str(each["VolumeId"]): each.get("State") for each in shown}
        volumes = self._recent.seen(self.note(each) for each in shown if self._is_ours(each))
        return [Found(volume, states[volume.volume_id] == "creating") for volume in volumes]

    def _is_ours(self, description: Description) -> bool:
        """Look at the tag again: a filter takes `*` and `?` specially, and some backends ignore filters."""
        return as_mapping(description).get(CLUSTER) == self._cluster

    async def _describe(self, *filters: Mapping[str, Any]) -> list[Description]:
        """Read all pages; any page may be empty."""
        found: list[Description] = []
        parameters: dict[str, Any] = {
            "Filters": [_filter(f"tag:{CLUSTER}", [self._cluster]), *filters],
            "MaxResults": _PAGE,
        }
        while True:
            answer = await self._caller.call("DescribeVolumes", **parameters)
            found += answer.get("Volumes", ())
            if not answer.get("NextToken"):
                return found
            parameters["NextToken"] = answer["NextToken"]


def _filter(name: str, values: Sequence[str]) -> dict[str, Any]:
    return {"Name": name, "Values": [re.sub(r"([*?\\])", r"\\\1", value) for value in values]}


def _is_passing(description: Description) -> bool:
    states = {each.get("State") for each in description.get("Attachments", ())}
    return description.get("State") == "creating" or not states.isdisjoint({"detaching", "busy"})


def _tell(answer: asyncio.Future[list[Found]], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # whoever asked may have gone
