"""All volumes as they are, and as DescribeVolumes shows them."""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import NamedTuple

from tests.ec2sim import answers, refusals
from tests.ec2sim.facts import VolumeFact
from tests.ec2sim.filters import page, volume_filter
from tests.ec2sim.plan import FaultPlan
from tests.ec2sim.scheduler import Scheduler
from tests.ec2sim.service import Request
from tests.ec2sim.stale_reads import StaleReads


class Read(NamedTuple):
    """What one DescribeVolumes reads of one volume; None: that it does not exist."""

    volume_id: str
    shown: VolumeFact | None
    is_stale: bool


class VolumeTable:
    """The volumes of a cloud.

    Attributes:
        lock: Held while decisions depend on the state of volumes; never during calls of the hypervisor.
    """

    def __init__(self, plan: FaultPlan) -> None:
        self.lock = threading.RLock()
        self._volumes: dict[str, VolumeFact] = {}
        self._stale: StaleReads[VolumeFact] = StaleReads(plan)
        self._device_locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)

    def device_lock(self, volume_id: str) -> threading.RLock:
        """Return the lock under which the hypervisor works on a volume; taken before `lock`, never after."""
        with self.lock:
            return self._device_locks[volume_id]

    def get(self, volume_id: str) -> VolumeFact:
        """Return a volume, or raise the refusal that EC2 has where there is none."""
        check_id(volume_id)
        fact = self.find(volume_id)
        if fact is None:
            raise refusals.NO_VOLUME(volume_id)
        return fact

    def find(self, volume_id: str) -> VolumeFact | None:
        with self.lock:
            return self._volumes.get(volume_id)

    def all(self) -> list[VolumeFact]:
        """Return all volumes, the oldest first."""
        with self.lock:
            return list(self._volumes.values())

    def put(self, fact: VolumeFact, action: str = "") -> None:
        """Store a volume; reads may be stale after a change that an action made."""
        with self.lock:
            self._stale.change(fact.volume_id, self._volumes.get(fact.volume_id), action)
            self._volumes[fact.volume_id] = fact

    def end_stale_reads(self) -> None:
        """Let DescribeVolumes show all changes so far."""
        with self.lock:
            self._stale.clear()

    def remove(self, volume_id: str) -> None:
        with self.lock:
            del self._volumes[volume_id]

    def attached_to(self, instance_id: str) -> list[VolumeFact]:
        """Return the volumes that are attached to an instance, or attaching, detaching or busy."""
        return [each for each in self.all() if each.attachment and each.attachment.instance_id == instance_id]

    def read(self, wanted: Collection[str], matches: Callable[[VolumeFact], bool]) -> list[Read]:
        """Read some volumes, or all that match as they are shown or as they are."""
        reads = []
        with self.lock:
            stale = self._stale.states()
            for volume_id in wanted or {**self._volumes, **stale}:
                truth = self._volumes.get(volume_id)
                shown = stale.get(volume_id, truth)
                if wanted or any(fact is not None and matches(fact) for fact in (shown, truth)):
                    reads.append(Read(volume_id, shown, volume_id in stale))
                    if volume_id in stale:
                        self._stale.count_read(volume_id)
        return reads


def describe_volumes(table: VolumeTable, scheduler: Scheduler, request: Request) -> bytes:
    """Answer DescribeVolumes, and count reads."""
    wanted, most = request.listed("VolumeId"), request.number("MaxResults")
    if wanted and most is not None:
        raise refusals.IDS_AND_PAGES()
    for each in wanted:
        check_id(each)
    matches = volume_filter(request.filters())
    reads = table.read(wanted, matches)
    unknown = [read.volume_id for read in reads if read.shown is None] if wanted else []
    if unknown:
        raise refusals.NO_VOLUME(", ".join(unknown))
    shown = [read.shown for read in reads if read.shown is not None and matches(read.shown)]
    chosen, token = page(shown, most, request.get("NextToken"))
    content = {"volumeSet": [answers.volume(each) for each in chosen], "nextToken": token or None}
    body = answers.answer(request.action, content)
    for read in reads:
        if not read.is_stale:
            scheduler.count_read(read.volume_id)  # after this answer, so that it shows the state still
    return body


def check_id(volume_id: str) -> None:
    """Refuse what is not the id of a volume."""
    if not volume_id.startswith("vol-"):
        raise refusals.BAD_ID(volume_id)
