"""Sends and receives volumes of a pool; see `volplug.drivers.copies.SendsCopies`."""

from __future__ import annotations

from typing import Final

from volplug.drivers.zfs import volumes
from volplug.drivers.zfs.commands import Datasets
from volplug.drivers.zfs.datasets import GUID, Dataset
from volplug.drivers.zfs.properties import NAME
from volplug.drivers.zfs.streams import Streams
from volplug.errors import UnexpectedState, VolumeExists, VolumeNotFound

_TOKEN: Final = "token "  # noqa: S105  # of a stream that was cut
_GUIDS: Final = "snapshots "


class DatasetCopies:
    """Sends volumes, and receives copies.

    Args:
        datasets: The children.
        streams: Their streams.
    """

    def __init__(self, datasets: Datasets, streams: Streams) -> None:
        self._datasets = datasets
        self._streams = streams

    async def received(self, name: str) -> str:
        """Return the token of a stream that was cut, or else the guids of all snapshots."""
        if token := await self._streams.resume_token(name):
            return f"{_TOKEN}{token}"
        copy = await self._datasets.find(name)
        if copy is None or not is_copy(copy):
            return ""
        snapshots = await self._datasets.snapshots(copy.name)
        return f"{_GUIDS}{','.join(each.guid for each in snapshots)}"

    async def send_to(self, stream: int, dataset: Dataset, received: str) -> None:
        """Send the rest of a stream, or a new snapshot, which the next stream can begin at.

        Older ones that volplug made are destroyed, but for the one that this stream begins at: should it be
        cut, the next begins there again.
        """
        if not dataset.is_volume:
            raise VolumeNotFound(f"the creation of {dataset.name} was interrupted")
        if received.startswith(_TOKEN):
            await self._streams.send_rest_to(stream, received.removeprefix(_TOKEN))
            return
        guids = received.removeprefix(_GUIDS).split(",")
        base = await self._streams.common(dataset, guids)
        if received and base is None:
            raise UnexpectedState(
                f"{dataset.name} and its copy have no common snapshot", "Destroy the copy, and send all of it"
            )
        snapshot = await self._streams.snapshot(dataset)
        kept = {snapshot.guid, base.guid} if base else {snapshot.guid}
        await self._streams.clean_up(dataset, kept)
        await self._streams.send_to(stream, dataset, snapshot, base)

    async def receive(self, stream: int, name: str) -> None:
        """Receive into a new dataset, or into a copy."""
        existing = await self._datasets.find(name)
        is_begun = existing is None or is_copy(existing) or await self._streams.resume_token(name)
        if existing is not None and not is_begun:
            raise VolumeExists(f"the dataset {existing.name} ({existing.guid}) exists and is no copy")
        await self._streams.receive(stream, name)

    async def adopt(self, name: str) -> Dataset:
        """Write the guid of a whole copy into it, and destroy the snapshots that came with it."""
        copy = await self._datasets.find(name)
        if copy is None or await self._streams.resume_token(name):
            raise VolumeNotFound(f"there is no whole copy {self._datasets.path(name)}")
        if is_copy(copy):
            await self._datasets.complete(copy)
        elif not copy.is_volume:
            raise VolumeNotFound(f"the dataset {copy.name} is neither a copy nor a volume")
        await self._streams.clean_up(copy)
        return (await self._datasets.find(name)) or copy


def is_copy(dataset: Dataset) -> bool:
    """Tell whether a dataset is a copy of a volume of its name: it has the guid of the original."""
    return (
        not dataset.is_volume
        and GUID in dataset.own
        and dataset.own.get(NAME, "") == volumes.name_of(dataset)
    )
