"""CreateVolume and DeleteVolume, CreateTags and DeleteTags.

A ClientToken, https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html: the same token with
the same parameters is answered with the same volume; other parameters, Region and Availability Zone aside,
are an error. So a token is taken to count within one zone: the same one in another makes another volume. Once
its volume has been deleted, or was never made although the call was answered, a token stays burnt:
https://github.com/kubernetes-sigs/aws-ebs-csi-driver/pull/2075
"""

import secrets
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tests.ec2sim import answers, refusals
from tests.ec2sim.clockwork import Clockwork
from tests.ec2sim.facts import NewVolume, VolumeFact, now
from tests.ec2sim.hypervisor import Hypervisor
from tests.ec2sim.plan import FaultPlan
from tests.ec2sim.service import Request
from tests.ec2sim.table import VolumeTable

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions
_MOST_TAGS: Final = 50
_LONGEST_KEY: Final = 128
_LONGEST_VALUE: Final = 256
_LONGEST_TOKEN: Final = 64
_DEFAULT_TYPE: Final = "gp2"
_DEFAULT_IOPS: Final = 3_000
_DEFAULT_THROUGHPUT: Final = 125
_MOST_THROUGHPUT_PER_IOPS: Final = 0.25


@dataclass(frozen=True, slots=True)
class _Type:
    """What CreateVolume takes, by volume type.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html and
    https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html

    Attributes:
        sizes_gib: The smallest and the largest size.
        iops: The fewest and the most, or None if they cannot be asked for.
        most_iops_per_gib: Their most for each GiB.
        throughput: MiB/s, the least and the most, or None if it cannot be asked for.
        needs_iops: Whether they have to be asked for.
    """

    sizes_gib: tuple[int, int]
    iops: tuple[int, int] | None = None
    most_iops_per_gib: int = 0
    throughput: tuple[int, int] | None = None
    needs_iops: bool = False


_TYPES: Final[Mapping[str, _Type]] = {
    "gp2": _Type((1, 16_384)),
    "gp3": _Type((1, 65_536), (3_000, 80_000), 500, (125, 2_000)),
    "io1": _Type((4, 16_384), (100, 64_000), 50, needs_iops=True),
    "io2": _Type((4, 65_536), (100, 256_000), 1_000, needs_iops=True),
    "st1": _Type((125, 16_384)),
    "sc1": _Type((125, 16_384)),
    "standard": _Type((1, 1_024)),
}


class Creation:
    """Makes and deletes volumes."""

    def __init__(
        self, plan: FaultPlan, table: VolumeTable, clockwork: Clockwork, hypervisor: Hypervisor, region: str
    ) -> None:
        self._plan = plan
        self._table = table
        self._clockwork = clockwork
        self._hypervisor = hypervisor
        self._zones = [f"{region}{letter}" for letter in "abc"]
        self._default_key = f"arn:aws:kms:{region}:123456789012:key/{uuid.uuid4()}"
        self._tokens: dict[tuple[str, str], tuple[Mapping[str, str], str]] = {}
        self._deleted: dict[str, VolumeFact] = {}
        self._one_at_a_time = threading.Lock()  # two calls with one token make one volume

    def create(self, request: Request) -> bytes:
        """Make a volume, or answer with the one that the token stands for."""
        token = request.get("ClientToken")
        use = request.get("AvailabilityZone"), token
        aside = ("AvailabilityZone", "ClientToken")
        compared = {name: value for name, value in request.parameters.items() if name not in aside}
        if len(token) > _LONGEST_TOKEN:
            raise refusals.LONG_TOKEN()
        with self._one_at_a_time:
            if token and use in self._tokens:
                parameters, volume_id = self._tokens[use]
                if parameters != compared:
                    raise refusals.OTHER_PARAMETERS()
                return answers.answer(request.action, answers.volume(self._known(volume_id)))
            fact = self._asked(request)
            self._tokens[use] = compared, fact.volume_id
            self._hypervisor.provision(fact.volume_id, fact.size_bytes)
            self._table.put(fact, request.action)
        self._clockwork.begin(fact.volume_id, self._plan.creating, lambda: self._end_creation(fact.volume_id))
        return answers.answer(request.action, answers.volume(fact))

    def add(self, volumes: Iterable[NewVolume]) -> list[str]:
        """Make many volumes at once, past the API."""
        facts = [
            replace(
                _new_volume(each.volume_type, each.size_gib, each.zone or self._zones[0]),
                status="available",
                tags=dict(each.tags),
            )
            for each in volumes
        ]
        for fact in facts:
            self._hypervisor.provision(fact.volume_id, fact.size_bytes)
            self._table.put(fact)
        return [fact.volume_id for fact in facts]

    def forget_tokens(self) -> None:
        """Let tokens that were used count as new, as they do after a time."""
        with self._one_at_a_time:
            self._tokens.clear()

    def clear(self) -> None:
        """Delete all volumes at once, past the API; none may be attached."""
        for fact in self._table.all():
            self._clockwork.cancel(fact.volume_id)
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
        self._clockwork.begin(volume_id, self._plan.deleting, lambda: self._end_deletion(volume_id))
        return answers.answer(request.action, answers.DONE)

    def create_tags(self, request: Request) -> bytes:
        """Set tags of volumes."""
        tags = {key: value or "" for key, value in request.tags().items()}
        with self._table.lock:
            changed = [replace(fact, tags={**fact.tags, **tags}) for fact in self._tagged(request)]
            for fact in changed:
                _check_tags(fact.tags)
            for fact in changed:
                self._table.put(fact, request.action)
        return answers.answer(request.action, answers.DONE)

    def delete_tags(self, request: Request) -> bytes:
        """Take tags away; with a value given, only if it is the tag's."""
        doomed = request.tags()
        with self._table.lock:
            for fact in self._tagged(request):
                left = {
                    key: value
                    for key, value in fact.tags.items()
                    if doomed and (key not in doomed or doomed[key] not in (None, value))
                }
                self._table.put(replace(fact, tags=left), request.action)
        return answers.answer(request.action, answers.DONE)

    def _tagged(self, request: Request) -> list[VolumeFact]:
        wanted = request.listed("ResourceId")
        for each in wanted:
            if not each.startswith("vol-"):
                raise refusals.no_resource(each)
        return [self._table.get(each) for each in wanted]

    def _known(self, volume_id: str) -> VolumeFact:
        fact = self._table.find(volume_id)
        if fact is not None and fact.status != "deleting":
            return fact
        if self._plan.burnt_tokens == "refused":
            raise refusals.TOKEN_OF_DELETED()
        return fact or self._deleted[volume_id]

    def _asked(self, request: Request) -> VolumeFact:
        zone = request.get("AvailabilityZone")
        _check_tags(request.new_tags("volume"))
        if zone not in self._zones:
            raise refusals.NO_ZONE(zone)
        fact = _asked_volume(request, zone, self._default_key)
        if len(self._table.all()) >= self._plan.volume_limit:
            raise refusals.TOO_MANY_VOLUMES(self._plan.volume_limit)
        return fact

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
        with self._table.hand(volume_id):
            self._deleted[volume_id] = replace(self._table.get(volume_id), status="deleting")
            self._table.remove(volume_id)
            self._hypervisor.discard(volume_id)


