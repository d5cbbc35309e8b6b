"""Shared by the cases: the calls that change a volume, and values for them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Final

from volplug.drivers.base import Driver, Settles
from volplug.findings import Finding, Level
from volplug.models import (
    BlockDevice,
    FilesystemPhase,
    FilesystemTag,
    MountSource,
    Volume,
    VolumeSpec,
    VolumeState,
)

CHANGES: Final = ("delete", "attach", "detach", "tag_filesystem")
_TRANSITION_S: Final = 60.0
_UUID: Final = "0c6f6d3c-9a0b-4f0e-8a4e-111122223333"


def tags_of(driver: Driver) -> tuple[FilesystemTag, ...]:
    """Return the tags that the volumes of a driver may have: formatting, formatted, if possible pending."""
    own = driver.info.own_filesystem
    phases = (FilesystemPhase.FORMATTING, FilesystemPhase.FORMATTED)
    tags = tuple(FilesystemTag(phase, own or "xfs", _UUID) for phase in phases)
    return tags if own else (*tags, FilesystemTag())


def is_new(driver: Driver, tag: FilesystemTag) -> bool:
    """Tell whether a tag is that of a new volume: blank, or the driver's own filesystem."""
    if own := driver.info.own_filesystem:
        return (tag.phase, tag.fs_type, bool(tag.uuid)) == (FilesystemPhase.FORMATTING, own, True)
    return tag == FilesystemTag()


def size_of(source: MountSource) -> int:
    """Return the size of a device; 0 for a filesystem by name."""
    return source.size_bytes if isinstance(source, BlockDevice) else 0


def by_id(volumes: Iterable[Volume]) -> list[Volume]:
    """Sort volumes, to compare lists in any order."""
    return sorted(volumes, key=lambda volume: volume.volume_id)


async def change(driver: Driver, volume: Volume, call: str) -> None:
    """Make one of the calls that change a volume."""
    if call == "tag_filesystem":
        await driver.tag_filesystem(volume, tags_of(driver)[0])
    else:
        await getattr(driver, call)(volume)


async def located(driver: Driver, volume: Volume) -> MountSource | None:
    """Return the volume's device, located in a thread as the core does."""
    return await asyncio.to_thread(driver.locate, volume)


def problem_of(finding: Finding) -> str:
    """Return what is malformed of a finding, "" if nothing is; see `Finding`."""
    is_green = finding.level is Level.GREEN
    rules = {
        "its check is no name in lower case": re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", finding.check) is None,
        "it has no message": not finding.message,
        "its text is not one line": len(f"{finding.message}{finding.remedy}".splitlines()) > 1,
        "it is green and has a remedy": is_green and bool(finding.remedy or finding.fix),
        "it is not green and has no remedy": not is_green and not finding.remedy,
    }
    return ", ".join(problem for problem, is_so in rules.items() if is_so)


async def finish_creation(driver: Driver, spec: VolumeSpec) -> Volume | None:
    """Finish an interrupted creation, as the core does; return the volume, None if there is none."""
    left = await driver.get(spec.name)
    if left is not None and left.state is VolumeState.CREATING and isinstance(driver, Settles):
        return await driver.wait_settled(left, _TRANSITION_S)
    if left is not None and left.state is VolumeState.INCOMPLETE:
        return await driver.create(spec)
    return left
