"""Drivers on the pools of the lab, and volumes for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

from tests.lab.zfs import HostZfs, run_program
from volplug.drivers.zfs.attachments import Attachments
from volplug.drivers.zfs.driver import ZfsDriver, ZfsHost
from volplug.drivers.zfs.settings import ZfsSettings
from volplug.drivers.zfs.tools import RunProgram
from volplug.models import VolumeSpec
from volplug.sizes import MIB
from volplug.steps import OnStep, unannounced

SIZE = 16 * MIB


def spec_of(name: str, size_bytes: int = SIZE, **options: str) -> VolumeSpec:
    return VolumeSpec(name, size_bytes, "zfs", driver_options=tuple(sorted(options.items())))


def never_fresh() -> Callable[[], float]:
    """A clock by which nothing that was read is kept."""
    return count(0, 100).__next__


def driver_of(
    parent: str,
    directory: Path,
    clock: Callable[[], float] | None = None,
    on_step: OnStep = unannounced,
    settings: ZfsSettings | None = None,
    run: RunProgram = run_program,
    boot_id: str = "",
) -> ZfsDriver:
    """A driver as after a restart; the directory is the host's memory."""
    host = ZfsHost(
        "host-a",
        Attachments(directory / "attached", boot_id),
        directory / "staging",
        run,
        on_step,
        clock or never_fresh(),
    )
    return ZfsDriver("tank", settings or ZfsSettings(pool=parent, reserve=""), host)


async def despite_crashes(zfs: HostZfs, attempt: Callable[[], Awaitable[None]]) -> None:
    """Make an attempt, and up to two more if it was zfs-fuse that failed."""
    for may_fail in (True, True, False):
        try:
            return await attempt()
        except Exception:
            if not (may_fail and zfs.revive()):
                raise
    return None