def _check_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > _MOST_TAGS:
        raise refusals.TOO_MANY_TAGS(_MOST_TAGS)
    for key, value in tags.items():
        if not 0 < len(key) <= _LONGEST_KEY or key.lower().startswith("aws:"):
            raise refusals.BAD_TAG_KEY(key)
        if len(value) > _LONGEST_VALUE:
            raise refusals.LONG_TAG_VALUE(_LONGEST_VALUE)


def _new_volume(name: str, size_gib: int, zone: str) -> VolumeFact:
    """A volume with what its type has by default."""
    iops, throughput = (_DEFAULT_IOPS, _DEFAULT_THROUGHPUT) if name == "gp3" else (0, 0)
    volume_id = f"vol-{secrets.token_hex(9)[:17]}"
    return VolumeFact(volume_id, "creating", size_gib, zone, name, now(), iops=iops, throughput=throughput)


def _asked_volume(request: Request, zone: str, default_key: str) -> VolumeFact:
    name, size_gib = request.get("VolumeType") or _DEFAULT_TYPE, request.number("Size")
    iops, throughput = request.number("Iops"), request.number("Throughput")
    _check(name, size_gib, iops, throughput)
    key, is_encrypted = request.get("KmsKeyId"), request.is_set("Encrypted")
    if key and not is_encrypted:
        raise refusals.NEEDS("KmsKeyId", "Encrypted")
    if request.get("SnapshotId"):  # no action makes any
        raise refusals.NO_SNAPSHOT()
    if size_gib is None:
        raise refusals.MISSING("size/snapshot")
    made = _new_volume(name, size_gib, zone)
    return replace(
        made,
        tags=request.new_tags("volume"),
        iops=iops or made.iops,
        throughput=throughput or made.throughput,
        encrypted=is_encrypted,
        kms_key_id=key or (default_key if is_encrypted else ""),
    )


def _check(name: str, size_gib: int | None, iops: int | None, throughput: int | None) -> None:
    kind = _TYPES.get(name)
    if kind is None:
        raise refusals.BAD_TYPE(name)
    _check_range(size_gib, kind.sizes_gib, "size", name)
    _check_range(iops, kind.iops, "iops", name)
    _check_range(throughput, kind.throughput, "throughput", name)
    if kind.needs_iops and not iops:
        raise refusals.NEEDS("VolumeType", "Iops")
    if iops and size_gib and iops > max(_DEFAULT_IOPS, kind.most_iops_per_gib * size_gib):
        most = f"{kind.most_iops_per_gib} iops per GiB"
        raise refusals.TOO_MUCH("Iops to volume size", iops / size_gib, most)
    if throughput and throughput > _MOST_THROUGHPUT_PER_IOPS * (iops or _DEFAULT_IOPS):
        most, ratio = f"{_MOST_THROUGHPUT_PER_IOPS} MiB/s per iops", throughput / (iops or _DEFAULT_IOPS)
        raise refusals.TOO_MUCH("Throughput (MiB/s) to iops", ratio, most)


def _check_range(value: int | None, bounds: tuple[int, int] | None, what: str, name: str) -> None:
    if value is None:
        return
    if bounds is None:
        raise refusals.NOT_OF_TYPE(what, name)
    least, most = bounds
    if value < least:
        raise refusals.TOO_SMALL(what, value, name, least)
    if value > most:
        raise refusals.TOO_LARGE(what, value, name, most)
