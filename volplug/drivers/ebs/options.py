"""Options of volumes on EBS: checks what users write and translates it to parameters of EC2. Pure.

Ranges: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html. They are the widest of any
region, for early and clear errors; EC2 checks again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from volplug.drivers.base import DriverInfo, Scope
from volplug.drivers.cloud.tags import check_forms, parse_user_tags
from volplug.drivers.ebs.settings import USER_TAGS, EbsSettings
from volplug.errors import InvalidOption, InvalidSize
from volplug.models import VolumeSpec
from volplug.sizes import GIB

DEFAULT_TYPE: Final = "gp3"


@dataclass(frozen=True, slots=True)
class VolumeType:
    """The limits of a volume type.

    Attributes:
        sizes_gib: Least and most.
        iops: Least and most, or None where the type has no such option.
        iops_per_gib: Most IOPS for each GiB; 0 for no such rule.
        throughput_mib: Least and most MiB/s, or None where the type has no such option.
        default_iops: Sent to EC2 where the type requires a number and the user gave none; 0 for none.
    """

    sizes_gib: tuple[int, int]
    iops: tuple[int, int] | None = None
    iops_per_gib: int = 0
    throughput_mib: tuple[int, int] | None = None
    default_iops: int = 0


TYPES: Final[Mapping[str, VolumeType]] = MappingProxyType(
    {
        "gp3": VolumeType((1, 65_536), (3_000, 80_000), 500, (125, 2_000)),
        "gp2": VolumeType((1, 16_384)),
        "io1": VolumeType((4, 16_384), (100, 64_000), 50, default_iops=3_000),
        "io2": VolumeType((4, 65_536), (100, 256_000), 1_000, default_iops=3_000),
        "sc1": VolumeType((125, 16_384)),
        "st1": VolumeType((125, 16_384)),
        "standard": VolumeType((1, 1_024)),
    }
)
# gp3 allows a quarter of a MiB/s for each of its IOPS.
_IOPS_PER_MIB: Final = 4

OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "availability-zone": "ZONE",
        "encrypted": "true|false",
        "iops": "3000",
        "kms-key-id": "KEY",
        "tags": "'team=web,stage=test'",
        "throughput": "125",
        "type": "|".join(TYPES),
    }
)
OPTION_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "az": "availability-zone",
        "encryptionkey": "kms-key-id",
        "kmskey": "kms-key-id",
        "tag": "tags",
        "volumetype": "type",
        "zone": "availability-zone",
    }
)
PROFILES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "gold": MappingProxyType({"type": "io2"}),
        "silver": MappingProxyType({"type": "gp3"}),
        "bronze": MappingProxyType({"type": "standard"}),
    }
)

INFO: Final = DriverInfo(
    driver="ebs",
    scope=Scope.GLOBAL,
    remote=True,
    allocation_unit_bytes=GIB,
    default_size_bytes=10 * GIB,
    minimum_size_bytes=GIB,
    maximum_size_bytes=65_536 * GIB,
    default_linger_s=5.0,
    options=OPTIONS,
    option_aliases=OPTION_ALIASES,
    profiles=PROFILES,
)
_FORMS: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        "availability-zone": re.compile(r"[a-z]{2,}(-[a-z0-9]+)+", re.ASCII),
        "encrypted": re.compile(r"true|false"),
        "iops": re.compile(r"[0-9]{1,9}"),
        "kms-key-id": re.compile(r"[A-Za-z0-9:/_.-]{1,512}"),
        "throughput": re.compile(r"[0-9]{1,9}"),
        "type": re.compile("|".join(TYPES)),
    }
)


def check_options(spec: VolumeSpec) -> None:
    """Check a spec's driver options and size against the limits of EBS.

    Raises:
        InvalidOption: If a value is wrong, or values contradict each other.
        InvalidSize: If the type does not have this size.
    """
    options = dict(spec.driver_options)
    check_forms(spec, _FORMS, OPTIONS)
    parse_tags(options.get("tags", ""))
    chosen = options.get("type", DEFAULT_TYPE)
    _check_size(chosen, spec)
    _check_speed(chosen, spec, options)
    if "kms-key-id" in options and options.get("encrypted") == "false":
        raise InvalidOption("option 'kms-key-id' contradicts 'encrypted=false'")


def create_parameters(spec: VolumeSpec, settings: EbsSettings, zone: str) -> dict[str, Any]:
    """Return the parameters of CreateVolume except tags and token, the same on every host of the zone.

    The volume is in the given zone unless its options or the settings name another.
    """
    options = dict(spec.driver_options)
    chosen = options.get("type", DEFAULT_TYPE)
    parameters: dict[str, Any] = {
        "AvailabilityZone": options.get("availability-zone") or settings.availability_zone or zone,
        "Size": spec.size_bytes // GIB,
        "VolumeType": chosen,
    }
    if iops := _iops(chosen, spec, options):
        parameters["Iops"] = iops
    if "throughput" in options:
        parameters["Throughput"] = int(options["throughput"])
    if options.get("encrypted") != "false":
        key = options.get("kms-key-id") or settings.kms_key_id
        if key or options.get("encrypted") == "true":
            parameters["Encrypted"] = True
        if key:
            parameters["KmsKeyId"] = key
    return dict(sorted(parameters.items()))


def user_tags(spec: VolumeSpec, settings: EbsSettings) -> dict[str, str]:
    """Return the tags configured by users: the backend's, then the volume's own."""
    return {**settings.tags, **parse_tags(dict(spec.driver_options).get("tags", ""))}


def parse_tags(text: str) -> dict[str, str]:
    """Read the option `tags`: `key=value,key=value`; a value may hold `=`.

    Raises:
        InvalidOption: If it cannot be read, or EC2 would refuse it.
    """
    return parse_user_tags(text, USER_TAGS, "tags", OPTIONS["tags"])


def _check_size(chosen: str, spec: VolumeSpec) -> None:
    least, most = TYPES[chosen].sizes_gib
    if not least * GIB <= spec.size_bytes <= most * GIB:
        size_gib = spec.size_bytes / GIB
        raise InvalidSize(
            f"size {size_gib:g}GiB is not between {least} and {most}GiB, as type {chosen} comes"
        )


def _check_speed(chosen: str, spec: VolumeSpec, options: Mapping[str, str]) -> None:
    kind = TYPES[chosen]
    _check_range("iops", chosen, kind.iops, options)
    _check_range("throughput", chosen, kind.throughput_mib, options)
    iops = _iops(chosen, spec, options)
    least = kind.iops[0] if kind.iops else 0
    allowed = max(least, kind.iops_per_gib * (spec.size_bytes // GIB))
    if kind.iops_per_gib and iops > allowed:
        raise InvalidOption(
            f"option 'iops' is {iops}, but type {chosen} gives {kind.iops_per_gib} for each GiB, "
            f"{allowed} at this size"
        )
    throughput = int(options.get("throughput", "0"))
    if throughput * _IOPS_PER_MIB > max(iops, least):
        raise InvalidOption(
            f"option 'throughput' is {throughput}, which takes {throughput * _IOPS_PER_MIB} iops, "
            f"not {max(iops, least)}"
        )


def _check_range(name: str, chosen: str, limits: tuple[int, int] | None, options: Mapping[str, str]) -> None:
    if name not in options:
        return
    if limits is None:
        able = ", ".join(kind for kind, can in TYPES.items() if getattr(can, _FIELDS[name]) is not None)
        raise InvalidOption(f"option {name!r} cannot be chosen for type {chosen}", f"It can for {able}")
    if not limits[0] <= int(options[name]) <= limits[1]:
        raise InvalidOption(
            f"option {name!r} is {options[name]}, but type {chosen} takes {limits[0]} to {limits[1]}"
        )


_FIELDS: Final = MappingProxyType({"iops": "iops", "throughput": "throughput_mib"})


def _iops(chosen: str, spec: VolumeSpec, options: Mapping[str, str]) -> int:
    """Return the IOPS to request; 0 for EC2's default."""
    if "iops" in options:
        return int(options["iops"])
    kind = TYPES[chosen]
    return min(kind.default_iops, kind.iops_per_gib * (spec.size_bytes // GIB))
