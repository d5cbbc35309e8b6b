"""What attaching and detaching conclude from reports that the lab cannot be brought to make."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.cinder.recorded import VOLUMES, Answer, Answering, refusal, volume
from volplug.drivers.cinder.attachments import ServerAttachments
from volplug.drivers.cinder.disks import guest_disks
from volplug.drivers.cinder.openstack import Call
from volplug.drivers.cinder.timeouts import ATTACHES, CinderTimeouts
from volplug.drivers.cinder.volumes import CinderVolumes, read_volume
from volplug.drivers.cloud.identity import CloudNode
from volplug.errors import DeviceNotFound, OperationTimeout, VolumeInUse
from volplug.host.sysfs import Sysfs

SERVER = VOLUMES["detaching"]["attachments"][0]["server_id"]
LIMITS = CinderTimeouts(
    quiet_s=0.01, attaching_s=0.02, transition_s=0.05, poll_first_s=0.01, poll_longest_s=0.01
)


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    """Of a server without disks."""
    (tmp_path / "block").mkdir()
    return Sysfs(tmp_path, tmp_path)


def attachments_of(caller: Answering, sysfs: Sysfs) -> ServerAttachments:
    volumes = CinderVolumes(caller, "prod", "cloud", LIMITS, lambda: 0.0)
    return ServerAttachments(caller, volumes, guest_disks(sysfs, "cloud"), LIMITS)


async def test_a_volume_whose_detach_from_this_server_is_stuck_does_not_count_as_attached(
    sysfs: Sysfs,
) -> None:
    caller = Answering(
        {
            "POST /servers/ID/os-volume_attachments": refusal("attach a volume that is being detached"),
            "GET /volumes/ID": {"volume": volume("detaching")},
        }
    )
    with pytest.raises(VolumeInUse, match="still detaching") as refused:
        await attachments_of(caller, sysfs).attach(
            read_volume(volume("detaching"), "cloud").volume, CloudNode(SERVER, "")
        )
    assert refused.value.holder == SERVER


async def test_a_volume_whose_attach_does_not_end_is_not_detached_and_exists(sysfs: Sysfs) -> None:
    caller = Answering({"GET /volumes/ID": {"volume": volume("attaching")}})
    with pytest.raises(OperationTimeout, match="still being attached"):
        await attachments_of(caller, sysfs).detach(
            read_volume(volume("attaching"), "cloud").volume, CloudNode(SERVER, "")
        )


@pytest.mark.parametrize(
    "refused",
    [
        "attach a volume reserved by Cinder alone",
        "attach a volume in use by another server",
        "cinder attachment of a volume in use",
    ],
)
async def test_an_attach_that_came_before_another_servers_detach_had_ended_is_requested_again(
    sysfs: Sysfs, refused: str
) -> None:
    answers: Iterator[Answer] = iter([refusal(refused), {"volumeAttachment": {}}])
    path = "/servers/ID/os-volume_attachments"
    caller = Answering(
        {
            f"POST {path}": lambda _: next(answers),
            f"GET {path}": {"volumeAttachments": []},
            "GET /volumes/ID": {"volume": volume("available")},
        }
    )
    with pytest.raises(DeviceNotFound):  # there is none on this server
        await attachments_of(caller, sysfs).attach(
            read_volume(volume("available"), "cloud").volume, CloudNode(SERVER, "")
        )
    assert next(answers, None) is None, "the request was repeated"


async def test_an_attach_is_not_requested_again_while_nova_lists_the_volume_on_another_server(
    sysfs: Sysfs,
) -> None:
    """An administrator has set the volume's state to available, but it is still attached."""
    path = "/servers/ID/os-volume_attachments"
    taken = volume("available")
    caller = Answering(
        {
            f"POST {path}": refusal("attach a volume in use by another server"),
            f"GET {path}": {"volumeAttachments": [{"volumeId": taken["id"]}]},
            "GET /volumes/ID": {"volume": taken},
        }
    )
    with pytest.raises(VolumeInUse, match="is attached to 7c1f2827"):
        await attachments_of(caller, sysfs).attach(read_volume(taken, "cloud").volume, CloudNode(SERVER, ""))
    assert [call.action for call in caller.calls].count(f"POST {path}") == 1


async def test_a_server_is_asked_for_a_few_attaches_at_once(sysfs: Sysfs) -> None:
    """Nova makes one after the other; the time of those that wait there would run out."""
    asked, go = 0, asyncio.Event()

    class Nova(Answering):
        async def call(self, call: Call) -> Mapping[str, Any]:
            nonlocal asked
            if call.changes:
                asked += 1
                await go.wait()
            return await super().call(call)

    nova = Nova(
        {
            "POST /servers/ID/os-volume_attachments": {"volumeAttachment": {}},
            "GET /volumes/ID": {"volume": volume("attaching")},
        }
    )
    attachments = attachments_of(nova, sysfs)
    free = read_volume(volume("available"), "cloud").volume
    attaching = [
        asyncio.ensure_future(attachments._attach(free, CloudNode(SERVER, ""))) for _ in range(ATTACHES + 1)
    ]
    await asyncio.sleep(0)
    assert asked == ATTACHES
    go.set()
    for each in await asyncio.gather(*attaching, return_exceptions=True):
        assert isinstance(each, DeviceNotFound)  # there is none on this server
    assert asked == ATTACHES + 1
