"""What users may ask for of a new dataset, and its native properties. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

from volplug.drivers.zfs.capabilities import Capabilities
from volplug.drivers.zfs.settings import ZfsSettings
from volplug.errors import InvalidOption, InvalidSize, Unsupported
from volplug.models import VolumeSpec
from volplug.sizes import MIB, parse_size

OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "atime": "on|off",
        "compression": "on|off|lz4|zstd|gzip",
        "encrypted": "true|false",
        "logbias": "latency|throughput",
        "recordsize": "128KiB",
        "reservation": "true|false",
        "sync": "standard|always|disabled",
    }
)
# Databases write pages of their own size; a larger record is read and written for each.
PROFILES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "mysql": MappingProxyType({"recordsize": "16KiB", "compression": "on", "atime": "off"}),
        "postgres": MappingProxyType({"recordsize": "8KiB", "compression": "on", "atime": "off"}),
    }
)
_CHOICES: Final = ("atime", "encrypted", "logbias", "reservation", "sync")
# ZFS itself says whether it knows the algorithm and the level.
_COMPRESSION: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_LEAST_RECORD: Final = 512
_MOST_RECORD: Final = 16 * MIB


def check_options(spec: VolumeSpec, settings: ZfsSettings) -> None:
    """Check the options of the driver.

    Raises:
        InvalidOption: If a value is wrong, or encryption is asked for without a key.
    """
    options = dict(spec.driver_options)
    for name in _CHOICES:
        choices = OPTIONS[name].split("|")
        if name in options and options[name] not in choices:
            raise InvalidOption(f"option {name!r} is {options[name][:40]!r}", f"Use {' or '.join(choices)}")
    if _COMPRESSION.fullmatch(options.get("compression", "on")) is None:
        raise InvalidOption(
            f"option 'compression' is {options['compression'][:40]!r}", f"Use {OPTIONS['compression']}"
        )
    if "recordsize" in options:
        _record_bytes(options["recordsize"])
    if options.get("encrypted") == "true" and settings.key_file is None:
        raise InvalidOption("option 'encrypted' needs a key", "Set key_file in the backend's table")


def native_properties(
    spec: VolumeSpec, capabilities: Capabilities, settings: ZfsSettings, staging: Path | None
) -> dict[str, str]:
    """Return the properties of a new dataset that ZFS itself knows.

    Args:
        spec: The volume's; checked.
        capabilities: Of this host's ZFS.
        settings: Of the backend.
        staging: Where the tools of ZFS mount it; None where the kernel does.

    Raises:
        Unsupported: If this host's ZFS cannot encrypt.
    """
    options = dict(spec.driver_options)
    found = mountpoint_properties(staging) | {"refquota": str(spec.size_bytes)}
    for name in ("atime", "compression", "logbias", "sync"):
        if name in options:
            found[name] = options[name]
    if "recordsize" in options:
        found["recordsize"] = str(_record_bytes(options["recordsize"]))
    if options.get("reservation") == "true":
        found["refreservation"] = str(spec.size_bytes)
    if options.get("encrypted") == "true":
        if not capabilities.encrypts:
            raise Unsupported("the ZFS of this host cannot encrypt", "Leave the option 'encrypted' out")
        found |= {
            "encryption": "on",
            "keyformat": settings.key_format,
            "keylocation": f"file://{settings.key_file}",
        }
    return found


def mountpoint_properties(staging: Path | None) -> dict[str, str]:
    """Return the properties that keep ZFS from mounting a dataset automatically."""
    return {"canmount": "noauto", "mountpoint": str(staging) if staging else "legacy"}


def _record_bytes(text: str) -> int:
    size = 0
    with suppress(InvalidSize):  # a bare number is bytes here, as it is for ZFS
        size = parse_size(f"{text}B" if text.isdecimal() else text)
    if not _LEAST_RECORD <= size <= _MOST_RECORD or size & (size - 1):
        raise InvalidOption(
            f"option 'recordsize' is {text[:40]!r}",
            f"Write a power of two from {_LEAST_RECORD} to {_MOST_RECORD // MIB}MiB, such as 16KiB",
        )
    return size
