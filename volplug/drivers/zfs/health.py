"""A pool's health in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from volplug.drivers.zfs.tools import ZfsTools
from volplug.errors import BackendUnavailable, UnexpectedState, VolplugError
from volplug.findings import Finding, Level

_CHECK: Final = "zfs-pool"
_NEARLY_FULL_PERCENT: Final = 90  # ZFS becomes slow; see zpoolconcepts(7) and `zpool list`
_NO_ERRORS: Final = "errors: No known data errors"
# Of zpool status, besides the pool's own state; a pool may be ONLINE although a disk of it is missing.
_BROKEN_DEVICE: Final = ("UNAVAIL", "FAULTED", "REMOVED", "OFFLINE", "DEGRADED")
_UNUSABLE: Final = {
    "FAULTED": "the pool is faulted: too many of its disks are damaged or missing",
    "UNAVAIL": "the pool is unavailable: too many of its disks are missing",
    "REMOVED": "the pool's disks were removed",
    "SUSPENDED": "the pool is suspended: its disks do not answer",
    "OFFLINE": "the pool is offline",
}


@dataclass(frozen=True, slots=True)
class PoolHealth:
    """What ZFS says of a pool.

    Attributes:
        pool: Its name.
        state: ONLINE, DEGRADED, FAULTED, SUSPENDED, UNAVAIL, REMOVED or OFFLINE.
        used_percent: How full it is.
        is_readonly: Whether it was imported so.
        broken_devices: Those of its disks that are not as they should be, with their state.
        has_data_errors: Whether data was lost.
    """

    pool: str
    state: str
    used_percent: int
    is_readonly: bool
    broken_devices: tuple[str, ...]
    has_data_errors: bool

    def with_space(self, used: int, available: int) -> PoolHealth:
        """Return it as full as a dataset of the pool is, which cannot have what is reserved for others."""
        whole = used + available
        return replace(self, used_percent=max(self.used_percent, 100 * used // whole if whole else 100))


async def pool_health(tools: ZfsTools, pool: str, *, has_readonly: bool) -> PoolHealth:
    """Ask for a pool's health, with two commands that do not touch its disks.

    Args:
        tools: Run them.
        pool: The pool.
        has_readonly: ZFS can import pools read-only; zfs-fuse cannot.

    Raises:
        BackendUnavailable: If the pool is not imported, or there is no answer.
    """
    columns = "health,cap,readonly" if has_readonly else "health,cap"
    listed = await tools.read("zpool", "list", "-H", "-o", columns, pool)
    return read_health(pool, listed, await tools.read("zpool", "status", pool))


def read_health(pool: str, listed: str, status: str) -> PoolHealth:
    """Read what `zpool list` and `zpool status` print of one pool.

    Raises:
        UnexpectedState: If it cannot be read.
    """
    match listed.split():
        case [state, "-", *readonly]:  # of a faulted pool more is not known
            used_percent = 0
        case [state, percent, *readonly] if percent.removesuffix("%").isdecimal():
            used_percent = int(percent.removesuffix("%"))
        case _:
            raise UnexpectedState(f"what zpool prints of {pool} cannot be read")
    _, _, config = status.partition("\tNAME ")
    rows = [line.split() for line in config.partition("\nerrors:")[0].splitlines()[1:]]
    disks = [(row[0], _broken(row)) for row in rows if len(row) > 1 and row[0] != pool]
    return PoolHealth(
        pool=pool,
        state="SUSPENDED" if "state: SUSPENDED" in status else state,
        used_percent=used_percent,
        is_readonly=readonly == ["on"],
        broken_devices=tuple(f"{name} {what}" for name, what in disks if what),
        has_data_errors="errors:" in status and _NO_ERRORS not in status,
    )


def _broken(row: list[str]) -> str:
    """Return what is wrong with a disk, by its row: name, state, errors of reads, writes and checksums."""
    if row[1] in _BROKEN_DEVICE:
        return row[1]
    return "has errors" if any(count != "0" for count in row[2:5]) else ""


def check_usable(health: PoolHealth) -> None:
    """Check that volumes of the pool can be created and used.

    Raises:
        BackendUnavailable: If they cannot; a degraded or full pool can be used.
    """
    remedy = f"zpool status {health.pool} names them"
    if cause := _UNUSABLE.get(health.state):
        raise BackendUnavailable(f"{cause} ({health.pool})", remedy)
    if health.is_readonly:
        raise BackendUnavailable(f"pool {health.pool} is imported read-only", "Import it without readonly=on")


def findings(health: PoolHealth | VolplugError, pool: str) -> Sequence[Finding]:
    """Return what doctor shows of a pool.

    Args:
        health: As asked for, or why it could not be.
        pool: Its name.
    """
    if isinstance(health, VolplugError):
        return [Finding(_CHECK, Level.RED, pool, health.cause, health.remedy or f"zpool status {pool}")]
    try:
        check_usable(health)
    except VolplugError as error:
        return [Finding(_CHECK, Level.RED, pool, error.cause, error.remedy)]
    found = []
    if health.has_data_errors:
        what = "data on the pool is damaged beyond repair"
        found.append(Finding(_CHECK, Level.RED, pool, what, f"zpool status -v {pool} lists the files"))
    if health.broken_devices or health.state != "ONLINE":
        what = f"disks are failing or missing: {', '.join(health.broken_devices) or health.state}"
        found.append(
            Finding(
                _CHECK,
                Level.YELLOW,
                pool,
                what,
                "zpool status; then zpool online, zpool replace or zpool clear the disk",
            )
        )
    if health.used_percent >= _NEARLY_FULL_PERCENT:
        what = f"the pool is {health.used_percent}% full"
        found.append(Finding(_CHECK, Level.YELLOW, pool, what, "Free space in it, or add disks"))
    well = f"the pool is online, {health.used_percent}% full"
    return found or [Finding(_CHECK, Level.GREEN, pool, well)]
