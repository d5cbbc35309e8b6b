"""What a creation asks for: reading options, completing them, comparing with an existing volume. Pure."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from volplug.descriptions import MAX_ID, MAX_MODE
from volplug.drivers.base import DriverInfo
from volplug.errors import InvalidOption, InvalidSize, OptionHelp, VolumeExists
from volplug.host.filesystems import FILESYSTEMS
from volplug.host.filesystems.options import check_label, check_mkfs_options, check_mount_options
from volplug.models import Volume, VolumeSpec
from volplug.sizes import KIB, format_size, parse_size, round_up

_HELP: Final[Mapping[str, str]] = MappingProxyType(
    {
        "backend": "NAME",
        "fs": "|".join(FILESYSTEMS),
        "gid": "0",
        "mkfs-opts": "'-m 0'",
        "mode": "0755",
        "mount-opts": "noatime",
        "profile": "NAME",
        "size": "10GiB",
        "uid": "0",
    }
)
# Where a request has each option.
_FIELDS: Final[Mapping[str, str]] = MappingProxyType(
    {option: option.replace("-", "_") for option in _HELP}
    | {"fs": "fs_type", "mkfs-opts": "mkfs_options", "mount-opts": "mount_options", "size": "size_bytes"}
)
# For these an empty value means none, whatever the profile has.
_MAY_BE_EMPTY: Final = frozenset({"mkfs-opts", "mount-opts"})
# YAML 1.1 and the languages of templates write booleans in several ways.
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})
_OWNER_BITS: Final = 0o700
# Least likeness of a suggestion: `sise` is that much like `size`, and `volumename` less so like `volumetype`.
_NEAR: Final = 0.75
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
        profiles: Configured profiles: name to option defaults, as users write options.
    """

    fs_type: str = "ext4"
    size_bytes: int | None = None
    profiles: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """A volume to create. What is None or empty was not given: its profile decides, or this host's defaults.

    Attributes:
        name: Docker's name.
        backend: Where to create it.
        profile: Whose defaults apply.
        size_bytes: At least.
        fs_type: ext4, xfs or btrfs; none for drivers whose volumes are filesystems from their creation.
        mkfs_options: Extra arguments of mkfs, one word each.
        mount_options: Extra options of mount.
        uid: Owner of the data directory.
        gid: Group of the data directory.
        mode: Permission bits of the data directory.
        driver_options: Options of the backend's driver, by name or alias; not checked yet.
    """

    name: str
    backend: str = ""
    profile: str | None = None
    size_bytes: int | None = None
    fs_type: str | None = None
    mkfs_options: tuple[str, ...] | None = None
    mount_options: tuple[str, ...] | None = None
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    driver_options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class ResolvedCreation:
    """A creation with all defaults filled in.

    Attributes:
        spec: What to create.
        explicit: The options that the user named; only these are compared with an existing volume, for an
            option left out matches any value.
    """

    spec: VolumeSpec
    explicit: frozenset[str]


def read_options(name: str, raw: Mapping[str, str]) -> CreateRequest:
    """Read options as users and their tools write them; keys ignore case, `-` and `_`.

    Their length is bounded first: reading some of them takes time that grows with its square. White space
    around keys and values and quotes around a value, as YAML, templates and shells leave them, are ignored.

    Args:
        name: The volume's name, checked already.
        raw: As Docker sends them. Those that are none of volplug's own are left to the driver.

    Raises:
        InvalidOption: If they are too long, given twice, or cannot be read.
        InvalidSize: If the size cannot be read.
    """
    _check_length(raw)
    bare = {key: _bare(value) for key, value in raw.items()}
    given, others = _canonical(bare, list(_HELP), _ALIASES)
    for option in given:
        if not given[option] and option not in _MAY_BE_EMPTY:
            raise InvalidOption(
                f"option {option!r} is empty",
                "Set the variable that it comes from, or leave the option out",
            )
    return CreateRequest(
        name=name,
        backend=given.get("backend", ""),
        profile=given.get("profile"),
        size_bytes=parse_size(given["size"]) if "size" in given else None,
        fs_type=_filesystem(given["fs"]) if "fs" in given else None,
        mkfs_options=_words("mkfs-opts", given["mkfs-opts"]) if "mkfs-opts" in given else None,
        mount_options=tuple(given["mount-opts"].split(",")) if "mount-opts" in given else None,
        uid=_number("uid", given["uid"], MAX_ID) if "uid" in given else None,
        gid=_number("gid", given["gid"], MAX_ID) if "gid" in given else None,
        mode=_mode(given["mode"]) if "mode" in given else None,
        driver_options=others,
    )


