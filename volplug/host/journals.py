"""Replaying the journal of an ext4 filesystem that was not cleanly unmounted.

The kernel does it, not e2fsck: e2fsck takes no notice of a write that fails on the way to the disk (a sparse
image on a full disk, a failing device) and empties the journal all the same, which loses what was fsynced.
The kernel keeps the journal then.
"""

from __future__ import annotations

import errno
from typing import Final

from volplug.errors import MountFailed
from volplug.host.libc import FsContext

# What a write or read that failed makes of it. Of all else e2fsck may make more than the kernel does.
_DISK_AT_FAULT: Final = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT})


def replay(device: str) -> None:
    """Replay the journal by a read-only mount that is attached nowhere. Blocks; the device must be free.

    A kernel without fsopen, or a journal that the kernel cannot make sense of, is left to e2fsck.

    Raises:
        MountFailed: If the disk does not take what has to be written, or cannot be read; nothing is lost.
    """
    try:
        context = FsContext("ext4")
    except OSError:
        return
    with context:
        try:
            for option in (f"source={device}", "ro"):
                context.set(option)
            context.create()
        except OSError as exc:
            if exc.errno in _DISK_AT_FAULT:
                raise MountFailed(
                    f"the journal on {device} cannot be replayed, and was kept: {exc.strerror}",
                    "Look at the disk behind it: full, or failing? The kernel's log (dmesg) says more",
                ) from exc
