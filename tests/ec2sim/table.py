"""All volumes: the truth, and what DescribeVolumes shows of it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tests.ec2sim import refusals
from tests.ec2sim.facts import VolumeFact
from tests.ec2sim.past import Past
from tests.ec2sim.plan import FaultPlan


@dataclass(frozen=True, slots=True)
class Look:
    """What one DescribeVolumes sees of one volume.

    Attributes:
        volume_id: The volume.
        shown: How it is shown, or None if it is not known to exist.
        is_passing: Whether what is shown passes the filters.
        is_match: Whether that or the truth does.
        is_past: Whether what is shown is no longer true.
    """

    volume_id: str
    shown: VolumeFact | None
    is_passing: bool
    is_match: bool
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
        if not volume_id.startswith("vol-"):
            raise refusals.BAD_ID(volume_id)
        with self.lock:
            fact = self._volumes.get(volume_id)
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
                before = self._volumes.get(fact.volume_id)
                self._past.note(fact.volume_id, before, self._plan.stale_looks, self._plan.seed)
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
        with self.lock:
            volume_ids = wanted or dict.fromkeys([*self._volumes, *self._past.changed()])
            looks = [self._look(each, passes) for each in volume_ids]
            for look in looks:
                if look.is_past and (wanted or look.is_match):
                    self._past.looked(look.volume_id)
        return [look for look in looks if wanted or look.is_match]

    def _look(self, volume_id: str, passes: Callable[[VolumeFact], bool]) -> Look:
        truth = self._volumes.get(volume_id)
        is_past = self._past.knows(volume_id)
        shown = self._past.shown(volume_id) if is_past else truth
        is_passing = shown is not None and passes(shown)
        is_match = is_passing or (is_past and truth is not None and passes(truth))
        return Look(volume_id, shown, is_passing, is_match, is_past)
