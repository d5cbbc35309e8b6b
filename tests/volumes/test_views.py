from dataclasses import replace
from datetime import UTC, datetime

from volplug.models import FilesystemPhase, FilesystemTag, Usage, Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB, MIB
from volplug.volumes.ledger import Desired, Entry
from volplug.volumes.views import view_volume

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
VOLUME = Volume(
    name="v",
    volume_id="loop-1",
    backend="disks",
    size_bytes=2 * GIB,
    state=VolumeState.IN_USE,
    spec=VolumeSpec("v", 2 * GIB, profile="gold"),
    filesystem=FilesystemTag(FilesystemPhase.FORMATTED, "xfs", "uuid"),
    created_at=CREATED,
    holder="host1",
)
MOUNTED = Entry("v", "disks", {"c1": 2, "c2": 1}, desired=Desired.MOUNTED, record=VOLUME)


def test_everything_that_is_known_is_shown() -> None:
    entry = replace(MOUNTED, holders_unknown=True, last_error="still in use")
    view = view_volume(replace(VOLUME, detail="slow"), entry, "/m/v/data", "loop", Usage(5 * MIB, 1))
    assert (view.name, view.mountpoint, view.created_at) == ("v", "/m/v/data", CREATED)
    assert view.status == {
        "id": "loop-1",
        "backend": "disks",
        "driver": "loop",
        "size": "2GiB",
        "state": "in-use",
        "fs": "xfs",
        "profile": "gold",
        "mountCount": 3,
        "used": "5MiB",
        "holder": "host1",
        "detail": "slow",
        "desired": "mounted",
        "holdersUnknown": True,
        "lastError": "still in use",
    }


def test_what_is_not_known_is_left_out() -> None:
    volume = replace(
        VOLUME, state=VolumeState.AVAILABLE, holder=None, filesystem=FilesystemTag(), created_at=None
    )
    view = view_volume(volume, None, "/m/v/data", "loop", None)
    assert (view.mountpoint, view.created_at) == ("", None)
    assert view.status == {
        "id": "loop-1",
        "backend": "disks",
        "driver": "loop",
        "size": "2GiB",
        "state": "available",
        "fs": "pending",
        "profile": "gold",
        "mountCount": 0,
    }


def test_an_unmounted_volume_has_no_mountpoint_and_no_old_usage() -> None:
    view = view_volume(VOLUME, replace(MOUNTED, counts={}), "/m/v/data", "loop", Usage(5 * MIB, 1))
    assert view.mountpoint == ""
    assert "used" not in view.status
