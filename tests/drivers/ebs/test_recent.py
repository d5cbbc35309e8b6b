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


def test_detach_from_this_host_is_others_doing_unless_it_was_ours(recent: Recent) -> None:
    recent.held("vol-1", "", before="other")
    recent.held("vol-1", "us", before=None)
    assert recent.corrected(leaving("us")) == leaving("us")
    recent.held("vol-1", "", before="us")
    recent.held("vol-1", "us", before=None)
    assert recent.corrected(leaving("us")) == held_by("us")


def test_creation_is_expected_for_a_minute_whatever_is_done_meanwhile(recent: Recent, clock: Clock) -> None:
    recent.created(FREE)
    assert recent.seen([FREE]) == recent.expected() == [FREE]
    clock.now += 40
    recent.held("vol-1", "us", before=None)
    assert recent.expected() == [held_by("us")]
    clock.now += 30
    assert (recent.expected(), recent.is_new("vol-1")) == ([], False)


def test_deleted_volume_is_not_expected(recent: Recent) -> None:
    recent.created(FREE)
    recent.deleted("vol-1")
    assert (recent.expected(), recent.seen([FREE])) == ([], [])


def test_node_from_which_it_was_taken_shows_when_it_is_back(recent: Recent) -> None:
    recent.held("vol-1", "", before="other")
    recent.held("vol-1", "us", before=None)
    assert recent.corrected(held_by("other")) == held_by("us"), "late: nobody but us could let it go"
    recent.held("vol-1", "", before="us")
    assert recent.corrected(held_by("other")) == held_by("other")
    assert recent.corrected(held_by("us")) == FREE
    recent.held("vol-1", "us", before=None)
    assert recent.corrected(held_by("other")) == held_by("other")


def test_what_was_before_counts_no_more_once_a_look_has_shown_what_is(recent: Recent) -> None:
    recent.held("vol-1", "us", before=None)
    assert recent.seen([FREE]) == [held_by("us")]
    assert recent.seen([held_by("us")]) == [held_by("us")]
    assert recent.seen([FREE]) == [FREE]


def test_look_that_may_show_what_was_before_proves_nothing(recent: Recent) -> None:
    recent.held("vol-1", "us", before=None)
    recent.held("vol-1", "", before="us")
    recent.held("vol-1", "us", before=None)
    assert recent.seen([held_by("us")]) == [held_by("us")], "by the first attach or by the second"
    assert recent.seen([FREE]) == recent.seen([leaving("us")]) == [held_by("us")]


def test_volume_that_came_from_another_node_was_free_in_between(recent: Recent) -> None:
    recent.held("vol-1", "us", before="other")
    assert recent.corrected(FREE) == recent.corrected(leaving("other")) == held_by("us")
