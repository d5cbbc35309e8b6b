"""Volumes that are not as desired, fail, are stuck, or were not used for long."""

import asyncio
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.dockerd import Dockerd
from tests.doctor.conftest import Examine, only
from tests.lab.plugin import VolplugProcess
from tests.served.volumes import image_of, process_in, record_of
from volplug.doctor.volumes import (
    KnownVolume,
    RunningWork,
    check_unused,
    check_volumes,
    judge_unused,
    judge_volume,
)
from volplug.findings import Level
from volplug.models import VolumeState
from volplug.volumes.ledger import Desired

pytestmark = [pytest.mark.api, pytest.mark.loop]

GREEN, YELLOW, RED = Level
NOW = datetime(2026, 11, 30, tzinfo=UTC)
WELL = KnownVolume("db", "loop-1", "loop", VolumeState.AVAILABLE, Desired.NONE, is_claimed=False)
IN_USE = replace(WELL, state=VolumeState.IN_USE, desired=Desired.MOUNTED, is_claimed=True)
FAILED = replace(WELL, failure="mount: the disk is broken", remedy="Replace it")


def work(minutes: float) -> RunningWork:
    return RunningWork("db", "attach", "await_backend", NOW - timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("volume", "running", "is_running", "level", "message", "remedy"),
    [
        (WELL, None, True, GREEN, "", ""),
        (IN_USE, None, True, GREEN, "", ""),
        (IN_USE, None, False, GREEN, "", ""),
        (replace(WELL, state=VolumeState.ERROR, detail="two of it"), None, True, RED, "two of it", "Repair"),
        (replace(IN_USE, is_claimed=False), work(2), True, GREEN, "", ""),
        (replace(IN_USE, is_claimed=False), work(20), True, YELLOW, "runs for 20 min, at await_b", "events"),
        (FAILED, None, True, YELLOW, "mount: the disk is broken", "Replace it"),
        (replace(FAILED, desired=Desired.DETACHED), None, True, YELLOW, "the disk is broken", "Replace it"),
        (replace(WELL, state=VolumeState.DETACHING), None, True, YELLOW, "detaching at", "the backend"),
        (replace(WELL, state=None, desired=Desired.ABSENT), None, False, YELLOW, "is to be absent", "Start"),
        (replace(WELL, desired=Desired.DETACHED), None, True, YELLOW, "to be detached", "volume release db"),
    ],
)
def test_each_trouble_of_a_volume_is_named_with_its_mend(
    volume: KnownVolume,
    running: RunningWork | None,
    is_running: bool,
    level: Level,
    message: str,
    remedy: str,
) -> None:
    found = judge_volume(volume, running, NOW, is_running=is_running)
    if found is None:
        assert level is GREEN
        return
    assert found.level is level
    assert message in found.message
    assert remedy in found.remedy


async def test_volumes_of_a_volplug_that_runs_or_was_killed(
    volplug: VolplugProcess, dockerd: Dockerd, examine: Examine
) -> None:
    await dockerd.ok("Create", Name="db", Opts={"size": "16MiB"})
    await dockerd.ok("Mount", Name="db", ID="c1")
    assert only(await examine(check_volumes)).message == "1 known to volplug, each as desired"
    data = volplug.mount_root / "db"
    with process_in(data):
        await dockerd.call("Unmount", Name="db", ID="c1")
        volplug.kill()
        found = only(await examine(check_volumes))
    assert (found.level, found.subject) == (YELLOW, "db")
    await asyncio.to_thread(volplug.start)
    await dockerd.hang_up()
    await dockerd.ok("Mount", Name="db", ID="c1")
    await dockerd.ok("Unmount", Name="db", ID="c1")
    record = record_of(volplug, "db")
    await asyncio.to_thread(record.write_text, "{}")
    found = only(await examine(check_volumes))
    assert (found.level, found.message[:9]) == (RED, "in error:")


@pytest.mark.parametrize("is_served", [True, False])
async def test_volumes_that_were_not_used_for_days_are_listed(
    volplug: VolplugProcess, dockerd: Dockerd, examine: Examine, is_served: bool
) -> None:
    for name in ("old", "new"):
        await dockerd.ok("Create", Name=name, Opts={"size": "16MiB"})
    long_ago_s = time.time() - 40 * 86_400
    os.utime(image_of(volplug, "old"), (long_ago_s, long_ago_s))
    if not is_served:
        volplug.stop()
    found = only(await examine(check_unused, unused_days=30))
    assert (found.level, found.subject, found.message) == (YELLOW, "old", "not used for 40 days")
    assert found.remedy == "If no host needs it: docker volume rm old"
    assert only(await examine(check_unused, unused_days=50)).level is GREEN
    assert await examine(check_unused) == []


def test_a_backend_that_does_not_tell_the_last_use_is_named() -> None:
    at_cloud = replace(WELL, backend="ebs", created_at=NOW - timedelta(days=90))
    in_use = replace(at_cloud, name="used", state=VolumeState.IN_USE)
    young = replace(at_cloud, name="young", created_at=NOW - timedelta(days=1))
    found = only(judge_unused([at_cloud, in_use, young], {}, 30, NOW.timestamp()))
    assert (found.level, found.subject) == (GREEN, "backend ebs")
    assert "when 1 volumes" in found.message
