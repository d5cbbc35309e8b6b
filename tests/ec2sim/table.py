"""All volumes: the truth, and what DescribeVolumes shows of it."""

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Generic, NamedTuple, TypeVar

from tests.ec2sim import answers, refusals
from tests.ec2sim.clockwork import Clockwork
from tests.ec2sim.facts import VolumeFact
from tests.ec2sim.filters import page, volume_filter
from tests.ec2sim.plan import FaultPlan
from tests.ec2sim.service import Request

_T = TypeVar("_T")


class Past(Generic[_T]):
    """What is shown of volumes, or of instances, instead of the truth: EC2 hears late of changes.

    https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
    """

    def __init__(self) -> None:
        self._before: dict[str, _T | None] = {}
        self._looks: dict[str, int] = {}
        self._changes = 0

    def note(self, thing_id: str, before: _T | None, plan: FaultPlan) -> None:
        """Take note of how a thing was before a change, or that it was not."""
        self._changes += 1
        self._before.pop(thing_id, None)
        chosen = random.Random(f"{plan.seed}:{self._changes}").randint(*plan.stale_looks)  # noqa: S311 - foreseeable
        if chosen:
            self._before[thing_id], self._looks[thing_id] = before, chosen

    def shown(self) -> dict[str, _T | None]:
        """Return by their ids how things are shown that are not shown as they are."""
        return dict(self._before)

    def forget(self) -> None:
        """Show nothing but the truth, until the next change."""
        self._before.clear()

    def looked(self, thing_id: str) -> None:
        """Take note that a look has been answered with the past."""
        self._looks[thing_id] -= 1
        if not self._looks[thing_id]:
            del self._before[thing_id]


class Look(NamedTuple):
    """What one DescribeVolumes sees of one volume; None: that it does not exist."""

    volume_id: str
    shown: VolumeFact | None
    is_past: bool


class VolumeTable:
    """The volumes of a cloud.

    Attributes:
        lock: Held while something is decided by what volumes are; never while the hypervisor is at work.
    """

    def __init__(self, plan: FaultPlan) -> None:
        self.lock = threading.RLock()
        self._plan = plan
        self._volumes: dict[str, VolumeFact] = {}
        self._past: Past[VolumeFact] = Past()
        self._hands: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)

    def hand(self, volume_id: str) -> threading.RLock:
        """Return the lock under which the hypervisor works on a volume; taken before `lock`, never after."""
        with self.lock:
            return self._hands[volume_id]

    def get(self, volume_id: str) -> VolumeFact:
        """Return a volume.

        Raises:
            Refused: If there is none, as EC2 says it.
        """
        check_id(volume_id)
        fact = self.find(volume_id)
        if fact is None:
            raise refusals.NO_VOLUME(volume_id)
        return fact

    def find(self, volume_id: str) -> VolumeFact | None:
        """Return a volume, or None."""
        with self.lock:
            return self._volumes.get(volume_id)

    def all(self) -> list[VolumeFact]:
        """Return all volumes, the oldest first."""
        with self.lock:
            return list(self._volumes.values())

    def put(self, fact: VolumeFact, action: str = "") -> None:
        """Store a volume; with an action, DescribeVolumes may hear of it late."""
        with self.lock:
            if action in self._plan.stale_after:
                self._past.note(fact.volume_id, self._volumes.get(fact.volume_id), self._plan)
            self._volumes[fact.volume_id] = fact

    def show_present(self) -> None:
        """Let DescribeVolumes hear of all changes so far."""
        with self.lock:
            self._past.forget()

    def remove(self, volume_id: str) -> None:
        """Forget a volume."""
        with self.lock:
            del self._volumes[volume_id]

    def attached_to(self, instance_id: str) -> list[VolumeFact]:
        """Return the volumes that are attached to an instance, or are becoming so, or no longer."""
        return [each for each in self.all() if each.attachment and each.attachment.instance_id == instance_id]

    def look(self, wanted: Collection[str], passes: Callable[[VolumeFact], bool]) -> list[Look]:
        """Look at some volumes, or at all that pass a filter by what is shown or by what is true."""
        looks = []
        with self.lock:
            past = self._past.shown()
            for volume_id in wanted or {**self._volumes, **past}:
                truth = self._volumes.get(volume_id)
                shown = past.get(volume_id, truth)
                if wanted or any(fact is not None and passes(fact) for fact in (shown, truth)):
                    looks.append(Look(volume_id, shown, volume_id in past))
                    if volume_id in past:
                        self._past.looked(volume_id)
        return looks


def describe_volumes(table: VolumeTable, clockwork: Clockwork, request: Request) -> bytes:
    """Answer DescribeVolumes, and count looks."""
    wanted, most = request.listed("VolumeId"), request.number("MaxResults")
    if wanted and most is not None:
        raise refusals.IDS_AND_PAGES()
    for each in wanted:
        check_id(each)
    passes = volume_filter(request.filters())
    looks = table.look(wanted, passes)
    unknown = [look.volume_id for look in looks if look.shown is None] if wanted else []
    if unknown:
        words = refusals.NO_VOLUMES if len(unknown) > 1 else refusals.NO_VOLUME
        raise words(", ".join(unknown))
    shown = [look.shown for look in looks if look.shown is not None and passes(look.shown)]
    shown.sort(key=lambda fact: fact.volume_id)
    chosen, token = page(shown, lambda fact: fact.volume_id, most, request.get("NextToken"))
    content = {"volumeSet": [answers.volume(each) for each in chosen], "nextToken": token or None}
    body = answers.answer(request.action, content)
    for look in looks:
        if not look.is_past:
            clockwork.looked(look.volume_id)  # after this answer, so that it shows the state still
    return body


def check_id(volume_id: str) -> None:
    """Refuse what is not the id of a volume."""
    if not volume_id.startswith("vol-"):
        raise refusals.BAD_ID(volume_id)
