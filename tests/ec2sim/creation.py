"""CreateVolume, DeleteVolume and CreateTags. A volume may be made of a snapshot.

A ClientToken, https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html: the same token with
the same parameters is answered with the same volume; other parameters, Region and Availability Zone aside,
are an error. So a token is assumed to be valid within one zone: the same one in another makes another volume.
After its volume was deleted, or was never made although the call was answered, a token is refused:
https://github.com/kubernetes-sigs/aws-ebs-csi-driver/pull/2075

Types, sizes, performance and keys are hardly checked: the driver refuses wrong ones before it calls.
"""

import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from tests.ec2sim import answers, refusals
from tests.ec2sim.facts import ZONES, NewVolume, VolumeFact, now
from tests.ec2sim.hypervisor import Hypervisor
from tests.ec2sim.plan import FaultPlan
from tests.ec2sim.scheduler import Scheduler
from tests.ec2sim.service import Request
from tests.ec2sim.snapshots import Snapshots
from tests.ec2sim.table import VolumeTable
from volplug.sizes import GIB

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions
_MOST_TAGS: Final = 50
_LONGEST_KEY: Final = 128
_LONGEST_VALUE: Final = 256
_LONGEST_TOKEN: Final = 64
_DEFAULT_TYPE: Final = "gp2"
_TYPES_WITH_IOPS: Final = ("io1", "io2")


class Creation:
    """Makes and deletes volumes."""

    def __init__(
        self,
        plan: FaultPlan,
        table: VolumeTable,
        scheduler: Scheduler,
        hypervisor: Hypervisor,
        snapshots: Snapshots,
    ) -> None:
        self._plan = plan
        self._snapshots = snapshots
        self._table = table
        self._scheduler = scheduler
        self._hypervisor = hypervisor
        self._tokens: dict[tuple[str, str], tuple[Mapping[str, str], str]] = {}
        self._one_at_a_time = threading.Lock()  # two calls with one token make one volume

    def create(self, request: Request) -> bytes:
        """Make a volume, or answer with the volume of the token."""
        token = request.get("ClientToken")
        use = request.get("AvailabilityZone"), token
        if len(token) > _LONGEST_TOKEN:
            raise refusals.LONG_TOKEN()
        with self._one_at_a_time:
            if token and use in self._tokens:
                parameters, volume_id = self._tokens[use]
                if parameters != request.parameters:
                    raise refusals.OTHER_PARAMETERS()
                known = self._table.find(volume_id)
                if known is None or known.status == "deleting":
                    raise refusals.TOKEN_OF_DELETED()
                return answers.answer(request.action, answers.volume(known))
            fact = self._new_volume(request)
            self._tokens[use] = request.parameters, fact.volume_id
            self._put(fact, request.action, request.get("SnapshotId"))
        self._scheduler.begin(fact.volume_id, self._plan.creating, lambda: self._end_creation(fact.volume_id))
        return answers.answer(request.action, answers.volume(fact))

    def add(self, volumes: Iterable[NewVolume]) -> list[str]:
        """Make many volumes at once, without the API."""
        facts = [
            VolumeFact(_new_id(), "available", each.size_gib, each.zone, each.volume_type, now(), each.tags)
            for each in volumes
        ]
        for fact in facts:
            self._put(fact)
        return [fact.volume_id for fact in facts]

    def forget_tokens(self) -> None:
        """Let used tokens count as new, as EC2 does after some time."""
        with self._one_at_a_time:
            self._tokens.clear()

    def clear(self) -> None:
        """Delete all volumes at once, without the API; none may be attached."""
        for fact in self._table.all():
            self._scheduler.cancel(fact.volume_id)
            self._end_deletion(fact.volume_id)

    def delete(self, request: Request) -> bytes:
        """Delete a volume that is not attached."""
        volume_id = request.required("VolumeId")
        with self._table.lock:
            fact = self._table.get(volume_id)
            if fact.attachment is not None:
                raise refusals.ATTACHED_STILL(volume_id, fact.attachment.instance_id)
            if fact.status == "deleting":
                raise refusals.NO_VOLUME(volume_id)
            if fact.status == "creating":
                raise refusals.IN_STATE(volume_id, fact.status)
            self._table.put(replace(fact, status="deleting"), request.action)
        self._scheduler.begin(volume_id, self._plan.deleting, lambda: self._end_deletion(volume_id))
        return answers.answer(request.action, answers.DONE)

    def create_tags(self, request: Request) -> bytes:
        """Set tags of volumes; those of instances are accepted and not kept."""
        tags = request.tags()
        with self._table.lock:
            resources = [each for each in request.listed("ResourceId") if not each.startswith("i-")]
            facts = [self._table.get(each) for each in resources]
            changed = [replace(fact, tags={**fact.tags, **tags}) for fact in facts]
            for fact in changed:
                _check_tags(fact.tags)
            for fact in changed:
                self._table.put(fact, request.action)
        return answers.answer(request.action, answers.DONE)

    def _new_volume(self, request: Request) -> VolumeFact:
        zone = request.get("AvailabilityZone")
        tags = request.new_tags("volume")
        _check_tags(tags)
        if zone not in ZONES:
            raise refusals.NO_ZONE(zone)
        name, size_gib = request.get("VolumeType") or _DEFAULT_TYPE, request.number("Size")
        if snapshot_id := request.get("SnapshotId"):
            of_snapshot = self._snapshots.size_gib(snapshot_id)
            size_gib = size_gib or of_snapshot
        if size_gib is None:
            raise refusals.MISSING("size/snapshot")
        if name in _TYPES_WITH_IOPS and request.number("Iops") is None:
            raise refusals.NO_IOPS(name)
        fact = VolumeFact(_new_id(), "creating", size_gib, zone, name, now(), tags)
        return replace(fact, encrypted=request.is_set("Encrypted"), kms_key_id=request.get("KmsKeyId"))

    def _put(self, fact: VolumeFact, action: str = "", snapshot_id: str = "") -> None:
        self._hypervisor.provision(fact.volume_id, fact.size_gib * GIB)
        if snapshot_id:
            self._snapshots.restore(snapshot_id, fact.volume_id)
        self._table.put(fact, action)

    def _end_creation(self, volume_id: str) -> None:
        ends = self._plan.creation_ends
        with self._table.lock:
            fact = self._table.get(volume_id)
            if ends == "available" and fact.kms_key_id in self._plan.bad_kms_keys:
                ends = "error"
            if ends != "gone":
                self._table.put(replace(fact, status=ends))
                return
        self._end_deletion(volume_id)

    def _end_deletion(self, volume_id: str) -> None:
        with self._table.device_lock(volume_id):
            self._table.remove(volume_id)
            self._hypervisor.discard(volume_id)


def _new_id() -> str:
    return f"vol-{secrets.token_hex(9)[:17]}"


def _check_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > _MOST_TAGS:
        raise refusals.TOO_MANY_TAGS(_MOST_TAGS)
    for key, value in tags.items():
        if not 0 < len(key) <= _LONGEST_KEY or key.lower().startswith("aws:"):
            raise refusals.BAD_TAG_KEY(key)
        if len(value) > _LONGEST_VALUE:
            raise refusals.LONG_TAG_VALUE(_LONGEST_VALUE)
