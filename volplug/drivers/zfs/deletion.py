"""Destroys datasets: what ZFS itself does not refuse."""

from __future__ import annotations

import asyncio
from typing import Final

from volplug.drivers.zfs.commands import Datasets
from volplug.drivers.zfs.datasets import Dataset
from volplug.drivers.zfs.tools import ZfsTools
from volplug.errors import VolumeInUse

_BUSY: Final = "is busy"
# zfs-fuse hears of the end of a mount only some time after the unmount has returned.
_LAG_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


class Deletion:
    """Deletes the volume of a dataset.

    Args:
        datasets: Of the backend.
        tools: Run the commands.
        lags: Whether ZFS may take a dataset for in use that was unmounted a moment ago.
    """

    def __init__(self, datasets: Datasets, tools: ZfsTools, *, lags: bool) -> None:
        self._datasets = datasets
        self._tools = tools
        self._pauses_s = _LAG_S if lags else ()

    async def destroy(self, dataset: Dataset) -> None:
        """Destroy a dataset and the snapshots that volplug made of it for itself.

        Raises:
            VolumeInUse: If it is in use, or has snapshots, children or clones of others; naming them.
        """
        for pause_s in self._pauses_s:
            try:
                await self._destroy(dataset)
            except VolumeInUse as error:
                if _BUSY not in error.cause:
                    raise
                await asyncio.sleep(pause_s)
            else:
                return
        await self._destroy(dataset)

    async def _destroy(self, dataset: Dataset) -> None:
        try:
            await self._datasets.destroy(dataset)
        except VolumeInUse as error:
            snapshots = await self._datasets.snapshots(dataset.name)
            is_ours = all(each.purpose for each in snapshots) and not await self._has_children(dataset)
            if _BUSY in error.cause or not snapshots or not is_ours:
                raise VolumeInUse(f"volume {dataset.guid}: {error.cause}", error.remedy) from error
            for each in snapshots:
                await self._tools.change("zfs", "destroy", f"{dataset.name}@{each.name}")
            await self._datasets.destroy(dataset)

    async def _has_children(self, dataset: Dataset) -> bool:
        argv = ("zfs", "list", "-H", "-r", "-d", "1", "-t", "filesystem,volume", "-o", "name", dataset.name)
        return len((await self._tools.read(*argv)).splitlines()) > 1
