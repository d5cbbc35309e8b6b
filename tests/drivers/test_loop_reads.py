"""Disks that do not answer, and volumes that are deleted while they are read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drivers.loop_volumes import created, driver_of, image_of, leave_deletion, record_of
from volplug.drivers.loop.images import Images
from volplug.drivers.loop.records import RecordFiles
from volplug.errors import BackendUnavailable, HostError
from volplug.models import VolumeState

pytestmark = pytest.mark.loop


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (lambda directory: Images(directory, 1.0).stat("v"), "file/v.img cannot be read: Not a directory"),
        (lambda directory: RecordFiles(directory).read("v"), "file/v.json cannot be read: Not a directory"),
    ],
    ids=["image", "record"],
)
def test_what_the_disk_does_not_say_is_not_taken_for_missing(
    tmp_path: Path, question: Callable[[Path], object], said: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackendUnavailable, match=said):
        question(tmp_path / "file")


def test_an_image_that_the_disk_refuses_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"v.img cannot be made: Invalid argument"):
        Images(tmp_path, 1.0).make("v", 0, is_sparse=False)  # of which fallocate(2) knows nothing
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("becomes", [None, VolumeState.DELETING])
async def test_a_volume_that_is_deleted_while_it_is_read_is_not_called_damaged(
    images: Path, monkeypatch: pytest.MonkeyPatch, becomes: VolumeState | None
) -> None:
    """Its record was read before another call deleted its image."""
    volume, driver = await created(images), driver_of(images)
    stat = Images.stat

    def stat_after_deletion(self: Images, name: str) -> os.stat_result | None:
        image_of(images).unlink(missing_ok=True)
        if becomes is None:
            record_of(images).unlink(missing_ok=True)
        else:
            leave_deletion(images, volume)
        return stat(self, name)

    monkeypatch.setattr(Images, "stat", stat_after_deletion)
    found = await driver.get("v")
    assert found is not None
    assert found.state is VolumeState.DELETING
