"""What `docker volume inspect` shows as Status."""

from dataclasses import replace

from volplug.handlers.plugin import status_of
from volplug.models import FilesystemPhase, FilesystemTag, VolumeState
from volplug.sizes import GIB, MIB
from volplug.volumes.ledger import Desired
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


def test_unknown_values_are_left_out() -> None:
    assert status_of(VIEW) == PLAIN


def test_all_known_values_are_shown() -> None:
    view = replace(
        VIEW,
        state=VolumeState.IN_USE,
        filesystem=FilesystemTag(FilesystemPhase.FORMATTED, "xfs", "uuid"),
        mount_count=3,
        used_bytes=5 * MIB,
        holder="host1",
        detail="slow",
        desired=Desired.MOUNTED,
        holders_unknown=True,
        last_error="still in use",
    )
    assert status_of(view) == PLAIN | {
        "state": "in-use",
        "fs": "xfs",
        "mountCount": 3,
        "used": "5MiB",
        "holder": "host1",
        "detail": "slow",
        "desired": "mounted",
        "holdersUnknown": True,
        "lastError": "still in use",
    }
