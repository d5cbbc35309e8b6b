"""What a backend's states mean to a node."""

import pytest

from tests.volumes.world import spec_of
from volplug.models import Volume, VolumeState
from volplug.sizes import GIB
from volplug.volumes.convergence import Record
from volplug.volumes.readings import record_of

HERE, OTHER = "node-a", "node-b"


@pytest.mark.parametrize(
    ("state", "holder", "record"),
    [
        (VolumeState.INCOMPLETE, None, Record.INCOMPLETE),
        (VolumeState.CREATING, None, Record.CREATING),
        (VolumeState.AVAILABLE, None, Record.AVAILABLE),
        (VolumeState.ATTACHING, HERE, Record.HERE),
        (VolumeState.ATTACHING, OTHER, Record.ELSEWHERE),
        (VolumeState.IN_USE, HERE, Record.HERE),
        (VolumeState.IN_USE, OTHER, Record.ELSEWHERE),
        (VolumeState.DETACHING, HERE, Record.DETACHING),
        (VolumeState.DETACHING, OTHER, Record.LEAVING),
        (VolumeState.DETACHING, None, Record.DETACHING),
        (VolumeState.DELETING, None, Record.DELETING),
        (VolumeState.ERROR, HERE, Record.ERROR),
    ],
)
def test_state_and_holder_make_the_record(state: VolumeState, holder: str | None, record: Record) -> None:
    found = Volume("v", "vol-1", "memory", GIB, state, spec_of("v"), holder=holder)
    assert record_of(found, HERE) is record
