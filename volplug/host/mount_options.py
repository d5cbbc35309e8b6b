"""Mount options: how mount(2) wants them, and what the kernel has against them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

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
# Words of mount(8) that mean what happens anyway; the kernel would refuse them.
_NO_MEANING: Final = frozenset(
    {"defaults", "rw", "suid", "dev", "exec", "async", "atime", "diratime", "auto", "noauto", "nofail"}
    | {"_netdev", "nouser"}
)

# For each type the option that users may set, and what it is set to otherwise.
_DEFAULTS: Final = {
    "ext4": ("errors", "errors=remount-ro"),
    "xfs": ("uuid", "nouuid"),
    "btrfs": ("discard", "nodiscard"),
}


def split_options(fs_type: str, options: Sequence[str]) -> tuple[int, str]:
    """Split options as users write them into the flags and the data string of mount(2). Pure.

    Unless the user decides: ext4 stops writing at the first error. xfs gets `nouuid`, since clones of a
    volume share its UUID, and our own records tell them apart. btrfs gets `nodiscard`, since it discards by
    itself since Linux 6.2, which would punch holes into preallocated images.
    """
    flags = 0
    data: list[str] = []
    for option in (part for text in options for part in text.split(",")):
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option and option not in _NO_MEANING:
            data.append(option)
    key, default = _DEFAULTS.get(fs_type, ("", ""))
    if default and not any(option.removeprefix("no").split("=")[0] == key for option in data):
        data.append(default)
    return flags, ",".join(data)


def refused_options(fs_type: str, data: str) -> list[str]:
    """Ask the kernel why it refuses options: mount(2) says no more than "Invalid argument".

    The options are set, one by one, on a mount that is never made (fsopen, Linux 5.2).

    Returns:
        The kernel's own words, such as `ext4: Unknown parameter 'foo'`; empty if it says nothing.
    """
    try:
        context = FsContext(fs_type)
    except OSError:
        return []
    with context:
        return [said for option in data.split(",") if option and (said := _refusal(context, option))]


def _refusal(context: FsContext, option: str) -> str:
    try:
        context.set(option)
    except OSError:
        return context.last_message()
    return ""
