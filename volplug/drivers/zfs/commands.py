"""What is done to datasets: each method is a command or two. Decides nothing about volumes."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from volplug.drivers.zfs.capabilities import Capabilities
from volplug.drivers.zfs.datasets import GUID, Dataset, Property, read_datasets, wanted
from volplug.drivers.zfs.properties import ALL, PURPOSE
from volplug.drivers.zfs.tools import ZfsTools
from volplug.errors import (
    BackendUnavailable,
    LimitExceeded,
    UnexpectedState,
    VolumeExists,
    VolumeInUse,
    VolumeNotFound,
)

# No volume has such a name: Docker's begin with a letter or a digit.
_RESERVE: Final = "_reserve"
# Seen: some milliseconds, up to half a second on a busy machine.
_UNMOUNT_HEARD_S: Final = 2.0
_BUSY_POLL_S: Final = 0.02
_DOES_NOT_EXIST: Final = "cannot open '{}': dataset does not exist"
_DESTROY: Final = Path(__file__).with_name("destroy.lua")
_RETURNED: Final = re.compile(r'\{\s*"return"\s*:\s*(-?[0-9]+)\s*\}', re.ASCII)
PRIVATELY: Final = ("unshare", "--mount", "--propagation", "private", "--")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of a dataset.

    Attributes:
        name: Without the dataset's.
        guid: The same in every copy that `zfs receive` makes.
        purpose: What volplug made it for; empty for a snapshot of another party.
    """

    name: str
    guid: str
    purpose: str


