"""What CreateVolume takes, by volume type, and what it makes of that.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html and
https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from tests.ec2sim import refusals
from tests.ec2sim.facts import VolumeFact, now
from tests.ec2sim.service import Request

_DEFAULT_TYPE: Final = "gp2"
_DEFAULT_IOPS: Final = 3_000
_DEFAULT_THROUGHPUT: Final = 125
_MOST_THROUGHPUT_PER_IOPS: Final = 0.25


@dataclass(frozen=True, slots=True)
class _Type:
    """The bounds of a type.

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


def new_volume(name: str, size_gib: int, zone: str) -> VolumeFact:
    """Return a volume with what its type has by default."""
    iops, throughput = (_DEFAULT_IOPS, _DEFAULT_THROUGHPUT) if name == "gp3" else (0, 0)
    volume_id = f"vol-{secrets.token_hex(9)[:17]}"
    return VolumeFact(volume_id, "creating", size_gib, zone, name, now(), iops=iops, throughput=throughput)


def asked_volume(request: Request, zone: str, default_key: str) -> VolumeFact:
    """Return the volume that a CreateVolume asks for.

    Raises:
        Refused: If it asks for what there is not.
    """
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
    made = new_volume(name, size_gib, zone)
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
