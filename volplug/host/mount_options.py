"""Mount options: how mount(2) takes them, and which of them the kernel refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from volplug.host.filesystems import FILESYSTEMS
from volplug.host.libc import FsContext

# sys/mount.h
_FLAGS: Final = {
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "sync": 16,
    "dirsync": 128,
    "noatime": 1024,
    "nodiratime": 2048,
    "relatime": 1 << 21,
    "strictatime": 1 << 24,
    "lazytime": 1 << 25,
}
# Options of mount(8) that ask for the kernel's default, or do not concern it; it would refuse them.
_NOT_FOR_THE_KERNEL: Final = frozenset(
    {"defaults", "rw", "suid", "dev", "exec", "async", "atime", "diratime", "auto", "noauto", "nofail"}
    | {"_netdev", "nouser"}
)


def split_options(fs_type: str, options: Sequence[str]) -> tuple[int, str]:
    """Split options as users write them into the flags and the data string of mount(2). Pure.

    The defaults of the filesystem type are added, unless the user sets them or their opposites.
    """
    flags = 0
    data: list[str] = []
    for option in (part for text in options for part in text.split(",")):
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option and option not in _NOT_FOR_THE_KERNEL:
            data.append(option)
    known = FILESYSTEMS.get(fs_type)
    given = {_key(option) for option in data}
    data += [
        default for default in (known.default_mount_options if known else ()) if _key(default) not in given
    ]
    return flags, ",".join(data)


def _key(option: str) -> str:
    return option.removeprefix("no").split("=")[0]


def refused_options(fs_type: str, data: str) -> list[str]:
    """Ask the kernel why it refuses options: mount(2) returns no more than "Invalid argument".

    The options are set, one by one, on a mount that is never made (fsopen, Linux 5.2).

    Returns:
        The kernel's messages, such as `ext4: Unknown parameter 'foo'`; none if it gives no reason.
    """
    try:
        context = FsContext(fs_type)
    except OSError:
        return []
    with context:
        return [text for option in data.split(",") if option and (text := _refusal(context, option))]


def _refusal(context: FsContext, option: str) -> str:
    try:
        context.set(option)
    except OSError:
        return context.last_message()
    return ""
