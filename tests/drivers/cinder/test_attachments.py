"""What attaching and detaching conclude from reports that the lab cannot be brought to make."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drivers.cinder.recorded import VOLUMES, Answering, refusal, volume
from volplug.drivers.cinder.attachments import ServerAttachments
from volplug.drivers.cinder.disks import guest_disks
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cinder.volumes import CinderVolumes, read_volume
from volplug.drivers.cloud.identity import CloudNode
from volplug.errors import VolumeInUse
from volplug.host.sysfs import Sysfs

SERVER = VOLUMES["detaching"]["attachments"][0]["server_id"]
LIMITS = CinderTimeouts(
    quiet_s=0.01, attaching_s=0.02, transition_s=0.05, poll_first_s=0.01, poll_longest_s=0.01
)


async def test_a_volume_whose_detach_from_this_server_is_stuck_does_not_count_as_attached(
    tmp_path: Path,
) -> None:
    (tmp_path / "block").mkdir()
    caller = Answering(
        {
            "POST /servers/ID/os-volume_attachments": refusal("attach a volume that is being detached"),
            "GET /volumes/ID": {"volume": volume("detaching")},
        }
    )
    volumes = CinderVolumes(caller, "prod", "cloud", LIMITS, lambda: 0.0)
    attachments = ServerAttachments(caller, volumes, guest_disks(Sysfs(tmp_path, tmp_path), "cloud"), LIMITS)
    with pytest.raises(VolumeInUse, match="still detaching") as refused:
        await attachments.attach(read_volume(volume("detaching"), "cloud").volume, CloudNode(SERVER, ""))
    assert refused.value.holder == SERVER