def resolve(request: CreateRequest, info: DriverInfo, defaults: Defaults) -> ResolvedCreation:
    """Fill in what was not given: from the profile, then from this host's and the driver's defaults.

    Args:
        request: As read.
        info: The driver of the backend that is to create the volume.
        defaults: This host's.

    Raises:
        InvalidOption: If an option is unknown, or does not fit the filesystem.
        InvalidSize: If the size is out of range.
    """
    driver_options = _driver_options(request, info)
    explicit = {option for option in _HELP if getattr(request, _FIELDS[option]) not in (None, "")}
    profile = request.profile if request.profile is not None else "default"
    chosen = _over_profile(request, _read_profile(profile, info, defaults))
    if info.own_filesystem:
        _refuse_format_options(chosen, info)
    fs_type = info.own_filesystem or chosen.fs_type or _filesystem(defaults.fs_type)
    mkfs_options = check_mkfs_options(fs_type, chosen.mkfs_options or ())
    check_label(fs_type, mkfs_options)
    spec = VolumeSpec(
        name=request.name,
        size_bytes=_size(chosen.size_bytes, fs_type, info, defaults),
        fs_type=fs_type,
        mkfs_options=mkfs_options,
        mount_options=check_mount_options(",".join(chosen.mount_options or ()), fs_type),
        uid=chosen.uid or 0,
        gid=chosen.gid or 0,
        mode=0o755 if chosen.mode is None else chosen.mode,
        profile=profile,
        driver_options=tuple(sorted((_driver_options(chosen, info) | driver_options).items())),
    )
    return ResolvedCreation(spec, frozenset(explicit | driver_options.keys()))


def check_profile_option(key: str, value: str, infos: Sequence[DriverInfo]) -> None:
    """Check an option of a configured profile as far as that is possible without the others.

    Args:
        key: As the profile has it.
        value: As the profile has it.
        infos: The drivers; one of them has to know the option.

    Raises:
        InvalidOption: If it is unknown, cannot be read, or is none of a profile.
        InvalidSize: If it is a size that cannot be read.
    """
    request = read_options("", {key: value})
    if misplaced := _misplaced(request):
        raise InvalidOption(f"profiles cannot set {misplaced!r}")
    check_mount_options(",".join(request.mount_options or ()))
    failure: InvalidOption | None = None
    for info in infos:
        try:
            _driver_options(request, info)
        except InvalidOption as error:
            failure = error
        else:
            return
    if failure is not None:
        raise failure


def check_same(creation: ResolvedCreation, existing: Volume) -> None:
    """Check that an existing volume is what the creation asks for.

    Raises:
        VolumeExists: Naming each option that differs.
    """
    wanted, actual = _comparable(creation.spec), _comparable(existing.spec)
    actual["size"] = format_size(existing.size_bytes)
    differing = sorted(
        name
        for name in creation.explicit - {"backend"}
        if wanted.get(name) != actual.get(name)
        and not (name == "size" and creation.spec.size_bytes == existing.spec.size_bytes)
    )
    if differing:
        texts = ", ".join(
            f"{name} is {actual.get(name) or 'unset'}, not {wanted.get(name)}" for name in differing
        )
        raise VolumeExists(
            f"a volume of this name exists and differs: {texts}", "Use it as it is, or choose another name"
        )


