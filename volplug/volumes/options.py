"""Options of `docker volume create -o`: reading, checking, comparing with an existing volume. Pure."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from volplug.descriptions import MAX_ID, MAX_MODE
from volplug.drivers.base import DriverInfo
from volplug.errors import InvalidOption, InvalidSize, VolumeExists
from volplug.filesystem_options import check_label, check_mkfs_options, check_mount_options
from volplug.models import Volume, VolumeSpec
from volplug.sizes import KIB, MIB, format_size, parse_size, round_up

# The smallest device that each mkfs accepts, rounded up (e2fsprogs 1.47, xfsprogs 6.1, btrfs-progs 6.2).
MINIMUM_SIZES: Final[Mapping[str, int]] = MappingProxyType(
    {"btrfs": 128 * MIB, "ext4": 8 * MIB, "xfs": 300 * MIB}
)

_HELP: Final[Mapping[str, str]] = MappingProxyType(
    {
        "backend": "NAME",
        "fs": "|".join(sorted(MINIMUM_SIZES)),
        "gid": "0",
        "mkfs-opts": "'-m 0'",
        "mode": "0755",
        "mount-opts": "noatime",
        "profile": "NAME",
        "size": "10GiB",
        "uid": "0",
    }
)
_MAX_VALUE_BYTES: Final = 4 * KIB
_MAX_OPTIONS_BYTES: Final = 64 * KIB
_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {"fstype": "fs", "filesystem": "fs", "fsopts": "mkfs-opts", "mkfsoptions": "mkfs-opts"}
    | {"mountoptions": "mount-opts"}
)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What applies where an option is not given.

    Attributes:
        fs_type: Filesystem.
        size_bytes: None for the driver's own default.
        profiles: Configured profiles: name to option defaults.
    """

    fs_type: str = "ext4"
    size_bytes: int | None = None
    profiles: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Request:
    """A creation as asked for.

    Attributes:
        spec: Complete, with defaults filled in.
        explicit: The spec's fields and driver options that the user named; only these are compared with
            an existing volume, for an option left out says nothing.
    """

    spec: VolumeSpec
    explicit: frozenset[str]


def canonical_names(raw: Mapping[str, str], info: DriverInfo) -> dict[str, str]:
    """Return the options under their canonical names; keys ignore case, `-` and `_`.

    Their length is bounded first: reading some of them takes time that grows with its square.

    Raises:
        InvalidOption: If they are too long, or a name is unknown, given twice, or `help`.
    """
    _check_length(raw)
    known = [*_HELP, *info.options]
    by_folded = {**_ALIASES, **info.option_aliases} | {_fold(name): name for name in known}
    options: dict[str, str] = {}
    for key, value in raw.items():
        if _fold(key) == "help":
            raise InvalidOption(_help_text(info))
        name = by_folded.get(_fold(key))
        if name is None:
            raise _unknown(key, by_folded, known)
        if name in options:
            raise InvalidOption(f"option {name!r} is given twice")
        options[name] = value
    return options


def chosen_backend(raw: Mapping[str, str]) -> str:
    """Return the backend that the options name, empty if none."""
    return next((value for key, value in raw.items() if _fold(key) == "backend"), "")


def read_options(name: str, raw: Mapping[str, str], info: DriverInfo, defaults: Defaults) -> Request:
    """Turn options into a complete spec.

    Args:
        name: The volume's name, checked already.
        raw: Options as Docker sends them.
        info: The driver of the chosen backend.
        defaults: This host's defaults.

    Raises:
        InvalidOption: If an option is unknown or cannot be read.
        InvalidSize: If the size cannot be read or is out of range.
    """
    given = canonical_names(raw, info)
    profile = given.get("profile", "default")
    chosen = {**_profile(profile, info, defaults), **given}
    fs_type = _filesystem(chosen.get("fs") or defaults.fs_type)
    mkfs_options = check_mkfs_options(fs_type, _split("mkfs-opts", chosen))
    check_label(fs_type, mkfs_options)
    driver_options = {key: value for key, value in chosen.items() if key in info.options}
    spec = VolumeSpec(
        name=name,
        size_bytes=_size(chosen.get("size"), fs_type, info, defaults),
        fs_type=fs_type,
        mkfs_options=mkfs_options,
        mount_options=check_mount_options(chosen.get("mount-opts", "")),
        uid=_number("uid", chosen.get("uid", "0"), 10, MAX_ID),
        gid=_number("gid", chosen.get("gid", "0"), 10, MAX_ID),
        mode=_number("mode", chosen.get("mode", "0755"), 8, MAX_MODE),
        profile=profile,
        driver_options=tuple(sorted(driver_options.items())),
    )
    return Request(spec, frozenset(given))


