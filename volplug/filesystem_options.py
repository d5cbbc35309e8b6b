"""Which mkfs and mount options users may give. Pure.

mkfs gets our device, our UUID and no force; options that could name another device, force a format or set
the UUID are refused, by allowing only what is known to be harmless.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from volplug.errors import InvalidOption

# From mke2fs(8), mkfs.xfs(8), mkfs.btrfs(8): flags that take one value and shape only the new filesystem.
_MKFS_FLAGS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "ext4": frozenset({"-b", "-C", "-E", "-G", "-i", "-I", "-L", "-m", "-N", "-O", "-T"}),
        "xfs": frozenset({"-b", "-d", "-i", "-l", "-L", "-m", "-n", "-s"}),
        "btrfs": frozenset({"-d", "-L", "-m", "-n", "-O", "-R", "-s", "--checksum", "--csum"}),
    }
)
# EXT2_LABEL_LEN, XFSLABEL_MAX, BTRFS_LABEL_SIZE less its final NUL.
_LABEL_BYTES: Final[Mapping[str, int]] = MappingProxyType({"ext4": 16, "xfs": 12, "btrfs": 255})
_FORBIDDEN_VALUE: Final = re.compile(r"/|dev|\bfile\b|uuid|\bname=|^-", re.IGNORECASE)
_MOUNT_OPTION: Final = re.compile(r"[A-Za-z0-9_]+(=[A-Za-z0-9_.:%+-]+)?", re.ASCII)
_FORBIDDEN_MOUNT: Final = frozenset(
    {"ro", "rw", "remount", "bind", "rbind", "move", "loop", "offset", "sizelimit", "nouuid", "noload"}
    | {"norecovery", "logdev", "rtdev", "device", "subvol", "subvolid", "journal_path", "journal_dev"}
    | {"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"}
    | {"nologreplay", "degraded", "rescue", "ro=vfs", "sb"}
)


def check_mkfs_options(fs_type: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments, each flag separated from its value.

    Raises:
        InvalidOption: Naming the argument that is not allowed and those that are.
    """
    allowed = _MKFS_FLAGS[fs_type]
    checked: list[str] = []
    rest = list(arguments)
    while rest:
        flag, value = _take_flag(rest, allowed)
        is_odd = value is None or not value.isprintable() or _FORBIDDEN_VALUE.search(value)
        if flag not in allowed or value is None or is_odd:
            shown = flag if value is None else f"{flag} {value}"
            flags = " ".join(sorted(allowed))
            raise InvalidOption(
                f"option 'mkfs-opts' has {shown!r}, which is not allowed for {fs_type}",
                f"Allowed are, each with a value: {flags}",
            )
        checked += [flag, value]
    return tuple(checked)


def check_label(fs_type: str, arguments: Sequence[str]) -> None:
    """Check the length of a new filesystem's label: a longer one is cut, or fails at the first Mount.

    Args:
        fs_type: The filesystem.
        arguments: As `check_mkfs_options` returns them.

    Raises:
        InvalidOption: If the label is too long.
    """
    limit = _LABEL_BYTES[fs_type]
    for flag, value in zip(arguments[::2], arguments[1::2], strict=True):
        if flag == "-L" and len(value.encode()) > limit:
            raise InvalidOption(
                f"the label {value[:40]!r} has more than {limit} bytes, the most of {fs_type}"
            )


def _take_flag(rest: list[str], allowed: frozenset[str]) -> tuple[str, str | None]:
    """Take one flag and its value off the list; `-m0` and `--csum=x` count as two."""
    flag = rest.pop(0)
    if "=" in flag and flag.startswith("--"):
        name, value = flag.split("=", 1)
        return name, value
    if flag[:2] in allowed and len(flag) > 2 and not flag.startswith("--"):
        return flag[:2], flag[2:]
    return flag, rest.pop(0) if rest and flag in allowed else None


def check_mount_options(text: str) -> tuple[str, ...]:
    """Return the options of a comma-separated list; the kernel has the last word on their meaning.

    Raises:
        InvalidOption: Naming the option that is not allowed.
    """
    options = tuple(part.strip() for part in text.split(",") if part.strip())
    for option in options:
        if _MOUNT_OPTION.fullmatch(option) is None or option.split("=")[0] in _FORBIDDEN_MOUNT:
            remedy = "Use docker run -v NAME:/path:ro for read-only" if option == "ro" else ""
            raise InvalidOption(f"option 'mount-opts' has {option[:40]!r}, which is not allowed", remedy)
    return options
