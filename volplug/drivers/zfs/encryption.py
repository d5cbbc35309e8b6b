"""The keys of encrypted datasets, which ZFS forgets when their pool is exported or the host is restarted."""

from __future__ import annotations

from volplug.drivers.zfs.tools import ZfsTools


async def load_key(tools: ZfsTools, dataset: str) -> None:
    """Load the key of a dataset from the place that it was created with, if it is not loaded.

    Raises:
        VolplugError: If the key cannot be read, or is another.
    """
    status = await tools.read("zfs", "get", "-H", "-o", "value", "keystatus", dataset)
    if status.strip() == "unavailable":
        await tools.change("zfs", "load-key", dataset)
