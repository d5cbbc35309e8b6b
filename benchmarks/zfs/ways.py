"""The ways to make and use datasets that are compared: volplug, and the commands of zfs alone."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.client import CallError
from benchmarks.clouds import CloudVolplug
from benchmarks.place import Place
from benchmarks.samples import milliseconds
from tests.lab.requirements import HAS_OPENZFS
from tests.lab.zfs import HostZfs, ZfsFuse, ZfsPool
from volplug.drivers.zfs.commands import PRIVATELY
from volplug.drivers.zfs.datasets import GUID, wanted
from volplug.drivers.zfs.properties import ALL

VOLUME_SIZE: Final = "16MiB"
_POOL: Final = "volplugbench"
_POOL_BYTES: Final = 4 << 30
_BUSY_S: Final = 10.0
_COPIED: Final = ("canmount", "refquota", "mountpoint")


@contextmanager
def pool(where: Place) -> Iterator[ZfsPool]:
    """Make a pool on a sparse file, and run the daemon of zfs-fuse unless this machine has OpenZFS."""
    with closing(HostZfs(where.directory) if HAS_OPENZFS else ZfsFuse(where.directory)) as zfs:
        yield zfs.make_pool(_POOL, size_bytes=_POOL_BYTES)


def volplug_on(where: Place, parent: str) -> CloudVolplug:
    """Describe a volplug with volumes below a dataset, which detaches at once after the last unmount."""
    config = f'linger_s = 0\n[backends.tank]\ndriver = "zfs"\npool = "{parent}"\n'
    return CloudVolplug(where, "volplug-zfs", config, VOLUME_SIZE)


def is_bare(volplug: CloudVolplug) -> bool:
    """Return whether no volume is attached: the driver has no notes."""
    return not any(files for _, _, files in os.walk(volplug.process.state_dir / "backends" / "tank.attached"))


class ByCommands:
    """The commands of zfs alone, each timed.

    Args:
        parent: The dataset whose children the volumes are.
        model: A volume of volplug's, whose properties the datasets get, with values of their own.
        directory: Where they are mounted.
    """

    def __init__(self, parent: str, model: str, directory: Path) -> None:
        self._parent = parent
        self._directory = directory
        shown = _run("zfs", "get", "-H", "-p", "-o", "property,value", "-s", "local", "all", model)
        found = dict(line.split("\t", 1) for line in shown.splitlines())
        del found[GUID]
        self._properties = {**found, "canmount": "noauto"}

    def path(self, name: str) -> str:
        """Return the dataset of a volume."""
        return f"{self._parent}/{name}"

    def create(self, name: str) -> float:
        """Make a dataset with the properties of a volume; return the milliseconds."""
        properties = self._properties | {"mountpoint": str(self._directory / name)}
        options = [word for each, value in properties.items() for word in ("-o", f"{each}={value}")]
        return _timed("zfs", "create", *options, self.path(name))

    def mount(self, name: str) -> float:
        """Mount it; return the milliseconds."""
        if HAS_OPENZFS:
            self._directory.joinpath(name).mkdir(exist_ok=True)
        taken_ms = _timed("zfs", "mount", self.path(name))
        os.statvfs(self._directory / name)  # zfs-fuse gets stuck if it is unmounted before it is served
        return taken_ms

    def unmount(self, name: str) -> float:
        """Unmount it; return the milliseconds."""
        return _timed("zfs", "unmount", self.path(name))

    def destroy(self, name: str, *, privately: bool = False) -> float:
        """Destroy it, in a mount namespace of its own if so; return the milliseconds."""
        return _timed(*(PRIVATELY if privately else ()), "zfs", "destroy", self.path(name))

    def read(self, name: str) -> float:
        """Read all properties that volplug asks for; return the milliseconds."""
        fields = ("-o", "name,property,value,source", ",".join(wanted(ALL)))
        return _timed("zfs", "get", "-H", "-p", *fields, self.path(name))

    def complete(self, name: str) -> float:
        """Write a guid into it, as that makes it a volume; return the milliseconds."""
        return _timed("zfs", "set", f"{GUID}=18446744073709551615", self.path(name))

    def list(self) -> float:
        """List the names; return the milliseconds."""
        return _timed("zfs", "list", "-H", "-r", "-d", "1", "-o", "name", self._parent)


def _timed(*argv: str) -> float:
    """Run a command and return the milliseconds of the attempt that succeeds.

    zfs-fuse calls a dataset busy for some milliseconds after an unmount.
    """
    deadline_s = time.monotonic() + _BUSY_S
    while True:
        try:
            return milliseconds(lambda: _run(*argv))
        except CallError as error:
            if "busy" not in str(error) or time.monotonic() > deadline_s:
                raise


def _run(*argv: str) -> str:
    ended = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise CallError(f"{' '.join(argv[:2])} failed: {ended.stderr.strip()}")
    return ended.stdout
