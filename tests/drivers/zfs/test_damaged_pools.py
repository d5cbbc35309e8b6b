"""Real pools that lose their disks."""

from __future__ import annotations

import os

import pytest

from tests.lab.requirements import ZFS
from tests.lab.zfs import HostZfs
from volplug.drivers.zfs.capabilities import Capabilities
from volplug.drivers.zfs.health import PoolHealth, findings, pool_health
from volplug.drivers.zfs.tools import ZfsTools
from volplug.errors import VolplugError
from volplug.findings import Level
from volplug.sizes import MIB

pytestmark = ZFS


async def test_a_real_pool_that_loses_a_disk_and_then_all(
    zfs: HostZfs, tools: ZfsTools, capabilities: Capabilities
) -> None:
    async def health() -> PoolHealth:
        return await pool_health(tools, "mir", has_readonly=capabilities.mounts_by_kernel)

    pool = zfs.make_pool("mir", size_bytes=64 * MIB, files=2)
    assert [each.level for each in findings(await health(), "mir")] == [Level.GREEN]
    zfs.zpool("offline", "mir", str(pool.files[1]))
    degraded = await health()
    assert (degraded.state, degraded.broken_devices[-1]) == ("DEGRADED", f"{pool.files[1]} OFFLINE")
    zfs.zpool("online", "mir", str(pool.files[1]))
    zfs.zpool("export", "mir")
    with pytest.raises(VolplugError, match="pool is not imported") as missing:
        await health()
    assert [each.level for each in findings(missing.value, "mir")] == [Level.RED]
    pool.files[1].write_bytes(os.urandom(64 * MIB))
    zfs.zpool("import", "-d", str(zfs.directory), "mir")
    assert [each.level for each in findings(await health(), "mir")] == [Level.YELLOW]
    zfs.zpool("export", "mir")
    pool.files[0].write_bytes(os.urandom(64 * MIB))
    assert "no such pool" in zfs.run(["zpool", "import", "-d", str(zfs.directory), "mir"]).stderr