def _canonical(
    raw: Mapping[str, str], names: Sequence[str], aliases: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Split options into those of known names, under these, and all others as they are."""
    by_folded = {**aliases} | {_fold(name): name for name in names}
    known: dict[str, str] = {}
    others: dict[str, str] = {}
    for key, value in raw.items():
        name = by_folded.get(_fold(key))
        if name is None:
            others[key] = value
        elif name in known:
            raise InvalidOption(f"option {name!r} is given twice")
        else:
            known[name] = value
    return known, others


def _driver_options(request: CreateRequest, info: DriverInfo) -> dict[str, str]:
    aliases = {alias: name for alias, name in info.option_aliases.items() if name in info.options}
    options, others = _canonical(request.driver_options, list(info.options), aliases)
    if any(_fold(key) == "help" for key in others):
        raise OptionHelp(_help_text(info))
    if others:
        raise _unknown(next(iter(others)), info)
    return {name: _choice(value, info.options[name].split("|")) for name, value in options.items()}


def _read_profile(name: str, info: DriverInfo, defaults: Defaults) -> CreateRequest:
    profiles = {"default": {}, **info.profiles, **defaults.profiles}
    if name not in profiles:
        raise InvalidOption(f"unknown profile {name!r}", f"Profiles are {', '.join(sorted(profiles))}")
    profile = read_options("", profiles[name])
    if misplaced := _misplaced(profile):
        raise InvalidOption(f"profile {name!r} sets {misplaced!r}, which profiles cannot")
    return profile


def _misplaced(profile: CreateRequest) -> str:
    return "backend" if profile.backend else "profile" if profile.profile is not None else ""


def _over_profile(request: CreateRequest, profile: CreateRequest) -> CreateRequest:
    """Return the profile with the request's options in place of its own, but for those of the driver."""
    given = {field: getattr(request, field) for field in _FIELDS.values()}
    return replace(profile, **{field: value for field, value in given.items() if value is not None})


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


def _bare(value: str) -> str:
    """Return a value without the white space and the pair of quotes around it."""
    bare = value.strip()
    quote = bare[:1]
    is_quoted = len(bare) > 1 and quote in ("'", '"') and bare.find(quote, 1) == len(bare) - 1
    return bare[1:-1].strip() if is_quoted else bare


def _choice(value: str, choices: Sequence[str]) -> str:
    """Return which of a driver's fixed values is meant, else the value as it is, for the driver to refuse."""
    folded = value.lower()
    if set(choices) == {"true", "false"} and folded in _TRUE | _FALSE:
        return "true" if folded in _TRUE else "false"
    return folded if len(choices) > 1 and folded in choices else value


def _fold(key: str) -> str:
    return key.strip().lower().replace("-", "").replace("_", "")


def _help_text(info: DriverInfo) -> str:
    options = {**_HELP, **info.options, "size": format_size(info.default_size_bytes)}
    if info.own_filesystem:
        del options["fs"], options["mkfs-opts"]
    listed = ", ".join(f"{name}={options[name]}" for name in sorted(options))
    return f"options of driver {info.driver}: {listed}"


def _unknown(key: str, info: DriverInfo) -> InvalidOption:
    known = [*_HELP, *info.options]
    by_folded = {**_ALIASES, **info.option_aliases} | {_fold(name): name for name in known}
    near = difflib.get_close_matches(_fold(key), list(by_folded), n=1, cutoff=_NEAR)
    hint = f"Did you mean {by_folded[near[0]]!r}? " if near else ""
    return InvalidOption(f"unknown option {_shown(key)}", f"{hint}All options are listed by -o help")


def _shown(key: str) -> str:
    return repr(key if len(key) <= 40 else f"{key[:40]}...")


def _refuse_format_options(chosen: CreateRequest, info: DriverInfo) -> None:
    given = {"fs": chosen.fs_type, "mkfs-opts": chosen.mkfs_options}
    for option, value in given.items():
        if value:
            raise InvalidOption(
                f"option {option!r} is not for driver {info.driver}: its volumes are {info.own_filesystem}"
                " filesystems from their creation, none is made on them",
                f"Leave it out{f' of profile {chosen.profile!r}' if chosen.profile else ''}",
            )


def _filesystem(text: str) -> str:
    fs_type = text.lower()
    if fs_type not in FILESYSTEMS:
        raise InvalidOption(f"unknown filesystem {text!r}", f"Use one of {', '.join(FILESYSTEMS)}")
    return fs_type


def _size(wanted: int | None, fs_type: str, info: DriverInfo, defaults: Defaults) -> int:
    if wanted is None:
        wanted = defaults.size_bytes or info.default_size_bytes
    size_bytes = round_up(wanted, info.allocation_unit_bytes)
    filesystem = FILESYSTEMS.get(fs_type)
    minimum = max(info.minimum_size_bytes, filesystem.minimum_size_bytes if filesystem else 0)
    if size_bytes < minimum:
        raise InvalidSize(
            f"size {format_size(wanted)} is below the minimum of {format_size(minimum)} for {fs_type}"
        )
    if size_bytes > info.maximum_size_bytes:
        raise InvalidSize(
            f"size {format_size(wanted)} is above the maximum of {format_size(info.maximum_size_bytes)} "
            f"of driver {info.driver}",
            "Ask for less; a number without a unit is GiB",
        )
    return size_bytes


def _words(name: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise InvalidOption(f"option {name!r} cannot be read: {str(error).lower()}") from error


def _mode(text: str) -> int:
    """Read permission bits.

    YAML reads 0770 as a number, and tools deliver it in decimal, as 504. Where that is octal as well, the
    owner has less than rwx in it; so such bits are accepted only with a leading zero.
    """
    digits = text.removeprefix("0o")
    if _is_number(digits, 8, MAX_MODE):
        mode = int(digits, 8)
        if text[0] == "0" or mode & _OWNER_BITS == _OWNER_BITS:
            return mode
    raise InvalidOption(
        f"option 'mode' is {text!r}",
        "Write octal permission bits, such as 0750; in YAML in quotes, or it becomes another number",
    )


def _number(name: str, text: str, maximum: int) -> int:
    if not _is_number(text, 10, maximum):
        raise InvalidOption(f"option {name!r} is {text!r}", f"Write a number from 0 to {maximum}")
    return int(text)


def _is_number(text: str, base: int, maximum: int) -> bool:
    digits = "0123456789"[:base]
    return 0 < len(text) <= 12 and all(char in digits for char in text) and int(text, base) <= maximum
