"""The lane that this process runs in: a part of the machine that other lanes and test runs do not see.

Several lanes run tests at the same time (parallel.py). Each has mount, process, network, UTS and cgroup
namespaces of its own (lane.sh) and a directory for everything that its tests make. What namespaces do not
separate belongs to the lane whose directory it is in: a loop device to that of its image.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VARIABLE = "VOLPLUG_LANE"
# Set by lane.sh: a path of the network namespace outside.
_NETWORK_VARIABLE = "VOLPLUG_LANE_NETWORK"
# Not /tmp: that is often a tmpfs, and images of volumes should be on a real disk.
_BASE = Path("/var/tmp")  # noqa: S108 - only directories of our own are made in it


def is_lane() -> bool:
    """Whether this process runs in a lane: a worker of a parallel run, or a program that it started."""
    return _VARIABLE in os.environ


def directory() -> Path:
    """The directory of the lane; outside of any lane, the one in which labs are made."""
    return Path(os.environ.get(_VARIABLE, _BASE))


def new_directory() -> Path:
    """Make a directory for a lab in the lane's directory; its path is short enough for sockets in it."""
    return Path(tempfile.mkdtemp(prefix="volplug-lab-", dir=directory()))


def with_network_outside() -> list[str]:
    """The beginning of a command that needs a package mirror, which a lane's own network does not reach."""
    network = os.environ.get(_NETWORK_VARIABLE)
    return ["nsenter", f"--net={network}"] if network else []


@contextmanager
def without_namespaces() -> Iterator[Path]:
    """Make a lane of this process and the programs that it starts: a directory, but no namespaces."""
    before = os.environ.get(_VARIABLE)
    directory = new_directory()
    directory.chmod(0o711)  # what closes volumes to other users must not be a directory of the tests
    os.environ[_VARIABLE] = str(directory)
    try:
        yield directory
    finally:
        os.environ.pop(_VARIABLE)
        os.environ |= {} if before is None else {_VARIABLE: before}
        shutil.rmtree(directory)
