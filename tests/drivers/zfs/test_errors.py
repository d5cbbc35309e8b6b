"""What ZFS complains of, verbatim, and what becomes of it."""

import pytest

from volplug.drivers.zfs.errors import translated
from volplug.errors import (
    BackendError,
    BackendUnavailable,
    CommandFailed,
    InvalidOption,
    LimitExceeded,
    UnexpectedState,
    VolplugError,
    VolumeExists,
    VolumeInUse,
    VolumeNotFound,
)

# Of zfs-fuse 0.7.0 and OpenZFS 2.1.11; where both are named, both say the same.
_SEEN: list[tuple[str, type[VolplugError], str]] = [
    ("cannot open 'tank/volplug/db': dataset does not exist\n", VolumeNotFound, "tank/volplug/db"),
    ("cannot create 'tank/volplug/no/such': parent does not exist\n", VolumeNotFound, "parent"),
    ("cannot create 'tank/volplug/big': dataset already exists\n", VolumeExists, "tank/volplug/big"),
    (
        "cannot receive new filesystem stream: destination 'two/volplug/dst' exists\n"
        "must specify -F to overwrite it\nwarning: cannot send 'tank/volplug/src@v1': Broken pipe\n",
        VolumeExists,
        "two/volplug/dst",
    ),
    ("cannot create 'tank/volplug/big2': out of space\n", LimitExceeded, "the pool is full"),
    ("cannot create snapshots : out of space\n", LimitExceeded, "the pool is full"),
    ("cannot set property for 'small/volplug/a': out of space\n", LimitExceeded, "the pool is full"),
    (
        "cannot set property for 'tank/volplug/db': size is greater than available space\n",
        LimitExceeded,
        "not that much free space",
    ),
    (
        "cannot set property for 'tank/volplug/db': size is less than current used or reserved space\n",
        InvalidOption,
        "holds more",
    ),
    (
        "cannot destroy 'tank/volplug/db': filesystem has children\n"
        "use '-r' to destroy the following datasets:\ntank/volplug/db/child\ntank/volplug/db@s1\n",
        VolumeInUse,
        "tank/volplug/db/child, tank/volplug/db@s1",
    ),
    (
        "cannot destroy 'tank/volplug/db@s1': snapshot has dependent clones\n"
        "use '-R' to destroy the following datasets:\ntank/volplug/clone\n",
        VolumeInUse,
        "tank/volplug/clone",
    ),
    ("cannot destroy 'tank/volplug/db': dataset is busy\n", VolumeInUse, "dataset is busy"),
    ("cannot mount 'tank/volplug/db': mountpoint or dataset is busy\n", VolumeInUse, "busy"),
    ("cannot unmount '/run/w': pool or dataset is busy\n", VolumeInUse, "busy"),
    ("cannot open 'tank/volplug': I/O error\n", BackendUnavailable, "damaged or missing"),
    ("internal error: Value too large for defined data type\n", BackendUnavailable, "damaged or missing"),
    ("internal error: Connection reset by peer\n", BackendUnavailable, "not running"),
    ("cannot create 'small/x': no such pool 'small'\n", BackendUnavailable, "pool small is not imported"),
    ("cannot open 'small': no such pool\n", BackendUnavailable, "pool is not imported"),
    ("cannot set property for 'tank/volplug/a': pool is read-only\n", BackendUnavailable, "read-only"),
    ("cannot open 'sus/a': pool I/O is currently suspended\n", BackendUnavailable, "the pool is suspended"),
    ("cannot create 'sus/b': pool I/O is currently suspended\n", BackendUnavailable, "the pool is suspended"),
    (
        "connect: No such file or directory\nPlease make sure that the zfs-fuse daemon is running.\n"
        "internal error: failed to initialize ZFS library\n",
        BackendUnavailable,
        "ZFS is not running",
    ),
    (
        "cannot create 'tank/volplug/c1': 'compression' must be one of 'on | off | lzjb | gzip'\n",
        InvalidOption,
        "compression",
    ),
    ("cannot create 'tank/volplug/c1': invalid property 'sync'\n", InvalidOption, "'sync'"),
    (
        "bad property list: invalid property 'nosuch'\nusage:\n\tget [-rHp] [-d max]\n",
        InvalidOption,
        "invalid property 'nosuch'",
    ),
    ("cannot receive new filesystem stream: invalid backup stream\n", UnexpectedState, "incomplete"),
    ("cannot receive new filesystem stream: incomplete stream\n", UnexpectedState, "incomplete"),
    (
        "cannot receive new filesystem stream: checksum mismatch or incomplete stream.\n"
        "Partially received snapshot is saved.\n",
        UnexpectedState,
        "incomplete or damaged",
    ),
    (
        "cannot receive incremental stream: destination two/v/cut contains partially-complete state from "
        '"zfs receive -s".\n',
        UnexpectedState,
        "an earlier stream",
    ),
    ("cannot receive: failed to read from stream\n", UnexpectedState, "incomplete"),
    ("cannot receive: invalid stream (bad magic number)\n", UnexpectedState, "damaged"),
    (
        "cannot receive incremental stream: destination two/volplug/dst has been modified\n"
        "since most recent snapshot\n",
        UnexpectedState,
        "no common snapshot",
    ),
    (
        "cannot receive incremental stream: most recent snapshot of two/volplug/dst does not\n"
        "match incremental source\n",
        UnexpectedState,
        "no common snapshot",
    ),
    (
        "warning: cannot send 'tank/volplug/src@v3': incremental source (@v0) does not exist\n",
        UnexpectedState,
        "no common snapshot",
    ),
    ("internal error: /usr/lib/zfs/pyzfs.py not found\n", BackendError, "pyzfs.py not found"),
    ("", BackendError, "exit code 1"),
]


@pytest.mark.parametrize(("output", "kind", "words"), _SEEN, ids=[words for _, _, words in _SEEN])
def test_what_zfs_complains_of(output: str, kind: type[VolplugError], words: str) -> None:
    error = translated(CommandFailed(("zfs", "x"), 1, output))
    assert type(error) is kind
    assert words in str(error)
    assert "\n" not in str(error)
    assert "usage" not in str(error)
    assert "  " not in str(error)
