import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from volplug.errors import HostError
from volplug.models import FilesystemPhase, FilesystemTag, Usage, Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB, MIB
from volplug.testing.host import MemoryHost
from volplug.volumes.ledger import Desired, Entry
from volplug.volumes.views import UsageSampler, VolumeView, view_volume

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


def test_all_known_values_are_shown() -> None:
    entry = replace(MOUNTED, holders_unknown=True, last_error="still in use")
    view = view_volume(replace(VOLUME, detail="slow"), entry, "/m/v/data", "loop", Usage(5 * MIB, 1))
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
        used_bytes=5 * MIB,
        holder="host1",
        detail="slow",
        desired=Desired.MOUNTED,
        holders_unknown=True,
        last_error="still in use",
    )


@pytest.mark.parametrize("entry", [None, replace(MOUNTED, confirmed={})])
def test_an_unmounted_volume_has_no_mountpoint_and_no_usage(entry: Entry | None) -> None:
    view = view_volume(VOLUME, entry, "/m/v/data", "loop", Usage(5 * MIB, 1))
    assert (view.mountpoint, view.used_bytes, view.mount_count) == ("", None, 0)


class SlowHost(MemoryHost):
    """A machine whose filesystems answer when the test resolves them.

    Attributes:
        answers: Resolved by the test; one per sample.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[asyncio.Future[Usage]] = []

    async def usage(self, target: str) -> Usage:
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]


@pytest.fixture
async def host() -> SlowHost:
    return SlowHost()


async def answer_sample(host: SlowHost, result: Usage | Exception) -> None:
    """Answer the running sample, and let the sampler record it."""
    await asyncio.sleep(0)
    if isinstance(result, Usage):
        host.answers[-1].set_result(result)
    else:
        host.answers[-1].set_exception(result)
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_view_never_waits_and_shares_one_sample(host: SlowHost) -> None:
    sampler = UsageSampler()
    assert [sampler.last(host, "v", "/m/v") for _ in range(5)] == [None] * 5
    await answer_sample(host, Usage(1, 2))
    assert sampler.last(host, "v", "/m/v") == Usage(1, 2)
    assert len(host.answers) == 1


async def test_a_volume_that_was_unmounted_has_no_usage(host: SlowHost) -> None:
    sampler = UsageSampler()
    sampler.last(host, "v", "/m/v")
    await answer_sample(host, Usage(1, 2))
    sampler.forget("v")
    assert sampler.last(host, "v", "/m/v") is None
    await answer_sample(host, Usage(1, 2))


@pytest.mark.parametrize("error", [HostError("input/output error"), OSError(5, "input/output error")])
async def test_a_failed_sample_changes_nothing_and_is_repeated(host: SlowHost, error: Exception) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    sampler = UsageSampler()
    sampler.last(host, "v", "/m/v")
    await answer_sample(host, error)
    assert sampler.last(host, "v", "/m/v") is None
    await answer_sample(host, Usage(3, 4))
    assert sampler.last(host, "v", "/m/v") == Usage(3, 4)
    assert complaints == []
