"""Controls whether a loop device passes discards to its image. Every function blocks."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Final

from volplug.host.devices import opened

_LOOP_CTL_ADD: Final = 0x4C80
_LOOP_CTL_REMOVE: Final = 0x4C81


def disable_discard(path: str) -> bool:
    """Best effort: make the device refuse discards, so that fstrim cannot punch holes into a full image.

    A preallocated image with holes can no longer be filled once the host's disk is full. The setting persists
    after a detach, and newer kernels cannot undo it: `attach` has an argument for images that need discards.
    It takes the kernel some milliseconds, but only once for each device number.

    Returns:
        Whether discards are refused now; False where /sys is read-only.
    """
    setting = f"{_queue(path)}/discard_max_bytes"
    if _read_number(setting) == 0:
        return True  # writing the same number again would halt the queue, too
    try:
        with open(setting, "w", encoding="ascii") as file:
            file.write("0")
    except OSError:
        return False
    return True


def _queue(path: str) -> str:
    return f"/sys/block/{os.path.basename(path)}/queue"


def is_discard_disabled(path: str) -> bool:
    """Return whether the device would refuse discards that its image could take."""
    queue = _queue(path)
    # A device that never had an image has no discard in hardware either, and gets it with its first image.
    return _read_number(f"{queue}/discard_max_bytes") == 0 < _read_number(f"{queue}/discard_max_hw_bytes")


def recreate(path: str) -> None:
    """Remove a free loop device and create it again, with the kernel's default settings."""
    number = int(path.removeprefix("/dev/loop"))
    with (
        contextlib.suppress(OSError),
        opened("/dev/loop-control", os.O_RDWR) as control,
    ):  # in use by now: the caller takes another
        fcntl.ioctl(control, _LOOP_CTL_REMOVE, number)
        fcntl.ioctl(control, _LOOP_CTL_ADD, number)


def _read_number(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return -1