class Datasets:
    """The children of one dataset.

    Args:
        tools: Run the commands.
        parent: The dataset, such as `tank/volplug`.
        capabilities: Of this host's ZFS.
        reserve_bytes: Space kept for metadata; 0 for none.
    """

    def __init__(
        self, tools: ZfsTools, parent: str, capabilities: Capabilities, reserve_bytes: int = 0
    ) -> None:
        self._tools = tools
        self._parent = parent
        self._capabilities = capabilities
        self._reserve_bytes = reserve_bytes

    def path(self, name: str) -> str:
        """Return the dataset of a volume: `zfs list` shows it under its Docker name."""
        return f"{self._parent}/{name}"

    async def list(self) -> tuple[Dataset, ...]:
        """Return all children, with one command; grandchildren are not asked for.

        Raises:
            BackendUnavailable: If the parent does not exist.
        """
        try:
            found = await self._get(self._parent, depth=1)
        except VolumeNotFound:
            raise self._no_parent() from None
        return tuple(each for each in found if each.name not in (self._parent, self.path(_RESERVE)))

    async def find(self, name: str) -> Dataset | None:
        """Return one child, or None if ZFS is sure that there is none.

        ZFS says of a dataset in a pool that is not imported that it does not exist; so the parent has to
        exist before and after it was looked for. `zfs get` opens what it is given one after the other, and
        complains of each that does not exist.

        Raises:
            BackendUnavailable: If the parent does not exist.
        """
        return await self._find(self.path(name))

    async def _find(self, path: str) -> Dataset | None:
        try:
            found = await self._get(self._parent, path, self._parent, repeated=self._parent)
        except VolumeNotFound as error:
            if error.cause == _DOES_NOT_EXIST.format(path):
                return None
            raise self._no_parent() from None
        child = [each for each in found if each.name == path]
        if not child:
            raise UnexpectedState(f"{path} is no filesystem", "Choose another name")
        return child[0]

    async def check_parent(self) -> Dataset:
        """Return the parent.

        Raises:
            BackendUnavailable: If there is none.
        """
        try:
            return (await self._get(self._parent))[0]
        except (VolumeNotFound, IndexError):
            raise self._no_parent() from None

    async def create(self, name: str, native: Mapping[str, str], properties: Mapping[str, str]) -> None:
        """Create a dataset with its properties, at once; it is no volume before `complete`.

        Raises:
            VolumeExists: If there is one of this name.
            LimitExceeded: If the pool is full.
        """
        given = [word for each in (native, properties) for pair in each.items() for word in _option(pair)]
        try:
            await self._tools.change("zfs", "create", *given, self.path(name))
        except VolumeNotFound:
            await self.check_parent()  # which tells what is missing
            raise

    async def complete(self, dataset: Dataset) -> None:
        """Write a dataset's guid into it, which makes it a volume."""
        await self.set(dataset.name, {GUID: dataset.guid})

    async def set(self, dataset: str, properties: Mapping[str, str]) -> None:
        """Set properties, at once where ZFS can; on a full pool with the space of the reserve."""
        pairs = [f"{name}={value}" for name, value in properties.items()]
        for group in [pairs] if self._capabilities.sets_several else [[pair] for pair in pairs]:
            await self._with_reserve(partial(self._tools.change, "zfs", "set", *group, dataset))

    async def destroy(self, dataset: Dataset) -> None:
        """Destroy a dataset, unless it is mounted or in use anywhere, or has snapshots or children.

        It is read right before each attempt, so that the caller may have read it some time ago.

        A program (destroy.lua) compares the guid and destroys at once, and unmounts nothing. Without
        programs, `zfs destroy` unmounts what is mounted and idle in its own mount namespace. In one that sees
        copies of this host's mounts it can unmount these alone, and the mounts themselves make it refuse.

        Raises:
            VolumeNotFound: If it is gone, or another dataset has its name.
            VolumeInUse: If it is in use, or has snapshots, children or clones.
        """

        async def destroy_it() -> None:
            found = await self._find(dataset.name)
            if found is None or (found.guid, found.own.get(GUID)) != (dataset.guid, dataset.own.get(GUID)):
                raise VolumeNotFound(f"{dataset.name} is another dataset now")
            if self._capabilities.runs_programs:
                await self._destroy_by_program(found)
            else:
                await self._tools.change(*PRIVATELY, "zfs", "destroy", found.name)

        await self._not_busy_any_more(destroy_it)

    async def _destroy_by_program(self, dataset: Dataset) -> None:
        """Destroy a dataset; see `destroy`, and destroy.lua for what is printed."""
        pool = dataset.name.partition("/")[0]
        signed_guid = (int(dataset.guid) + 2**63) % 2**64 - 2**63  # as a program's numbers are
        argv = ("zfs", "program", "-j", "--", pool, str(_DESTROY), dataset.name, str(signed_guid))
        printed = await self._tools.change(*argv)
        returned = _RETURNED.fullmatch(printed.strip())
        if returned is None:
            raise UnexpectedState(f"what zfs program prints cannot be read: {printed[:100]!r}")
        number = int(returned[1])
        if number == 0:
            return
        if number < 0:
            raise VolumeNotFound(f"{dataset.name} is another dataset now, or gone")
        # This changes nothing, and names children and snapshots, which a program does not.
        await self._tools.read(*PRIVATELY, "zfs", "destroy", "-n", dataset.name)
        if number == errno.EBUSY:
            raise VolumeInUse(f"cannot destroy '{dataset.name}': dataset is busy", "Stop what uses it")
        raise UnexpectedState(f"cannot destroy '{dataset.name}': {os.strerror(number)}")

    async def snapshots(self, dataset: str) -> tuple[Snapshot, ...]:
        """Return the snapshots of a dataset, oldest first."""
        fields = ("-o", "name,property,value,source", f"guid,{PURPOSE}")
        output = await self._tools.read("zfs", "get", "-H", "-p", "-r", "-d", "1", *fields, dataset)
        found: dict[str, dict[str, Property]] = {}
        for line in output.splitlines():
            name, _, rest = line.partition("\t")
            what, _, rest = rest.partition("\t")
            value, _, source = rest.rpartition("\t")
            if name.startswith(f"{dataset}@"):
                found.setdefault(name.partition("@")[2], {})[what] = Property(value, source)
        return tuple(
            Snapshot(name, each["guid"].value, each[PURPOSE].value if each[PURPOSE].is_own else "")
            for name, each in found.items()
        )

    async def keep_reserve(self) -> None:
        """Make the reserve, or make it whole after a crash in between; without space for it there is none."""
        if not self._reserve_bytes:
            return
        size = f"refreservation={self._reserve_bytes}"
        reserve = self.path(_RESERVE)
        try:
            await self._tools.change("zfs", "create", "-o", "mountpoint=none", "-o", size, reserve)
        except VolumeExists:
            await self._fill_reserve()
        except LimitExceeded:
            return

    async def _not_busy_any_more(self, change: Callable[[], Awaitable[object]]) -> None:
        """Run a command that a dataset in use refuses; the daemon of zfs-fuse hears of an unmount late."""
        patience_s = 0.0 if self._capabilities.mounts_by_kernel else _UNMOUNT_HEARD_S
        deadline = time.monotonic() + patience_s
        while True:
            try:
                await change()
            except VolumeInUse as error:
                if "is busy" not in error.cause or time.monotonic() >= deadline:
                    raise
            else:
                return
            await asyncio.sleep(_BUSY_POLL_S)

    async def _fill_reserve(self) -> None:
        try:
            size = f"refreservation={self._reserve_bytes}"
            await self._tools.change("zfs", "set", size, self.path(_RESERVE))
        except LimitExceeded:
            return  # once there is space again

    async def _with_reserve(self, change: Callable[[], Awaitable[object]]) -> None:
        """Run a command, once more with the reserve given back if the pool is full."""
        try:
            await change()
        except LimitExceeded:
            try:
                await self._tools.change("zfs", "set", "refreservation=none", self.path(_RESERVE))
            except VolumeNotFound:
                raise LimitExceeded("the pool is full", "Free space in it, or add disks") from None
            try:
                await change()
            finally:
                await self._fill_reserve()

    def _no_parent(self) -> BackendUnavailable:
        pool = self._parent.partition("/")[0]
        return BackendUnavailable(
            f"there is no dataset {self._parent}",
            f"Import its pool: zpool import {pool}; or make it: zfs create -p {self._parent}",
        )

    async def _get(self, *datasets: str, depth: int = 0, repeated: str = "") -> tuple[Dataset, ...]:
        below = ("-r", "-d", str(depth)) if depth else ()
        fields = ("-o", "name,property,value,source", ",".join(wanted(ALL)))
        output = await self._tools.read("zfs", "get", "-H", "-p", *below, *fields, *datasets)
        return read_datasets(output, ALL, repeated)


def _option(pair: tuple[str, str]) -> tuple[str, str]:
    return "-o", f"{pair[0]}={pair[1]}"
