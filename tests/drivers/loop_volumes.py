"""Loop volumes as a crash or a careless hand leaves them."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.lab import loops
from volplug.drivers.loop.driver import LoopDriver
from volplug.drivers.loop.records import RecordFiles
from volplug.errors import UnexpectedState
from volplug.models import Volume, VolumeSpec, VolumeState
from volplug.sizes import MIB

SIZE = 4 * MIB


def spec_of(name: str = "v", size_bytes: int = SIZE, allocation: str = "") -> VolumeSpec:
    options = (("allocation", allocation),) if allocation else ()
    return VolumeSpec(name, size_bytes, driver_options=options)


def driver_of(directory: Path, overcommit: float = 1.0, id_copy: Path | None = None) -> LoopDriver:
    return LoopDriver("loop", "host1", directory, overcommit, id_copy)


async def created(images: Path, name: str = "v") -> Volume:
    return await driver_of(images).create(spec_of(name))


def image_of(directory: Path, name: str = "v") -> Path:
    return directory / f"{name}.img"


def record_of(directory: Path, name: str = "v") -> Path:
    return directory / f"{name}.json"


def leave_creation(
    directory: Path,
    spec: VolumeSpec,
    image_bytes: int,
    state: VolumeState = VolumeState.INCOMPLETE,
) -> Volume:
    """What a crash in the middle of a creation leaves: the record, and a part of the image."""
    directory.mkdir(exist_ok=True)
    volume = Volume(
        name=spec.name,
        volume_id="loop-0123456789ab",
        backend="loop",
        size_bytes=spec.size_bytes,
        state=state,
        spec=spec,
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    RecordFiles(directory).write(volume)
    image_of(directory, spec.name).write_bytes(bytes(image_bytes))
    return volume


def leave_deletion(directory: Path, volume: Volume) -> None:
    """What a crash in the middle of a deletion leaves: the record; the image may be gone."""
    RecordFiles(directory).write(replace(volume, state=VolumeState.DELETING))


async def assert_only_described(images: Path, detail: str, name: str = "v") -> None:
    """The volume is shown in state error with this detail, and nothing can be done to it."""
    driver = driver_of(images)
    shown = await driver.get(name)
    assert shown is not None
    assert (shown.name, shown.state, shown.detail) == (name, VolumeState.ERROR, detail)
    assert shown in await driver.list()
    for change in (driver.attach(shown), driver.delete(shown), driver.create(spec_of(name))):
        with pytest.raises(UnexpectedState) as refused:
            await change
        assert refused.value.cause == detail
    assert loops.attached_below(images) == []
