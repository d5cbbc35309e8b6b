"""What counts more: what EC2 shows, or what this process did a moment ago."""

from dataclasses import dataclass, replace

import pytest

from tests.drivers.ebs.clouds import spec_of
from volplug.drivers.ebs.recent import Recent
from volplug.models import FilesystemPhase, FilesystemTag, Volume, VolumeState
from volplug.sizes import GIB

FREE = Volume("v", "vol-1", "ebs", 4 * GIB, VolumeState.AVAILABLE, spec_of())
PENDING = FilesystemTag()
FORMATTING = FilesystemTag(FilesystemPhase.FORMATTING, "ext4", "u1")
FORMATTED = FilesystemTag(FilesystemPhase.FORMATTED, "ext4", "u1")


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


@pytest.mark.parametrize("shown", [FREE, held_by("before"), leaving("before"), held_by("us")])
def test_attach_is_shown_over_what_was_before_it(recent: Recent, shown: Volume) -> None:
    recent.held("vol-1", "us", before="before")
    assert recent.corrected(shown) == held_by("us")


@pytest.mark.parametrize("shown", [FREE, held_by("us"), leaving("us")])
def test_detach_is_shown_over_what_was_before_it(recent: Recent, shown: Volume) -> None:
    recent.held("vol-1", "us", before=None)
    recent.held("vol-1", "", before="us")
    assert recent.corrected(shown) == FREE
    assert recent.was_let_go("vol-1")


def test_what_others_did_is_newer(recent: Recent) -> None:
    recent.held("vol-1", "", before="us")
    assert recent.corrected(held_by("other")) == held_by("other")
    recent.tagged("vol-1", FORMATTING, before=PENDING)
    formatted = replace(FREE, filesystem=FORMATTED)
    assert recent.corrected(formatted) == formatted


def test_tags_are_shown_over_those_they_replaced(recent: Recent) -> None:
    recent.tagged("vol-1", FORMATTING, before=PENDING)
    recent.tagged("vol-1", FORMATTED, before=FORMATTING)
    for shown in (PENDING, FORMATTING, FORMATTED):
        assert recent.corrected(replace(FREE, filesystem=shown)).filesystem == FORMATTED


def test_tag_never_goes_back_to_one_that_permits_mkfs(recent: Recent) -> None:
    """What another host has finished meanwhile is not taken back by what this one began."""
    other_uuid = replace(FORMATTED, uuid="u2")
    recent.tagged("vol-1", FORMATTING, before=PENDING)
    assert recent.corrected(replace(FREE, filesystem=other_uuid)).filesystem == other_uuid


def test_error_is_shown_as_it_is(recent: Recent) -> None:
    broken = replace(FREE, state=VolumeState.ERROR, detail="why")
    recent.held("vol-1", "us", before=None)
    assert recent.corrected(broken) == broken


def test_everything_is_forgotten_after_a_minute(recent: Recent, clock: Clock) -> None:
    recent.created(FREE)
    recent.held("vol-1", "us", before=None)
    clock.now += 61
    assert (recent.expected(), recent.corrected(FREE)) == ([], FREE)
    assert not recent.is_new("vol-1")
