"""Deletes the dataset of a volume, with the snapshots that volplug made of it for itself."""

from __future__ import annotations

from volplug.drivers.zfs.commands import Datasets
from volplug.drivers.zfs.datasets import Dataset
from volplug.drivers.zfs.tools import ZfsTools
from volplug.errors import VolumeInUse


async def destroy_volume(datasets: Datasets, tools: ZfsTools, dataset: Dataset) -> None:
    """Destroy a dataset that is not in use and has nothing of others.

    Raises:
        VolumeInUse: If it is in use, or has snapshots, children or clones of others; naming them.
        VolumeNotFound: If it is gone, or another dataset has its name.
    """
    try:
        await datasets.destroy(dataset)
    except VolumeInUse as error:
        own = await _own_snapshots(datasets, tools, dataset) if "is busy" not in error.cause else ()
        if not own:
            raise VolumeInUse(f"volume {dataset.guid}: {error.cause}", error.remedy) from error
        for name in own:
            await tools.change("zfs", "destroy", f"{dataset.name}@{name}")
        await datasets.destroy(dataset)


async def _own_snapshots(datasets: Datasets, tools: ZfsTools, dataset: Dataset) -> tuple[str, ...]:
    """Return the snapshots of a dataset if nothing else keeps it from being destroyed."""
    snapshots = await datasets.snapshots(dataset.name)
    argv = ("zfs", "list", "-H", "-r", "-d", "1", "-t", "filesystem,volume", "-o", "name", dataset.name)
    has_children = len((await tools.read(*argv)).splitlines()) > 1
    is_ours = all(each.purpose for each in snapshots) and not has_children
    return tuple(each.name for each in snapshots) if is_ours else ()
