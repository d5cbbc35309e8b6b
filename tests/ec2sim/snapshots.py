"""CreateSnapshot, DescribeSnapshots and ModifyVolume, which are complete at once.

They need a hypervisor that can copy volumes and let them grow; others refuse them.
"""

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.ec2sim import answers, refusals
from tests.ec2sim.facts import now
from tests.ec2sim.hypervisor import CopiesVolumes, Hypervisor
from tests.ec2sim.service import Request
from tests.ec2sim.table import VolumeTable
from volplug.sizes import GIB


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A copy of a volume, with tags of its own."""

    snapshot_id: str
    volume_id: str
    size_gib: int
    tags: Mapping[str, str]
    start_time: str

    def as_answer(self) -> dict[str, Any]:
        return {
            "snapshotId": self.snapshot_id,
            "volumeId": self.volume_id,
            "volumeSize": self.size_gib,
            "status": "completed",
            "startTime": self.start_time,
            "progress": "100%",
            "tagSet": [{"key": key, "value": value} for key, value in self.tags.items()],
        }


class Snapshots:
    """The snapshots of a cloud."""

    def __init__(self, table: VolumeTable, hypervisor: Hypervisor) -> None:
        self._table = table
        self._hypervisor = hypervisor
        self._all: dict[str, _Snapshot] = {}
        self._lock = threading.Lock()

    def create(self, request: Request) -> bytes:
        """Copy a volume as it is now."""
        copies = _copies(self._hypervisor, request)
        fact = self._table.get(request.required("VolumeId"))
        snapshot_id = f"snap-{secrets.token_hex(9)[:17]}"
        tags = request.new_tags("snapshot")
        snapshot = _Snapshot(snapshot_id, fact.volume_id, fact.size_gib, tags, now())
        copies.copy(fact.volume_id, snapshot_id)
        with self._lock:
            self._all[snapshot_id] = snapshot
        return answers.answer(request.action, snapshot.as_answer())

    def describe(self, request: Request) -> bytes:
        """Describe some snapshots, or all."""
        wanted = request.listed("SnapshotId") or list(self._all)
        shown = [self._get(each).as_answer() for each in wanted]
        return answers.answer(request.action, {"snapshotSet": shown})

    def size_gib(self, snapshot_id: str) -> int:
        """Return the size of the volume that was copied."""
        return self._get(snapshot_id).size_gib

    def restore(self, snapshot_id: str, volume_id: str) -> None:
        """Copy a snapshot to a new volume."""
        if isinstance(self._hypervisor, CopiesVolumes):
            self._hypervisor.copy(self._get(snapshot_id).snapshot_id, volume_id)

    def _get(self, snapshot_id: str) -> _Snapshot:
        with self._lock:
            if snapshot_id not in self._all:
                raise refusals.NO_SNAPSHOT(snapshot_id)
            return self._all[snapshot_id]


def modify_volume(table: VolumeTable, hypervisor: Hypervisor, request: Request) -> bytes:
    """Let a volume grow, also while it is attached."""
    copies = _copies(hypervisor, request)
    fact, size_gib = table.get(request.required("VolumeId")), request.number("Size")
    if size_gib is None or size_gib < fact.size_gib:
        raise refusals.BAD_VALUE("size", size_gib, "New size cannot be smaller than existing size")
    with table.device_lock(fact.volume_id):
        copies.grow(fact.volume_id, size_gib * GIB)
        with table.lock:
            table.put(replace(table.get(fact.volume_id), size_gib=size_gib), request.action)
    change = {
        "volumeId": fact.volume_id,
        "modificationState": "optimizing",
        "originalSize": fact.size_gib,
        "targetSize": size_gib,
    }
    return answers.answer(request.action, {"volumeModification": change})


def _copies(hypervisor: Hypervisor, request: Request) -> CopiesVolumes:
    if not isinstance(hypervisor, CopiesVolumes):
        raise refusals.NO_ACTION(request.action)
    return hypervisor
