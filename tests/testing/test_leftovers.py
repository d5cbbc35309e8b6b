"""The suite takes away what its tests made, and says what stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from volplug.drivers.base import Driver
from volplug.errors import BackendError
from volplug.models import Volume, VolumeSpec
from volplug.sizes import GIB
from volplug.testing.leftovers import Cleanup
from volplug.testing.memory import MemoryCloud, MemoryDriver, device_of


class CannotDetach(MemoryDriver):
    async def detach(self, volume: Volume) -> None:
        raise BackendError("the cloud says no")


class DeletesNothing(MemoryDriver):
    async def delete(self, volume: Volume) -> None:
        pass


async def made(cleanup: Cleanup, driver: Driver) -> list[Volume]:
    tracked = cleanup.track(driver)
    volumes = [await tracked.create(VolumeSpec(name, GIB)) for name in ("first", "second")]
    await tracked.attach(volumes[0])
    return volumes


async def test_everything_is_detached_and_deleted_the_newest_first() -> None:
    cloud, cleanup = MemoryCloud(), Cleanup()
    first, second = await made(cleanup, MemoryDriver(cloud))
    cloud.calls.clear()
    deleted: list[str] = []
    cloud.volumes = _Noting(cloud.volumes, deleted)
    assert await cleanup.end() == []
    assert deleted == [second.volume_id, first.volume_id]


async def test_what_was_made_behind_the_driver_goes_too() -> None:
    cloud, cleanup = MemoryCloud(), Cleanup()
    cleanup.track(MemoryDriver(cloud))
    await MemoryDriver(cloud).create(VolumeSpec("v", GIB))
    assert await cleanup.end() == []
    assert cloud.volumes == {}


async def test_what_another_node_holds_or_has_made_goes_too() -> None:
    cloud, cleanup = MemoryCloud(), Cleanup()
    cleanup.track(MemoryDriver(cloud))
    await made(cleanup, MemoryDriver(cloud, "node-b"))
    assert await cleanup.end() == []
    assert cloud.volumes == {}


async def test_what_cannot_be_deleted_is_reported_and_the_rest_is_deleted() -> None:
    cloud, cleanup = MemoryCloud(), Cleanup()
    first, second = await made(cleanup, CannotDetach(cloud))
    assert await cleanup.end() == [
        f"detach of {second.volume_id}: BackendError('the cloud says no')",
        f"detach of {first.volume_id}: BackendError('the cloud says no')",
        f"delete of {first.volume_id}: VolumeInUse('node node-a holds the volume')",
        f"{first.volume_id} is still listed",
        f"{first.volume_id} is still attached as {device_of(first.volume_id)}",
    ]
    assert list(cloud.volumes) == [first.volume_id]


async def test_a_deletion_without_effect_is_reported_once() -> None:
    cloud, cleanup = MemoryCloud(), Cleanup()
    cleanup.track(DeletesNothing(cloud))
    volumes = await made(cleanup, DeletesNothing(cloud))
    assert await cleanup.end() == [f"{volume.volume_id} is still listed" for volume in volumes]


class _Noting(dict[str, Volume]):
    """Volumes that note in which order they are deleted."""

    def __init__(self, volumes: dict[str, Volume], deleted: list[str]) -> None:
        super().__init__(volumes)
        self._deleted = deleted

    def __delitem__(self, volume_id: str) -> None:
        self._deleted.append(volume_id)
        super().__delitem__(volume_id)


LEAKS = """
from tests.testing.test_memory import MemoryFixtures
from volplug.testing.memory import MemoryDriver
from volplug.testing.conformance import DriverConformance

class KeepsOne(MemoryDriver):
    async def delete(self, volume):
        if volume.name != "v0":
            await super().delete(volume)

class TestLeaky(DriverConformance, MemoryFixtures):
    import pytest

    @pytest.fixture
    def new_driver(self, cloud):
        return lambda: KeepsOne(cloud)
"""


@pytest.mark.parametrize("case", ["created_volume_is_what_was_asked_for", "every_volume_of_many_is_listed"])
def test_a_test_that_passes_and_leaves_something_fails_the_run(case: str, tmp_path: Path) -> None:
    module = tmp_path / "test_leaky.py"
    module.write_text(LEAKS)
    root = Path(__file__).parents[2]
    options = ["-q", "-c", str(root / "pyproject.toml"), "--rootdir", str(root), "-p", "no:cacheprovider"]
    argv = [sys.executable, "-m", "pytest", *options, "-k", case, str(module)]
    ended = subprocess.run(argv, cwd=root, check=False, capture_output=True, text=True)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "1 passed" in ended.stdout
    assert "1 error" in ended.stdout
    assert "left behind: mem-" in ended.stdout
