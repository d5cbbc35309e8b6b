"""Copies of datasets as streams: `zfs send` and `zfs receive`, incremental from a common snapshot.

A stream brings the dataset's properties. The copy's guid is not the one in them, so it is no volume before
`Datasets.complete`, however far it came.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Final

from volplug.drivers.zfs.capabilities import Capabilities
from volplug.drivers.zfs.commands import Datasets, Snapshot
from volplug.drivers.zfs.datasets import Dataset
from volplug.drivers.zfs.properties import PURPOSE
from volplug.drivers.zfs.tools import ZfsTools
from volplug.errors import VolumeNotFound

_SEND: Final = "send"
_NO_TOKEN: Final = ("", "-")


class Streams:
    """Sends and receives the children of one dataset.

    Args:
        tools: Run the commands.
        datasets: The children.
        capabilities: Of this host's ZFS.
    """

    def __init__(self, tools: ZfsTools, datasets: Datasets, capabilities: Capabilities) -> None:
        self._tools = tools
        self._datasets = datasets
        self._capabilities = capabilities

    async def snapshot(self, dataset: Dataset) -> Snapshot:
        """Make a snapshot to be sent, which `clean_up` knows as volplug's from its first moment."""
        name = f"volplug-{uuid.uuid4().hex[:12]}"
        await self._tools.change("zfs", "snapshot", "-o", f"{PURPOSE}={_SEND}", f"{dataset.name}@{name}")
        return next(each for each in await self._datasets.snapshots(dataset.name) if each.name == name)

    async def common(self, dataset: Dataset, guids: Collection[str]) -> Snapshot | None:
        """Return the newest snapshot that a copy has, too, by the guids of the copy's snapshots."""
        found = [each for each in await self._datasets.snapshots(dataset.name) if each.guid in guids]
        return found[-1] if found else None

    async def send_to(
        self, stream: int, dataset: Dataset, snapshot: Snapshot, base: Snapshot | None = None
    ) -> None:
        """Write a snapshot to a descriptor, whole or what has changed since an older one of the dataset.

        Raises:
            VolplugError: If it could not be sent, or the reader has closed the stream.
        """
        since = ("-i", f"@{base.name}") if base else ()
        argv = ("zfs", "send", "-p", *since, f"{dataset.name}@{snapshot.name}")
        await self._tools.stream(*argv, stdout=stream)

    async def send_rest_to(self, stream: int, token: str) -> None:
        """Write the rest of a stream that was cut, from where the copy's `resume_token` says."""
        await self._tools.stream("zfs", "send", "-t", token, stdout=stream)

    async def receive(self, stream: int, name: str) -> None:
        """Read a stream into a new dataset, or into the copy whose newest snapshot is the stream's base.

        A failure does not prove that the snapshot is not there: the stream may have been cut behind it. So
        compare the guids of snapshots again (`common`) before the next try.

        A copy that was changed since is not rolled back. Of a stream that is cut, what arrived is kept where
        ZFS can: see `resume_token`; elsewhere nothing is left of it.

        Raises:
            UnexpectedState: If the stream is cut or damaged, or its base is not the newest snapshot.
            VolumeExists: If the stream is whole, and there is a dataset.
        """
        # A path of another host must not become a mountpoint of this one.
        safely = ("-s", "-o", "mountpoint=legacy") if self._capabilities.resumes else ()
        argv = ("zfs", "receive", "-u", *safely, self._datasets.path(name))
        await self._tools.stream(*argv, stdin=stream)

    async def resume_token(self, name: str) -> str:
        """Return what `send_rest_to` needs to continue a stream that was cut; empty if there is none."""
        if not self._capabilities.resumes:
            return ""
        what = ("-o", "value", "receive_resume_token", self._datasets.path(name))
        try:
            token = (await self._tools.read("zfs", "get", "-H", *what)).strip()
        except VolumeNotFound:
            return ""
        return "" if token in _NO_TOKEN else token

    async def abandon(self, name: str) -> None:
        """Remove what is kept of a stream that was cut; an older state of the copy stays."""
        if await self.resume_token(name):
            await self._tools.change("zfs", "receive", "-A", self._datasets.path(name))

    async def clean_up(self, dataset: Dataset, keep: Collection[str] = ()) -> None:
        """Destroy volplug's snapshots of a dataset but those with certain guids; others' are not touched."""
        for each in await self._datasets.snapshots(dataset.name):
            if each.purpose == _SEND and each.guid not in keep:
                await self._tools.change("zfs", "destroy", f"{dataset.name}@{each.name}")
