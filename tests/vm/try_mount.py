"""Runs in a guest: mounts a dataset at a private path, as volplug does, and unmounts it.

Arguments are the dataset and "ro" or "rw". It prints "mounted", or the name of the error.
"""

import errno
import sys
import tempfile

from volplug.host import libc

_FLAGS = {"rw": 0, "ro": 1}  # MS_RDONLY


def main(dataset: str, access: str) -> str:
    """Try it."""
    with tempfile.TemporaryDirectory(dir="/run") as target:
        try:
            libc.mount(dataset, target, "zfs", _FLAGS[access], "")
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        libc.umount(target, 0)
    return "mounted"


print(main(*sys.argv[1:]))  # noqa: T201 - that is its answer
