"""Inputs of the decision from states of a backend."""

from dataclasses import replace

import pytest

from tests.volumes.world import spec_of
from volplug.errors import DeviceMismatch
from volplug.models import ContentKind, Contents, MountSource, Volume, VolumeState
from volplug.sizes import GIB, MIB
from volplug.volumes.decision import BackendState, DeviceMatch, SizeMatch
from volplug.volumes.observe import backend_state_of, device_match_of, size_match_of

HERE, OTHER = "node-a", "node-b"


@pytest.mark.parametrize(
    ("state", "holder", "backend_state"),
    [
        (VolumeState.INCOMPLETE, None, BackendState.INCOMPLETE),
        (VolumeState.CREATING, None, BackendState.CREATING),
        (VolumeState.AVAILABLE, None, BackendState.AVAILABLE),
        (VolumeState.ATTACHING, HERE, BackendState.HERE),
        (VolumeState.ATTACHING, OTHER, BackendState.ELSEWHERE),
        (VolumeState.IN_USE, HERE, BackendState.HERE),
        (VolumeState.IN_USE, OTHER, BackendState.ELSEWHERE),
        (VolumeState.DETACHING, HERE, BackendState.DETACHING),
        (VolumeState.DETACHING, OTHER, BackendState.LEAVING),
        (VolumeState.DETACHING, None, BackendState.DETACHING),
        (VolumeState.DELETING, None, BackendState.DELETING),
        (VolumeState.ERROR, HERE, BackendState.ERROR),
    ],
)
def test_state_and_holder_make_the_backend_state(
    state: VolumeState, holder: str | None, backend_state: BackendState
) -> None:
    found = Volume("v", "vol-1", "memory", GIB, state, spec_of("v"), holder=holder)
    assert backend_state_of(found, HERE) is backend_state


@pytest.mark.parametrize(
    ("device_bytes", "filesystem_bytes", "size"),
    [
        (GIB, None, SizeMatch.EQUAL),
        (GIB, GIB, SizeMatch.EQUAL),
        (GIB, GIB - 16 * MIB, SizeMatch.EQUAL),
        (GIB, GIB - 16 * MIB - 1, SizeMatch.FILESYSTEM_SMALLER),
        (GIB - 1, None, SizeMatch.DEVICE_SMALLER),
        (GIB + 1, GIB, SizeMatch.DEVICE_LARGER),
    ],
)
def test_the_sizes_of_record_device_and_filesystem_are_compared(
    device_bytes: int, filesystem_bytes: int | None, size: SizeMatch
) -> None:
    volume = Volume("v", "vol-1", "memory", GIB, VolumeState.IN_USE, spec_of("v"))
    source = MountSource("/dev/sdx", "serial", device_bytes)
    contents = Contents(ContentKind.OURS, "its filesystem", filesystem_bytes)
    assert size_match_of(volume, source, contents) is size


def test_a_device_is_identified_by_its_identity_alone() -> None:
    source = MountSource("/dev/sdx", "serial", 1)
    assert device_match_of(None, None) is DeviceMatch.NONE
    assert device_match_of(source, None) is DeviceMatch.RIGHT
    assert device_match_of(replace(source, outdated="its image was replaced"), None) is DeviceMatch.OUTDATED
    assert device_match_of(source, DeviceMismatch("another serial")) is DeviceMatch.WRONG
