"""What a look-up shows, corrected by the last minute's deeds: where others' newer deeds must show."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from tests.drivers.ebs.clouds import spec_of
from volplug.drivers.ebs.recent import Recent
from volplug.models import Volume, VolumeState
from volplug.sizes import GIB

FREE = Volume("v", "vol-1", "ebs", 4 * GIB, VolumeState.AVAILABLE, spec_of())


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recent(clock: Clock) -> Recent:
    return Recent(clock)


def held_by(node_id: str) -> Volume:
    return replace(FREE, state=VolumeState.IN_USE, holder=node_id)


def leaving(node_id: str) -> Volume:
    return replace(FREE, state=VolumeState.DETACHING, holder=node_id)


def test_detach_from_this_host_is_others_doing_unless_it_was_ours(recent: Recent) -> None:
    recent.held("vol-1", "", before="other")
    recent.held("vol-1", "us", before=None)
    assert recent.corrected(leaving("us")) == leaving("us")
    recent.held("vol-1", "", before="us")
    recent.held("vol-1", "us", before=None)
    assert recent.corrected(leaving("us")) == held_by("us")
