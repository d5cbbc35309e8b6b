from dataclasses import replace
from datetime import UTC, datetime

import pytest

from volplug.errors import DuplicateVolumes
from volplug.models import FilesystemPhase, FilesystemTag, Usage, Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB, MIB
from volplug.volumes.ledger import Desired, Entry, Failure
from volplug.volumes.usage_sampler import UsageSample
from volplug.volumes.views import VolumeView, view_duplicates, view_volume

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
    details=(("zone", "a"),),
)
SAMPLE = UsageSample(
    Usage(5 * MIB, 1, device="/dev/loop0", device_bytes=4 * GIB, filesystem_bytes=2 * GIB), 3.0
)
FAILURE = Failure("detach", "volume-in-use", "still in use", "still in use.", CREATED)
MOUNTED = Entry("v", "disks", {"c1": 2, "c2": 1}, desired=Desired.MOUNTED, record=VOLUME)


def test_all_known_values_are_shown() -> None:
    entry = replace(MOUNTED, holders_unknown=True, failure=FAILURE)
    view = view_volume(replace(VOLUME, detail="slow"), entry, "/m/v/data", "loop", SAMPLE)
    assert view == VolumeView(
        name="v",
        volume_id="loop-1",
        backend="disks",
        driver="loop",
        mountpoint="/m/v/data",
        created_at=CREATED,
        size_bytes=2 * GIB,
        state=VolumeState.IN_USE,
        filesystem=VOLUME.filesystem,
        profile="gold",
        mount_count=3,
        sample=SAMPLE,
        size_difference="its filesystem, 2.0GiB, is smaller than its device, 4.0GiB",
        holder="host1",
        detail="slow",
        desired=Desired.MOUNTED,
        holders_unknown=True,
        failure=FAILURE,
        details=(("zone", "a"),),
    )


@pytest.mark.parametrize("entry", [None, replace(MOUNTED, confirmed={})])
def test_an_unmounted_volume_has_no_mountpoint_and_no_usage(entry: Entry | None) -> None:
    view = view_volume(VOLUME, entry, "/m/v/data", "loop", SAMPLE)
    assert (view.mountpoint, view.sample, view.size_difference) == ("", None, "")
    assert view.mount_count == 0


@pytest.mark.parametrize(
    ("state", "desired", "code", "shown"),
    [
        (VolumeState.AVAILABLE, Desired.NONE, "filesystem-mismatch", VolumeState.ERROR),
        (VolumeState.AVAILABLE, Desired.NONE, "device-mismatch", VolumeState.ERROR),
        (VolumeState.IN_USE, Desired.DETACHED, "device-mismatch", VolumeState.ERROR),
        (
            VolumeState.IN_USE,
            Desired.NONE,
            "filesystem-mismatch",
            VolumeState.IN_USE,
        ),  # another host mounted it
        (VolumeState.AVAILABLE, Desired.NONE, "backend-unavailable", VolumeState.AVAILABLE),
    ],
)
def test_a_failure_that_stays_until_a_repair_is_the_state_error(
    state: VolumeState, desired: Desired, code: str, shown: VolumeState
) -> None:
    failure = replace(FAILURE, code=code, cause="holds a swap signature")
    view = view_volume(
        replace(VOLUME, state=state), Entry("v", "disks", desired=desired, failure=failure), "", "loop", None
    )
    detail = "holds a swap signature" if shown is VolumeState.ERROR else ""
    assert (view.state, view.detail) == (shown, detail)


def test_a_name_that_several_volumes_have_exists_and_is_an_error() -> None:
    error = DuplicateVolumes("2 volumes carry this name: a, b", "Delete one", volume_ids=("a", "b"))
    view = view_duplicates(error, "v", "cloud", "ebs")
    assert (view.name, view.volume_id, view.backend, view.driver) == ("v", "a, b", "cloud", "ebs")
    assert (view.state, view.detail) == (VolumeState.ERROR, "2 volumes carry this name: a, b")
    assert view.mountpoint == ""
