"""Checks the mkfs and mount options that users may give. Pure.

Only options that are known to be harmless pass: none that names another device, forces a format or sets the
UUID.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from volplug.errors import InvalidOption
from volplug.host.filesystems import FILESYSTEMS, NAMED

_FORBIDDEN_VALUE: Final = re.compile(r"/|dev|\bfile\b|uuid|\bname=|^-", re.IGNORECASE)
_MOUNT_OPTION: Final = re.compile(r"[A-Za-z0-9_]+(=[A-Za-z0-9_.:%+-]+)?", re.ASCII)
_FORBIDDEN_MOUNT: Final = frozenset(
    {"ro", "rw", "remount", "bind", "rbind", "move", "loop", "offset", "sizelimit"}
    | {"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"}
).union(*(filesystem.forbidden_mount_options for filesystem in FILESYSTEMS.values()))
# Of a filesystem by name: those of the mount itself. Its own are properties, and the kernel's ZFS takes any
# unknown word without a complaint.
_NAMED_MOUNT: Final = frozenset(
    f"{no}{option}" for option in ("suid", "dev", "exec", "atime", "diratime") for no in ("", "no")
) | {"relatime", "strictatime", "defaults", "nofail", "_netdev"}
# `errors=panic` of ext4 and `fatal_errors=panic` of btrfs: a damaged volume would take the whole host down.
_PANIC: Final = "=panic"


def check_mkfs_options(fs_type: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments, each flag separated from its value.

    Raises:
        InvalidOption: Naming the argument that is not allowed and those that are.
    """
    allowed = FILESYSTEMS[fs_type].mkfs_flags if fs_type in FILESYSTEMS else frozenset[str]()
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
    limit = FILESYSTEMS[fs_type].label_bytes if fs_type in FILESYSTEMS else 0
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


def check_mount_options(text: str, fs_type: str = "") -> tuple[str, ...]:
    """Return the options of a comma-separated list; their meaning is checked by the kernel at mount.

    Args:
        text: The list.
        fs_type: The filesystem that they are for; empty if it is not known yet.

    Raises:
        InvalidOption: Naming the option that is not allowed.
    """
    options = tuple(part.strip() for part in text.split(",") if part.strip())
    for option in options:
        if fs_type in NAMED and option not in _NAMED_MOUNT:
            raise InvalidOption(
                f"option 'mount-opts' has {option[:40]!r}, which is not allowed for {fs_type}",
                f"Allowed are {', '.join(sorted(_NAMED_MOUNT))}; all else is a property of the filesystem",
            )
        is_forbidden = option.split("=")[0] in _FORBIDDEN_MOUNT or option.endswith(_PANIC)
        if _MOUNT_OPTION.fullmatch(option) is None or is_forbidden:
            remedy = "Use docker run -v NAME:/path:ro for read-only" if option == "ro" else ""
            raise InvalidOption(f"option 'mount-opts' has {option[:40]!r}, which is not allowed", remedy)
    return options