def check_same(request: Request, existing: Volume) -> None:
    """Check that an existing volume is what the request asks for.

    Raises:
        VolumeExists: Naming each option that differs.
    """
    wanted, actual = _comparable(request.spec), _comparable(existing.spec)
    actual["size"] = format_size(existing.size_bytes)
    differing = sorted(
        name
        for name in request.explicit - {"backend"}
        if wanted.get(name) != actual.get(name)
        and not (name == "size" and request.spec.size_bytes == existing.spec.size_bytes)
    )
    if differing:
        texts = ", ".join(
            f"{name} is {actual.get(name) or 'unset'}, not {wanted.get(name)}" for name in differing
        )
        raise VolumeExists(f"it exists and differs: {texts}", "Use it as it is, or choose another name")


def _comparable(spec: VolumeSpec) -> dict[str, str]:
    return {
        "size": format_size(spec.size_bytes),
        "fs": spec.fs_type,
        "mkfs-opts": " ".join(spec.mkfs_options),
        "mount-opts": ",".join(spec.mount_options),
        "uid": str(spec.uid),
        "gid": str(spec.gid),
        "mode": f"{spec.mode:04o}",
        "profile": spec.profile,
        **dict(spec.driver_options),
    }


def _check_length(raw: Mapping[str, str]) -> None:
    whole = 0
    for key, value in raw.items():
        length = len(value.encode(errors="surrogatepass"))
        whole += length + len(key.encode(errors="surrogatepass"))
        if length > _MAX_VALUE_BYTES:
            raise InvalidOption(f"option {_shown(key)} has {length} bytes, more than {_MAX_VALUE_BYTES}")
    if whole > _MAX_OPTIONS_BYTES:
        raise InvalidOption(f"the options have {whole} bytes together, more than {_MAX_OPTIONS_BYTES}")


def _fold(key: str) -> str:
    return key.lower().replace("-", "").replace("_", "")


def _help_text(info: DriverInfo) -> str:
    options = {**_HELP, **info.options, "size": format_size(info.default_size_bytes)}
    listed = ", ".join(f"{name}={options[name]}" for name in sorted(options))
    return f"options of driver {info.driver}: {listed}"


def _unknown(key: str, by_folded: Mapping[str, str], known: list[str]) -> InvalidOption:
    near = difflib.get_close_matches(_fold(key), list(by_folded), n=1)
    hint = f"Did you mean {by_folded[near[0]]!r}? " if near else ""
    return InvalidOption(
        f"unknown option {_shown(key)}", f"{hint}Valid options are {', '.join(sorted(known))}"
    )


def _shown(key: str) -> str:
    return repr(key if len(key) <= 40 else f"{key[:40]}...")


def _profile(name: str, info: DriverInfo, defaults: Defaults) -> dict[str, str]:
    profiles = {"default": {}, **info.profiles, **defaults.profiles}
    if name not in profiles:
        raise InvalidOption(f"unknown profile {name!r}", f"Profiles are {', '.join(sorted(profiles))}")
    options = canonical_names(profiles[name], info)
    if misplaced := sorted(options.keys() & {"backend", "profile"}):
        raise InvalidOption(f"profile {name!r} sets {misplaced[0]!r}, which profiles cannot")
    return options


def _filesystem(text: str) -> str:
    fs_type = text.strip().lower()
    if fs_type not in MINIMUM_SIZES:
        raise InvalidOption(f"unknown filesystem {text!r}", f"Use one of {', '.join(sorted(MINIMUM_SIZES))}")
    return fs_type


def _size(text: str | None, fs_type: str, info: DriverInfo, defaults: Defaults) -> int:
    wanted = parse_size(text) if text is not None else defaults.size_bytes or info.default_size_bytes
    size_bytes = round_up(wanted, info.allocation_unit_bytes)
    minimum = max(info.minimum_size_bytes, MINIMUM_SIZES[fs_type])
    if size_bytes < minimum:
        raise InvalidSize(
            f"size {format_size(wanted)} is below the minimum of {format_size(minimum)} for {fs_type}"
        )
    if size_bytes > info.maximum_size_bytes:
        raise InvalidSize(
            f"size {format_size(wanted)} is above the maximum of {format_size(info.maximum_size_bytes)} "
            f"of driver {info.driver}"
        )
    return size_bytes


def _split(name: str, options: Mapping[str, str]) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(options.get(name, "")))
    except ValueError as error:
        raise InvalidOption(f"option {name!r} cannot be read: {str(error).lower()}") from error


def _number(name: str, text: str, base: int, maximum: int) -> int:
    digits = "01234567" if base == 8 else "0123456789"
    if not text or len(text) > 12 or any(char not in digits for char in text) or int(text, base) > maximum:
        kind = "octal permission bits, such as 0750" if base == 8 else f"a number from 0 to {maximum}"
        raise InvalidOption(f"option {name!r} is {text!r}", f"Write {kind}")
    return int(text, base)
