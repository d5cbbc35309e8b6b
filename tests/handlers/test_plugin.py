"""What `docker volume inspect` shows as Status."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from volplug.handlers import plugin
from volplug.handlers.plugin import status_of
from volplug.models import FilesystemPhase, FilesystemTag, Usage, VolumeState
from volplug.sizes import GIB, MIB
from volplug.volumes.ledger import Desired, Failure
from volplug.volumes.usage_sampler import UsageSample
from volplug.volumes.views import VolumeView

VIEW = VolumeView(
    name="v",
    volume_id="loop-1",
    backend="disks",
    driver="loop",
    mountpoint="",
    created_at=None,
    size_bytes=2 * GIB,
    state=VolumeState.AVAILABLE,
    filesystem=FilesystemTag(),
    profile="gold",
)
PLAIN = {
    "id": "loop-1",
    "backend": "disks",
    "driver": "loop",
    "size": "2GiB",
    "state": "available",
    "fs": "pending",
    "profile": "gold",
    "mountCount": 0,
}

FULL = replace(
    VIEW,
    state=VolumeState.IN_USE,
    filesystem=FilesystemTag(FilesystemPhase.FORMATTED, "xfs", "uuid"),
    mount_count=3,
    sample=UsageSample(Usage(5 * MIB, 2621 * MIB, used_inodes=7, inodes=9, device="/dev/loop1"), 61.4),
    size_difference="its filesystem is smaller",
    holder="host1",
    detail="slow",
    desired=Desired.MOUNTED,
    holders_unknown=True,
    failure=Failure("unmount", "volume-in-use", "in use", "still in use", datetime(2026, 1, 2, tzinfo=UTC)),
    details=(("iops", 3000), ("encrypted", False), ("id", "of no use")),
)


def test_unknown_values_are_left_out() -> None:
    assert status_of(VIEW) == PLAIN


def test_all_known_values_are_shown() -> None:
    assert status_of(FULL) == PLAIN | {
        "state": "in-use",
        "fs": "xfs",
        "mountCount": 3,
        "used": "5.0MiB",
        "free": "2.6GiB",
        "usedAge": "61s",
        "inodesUsed": 7,
        "inodes": 9,
        "device": "/dev/loop1",
        "sizeDifference": "its filesystem is smaller",
        "holder": "host1",
        "detail": "slow",
        "desired": "mounted",
        "holdersUnknown": True,
        "lastError": "still in use",
        "lastErrorAt": "2026-01-02T00:00:00+00:00",
        "iops": 3000,
        "encrypted": False,
    }


def test_a_fresh_sample_has_no_age_and_inodes_are_shown_only_where_there_are_some() -> None:
    status = status_of(replace(VIEW, sample=UsageSample(Usage(0, 1), 10)))
    assert status == PLAIN | {"used": "0B", "free": "1B"}


def test_a_size_that_is_not_known_is_left_out() -> None:
    assert "size" not in status_of(replace(VIEW, size_bytes=0))


@pytest.mark.parametrize("verb", ["Get", "Create"])
async def test_a_client_that_left_before_its_body_was_read_gets_no_answer(verb: str) -> None:
    class Left:
        path = f"/VolumeDriver.{verb}"

        async def read(self) -> bytes:
            raise RuntimeError("Connection closed.")

    with pytest.raises(plugin._NoAnswerError):
        await plugin._read_body(Left(), 1.0)  # type: ignore[arg-type]  # all that is used of a request
