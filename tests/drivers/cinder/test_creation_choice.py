"""Which of several volumes of one name is the volume of that name."""

from itertools import permutations

import pytest

from tests.drivers.cinder.recorded import VOLUMES, volume
from volplug.drivers.cinder.creation import chosen_of
from volplug.drivers.cinder.volumes import CinderVolume, read_volume
from volplug.errors import DuplicateVolumes


def read(volume_id: str, state: str = "available", second: int = 0, **metadata: str) -> CinderVolume:
    found = volume(state, id=volume_id, created_at=f"2026-11-29T18:39:{second:02}.000000")
    found["metadata"] |= {f"volplug:{key}": value for key, value in metadata.items()}
    return read_volume(found, "cloud")


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ([], None),
        ([read("a")], "a"),
        ([read("a", second=2), read("b", second=1)], "b"),
        ([read("b", second=1), read("a", second=1)], "a"),
        ([read("a"), read("b", "in-use")], "b"),
        ([read("a"), read("b", fs="ext4")], "b"),
        ([read("a"), read("b", attached="true")], "b"),
        ([read("a"), read("b", "reserved")], "b"),
        ([read("a", "error"), read("b", second=1)], "a"),
        ([read("b", "created"), read("a", second=1)], "b"),
        ([read("a", fs="ext4"), read("b"), read("c")], "a"),
    ],
)
def test_every_host_chooses_the_same_volume(found: list[CinderVolume], chosen: str | None) -> None:
    for order in permutations(found):
        seen = chosen_of(order)
        assert (seen.volume_id if seen else None) == chosen


@pytest.mark.parametrize(
    "found",
    [
        [read("a", fs="ext4"), read("b", fs="ext4")],
        [read("a", "in-use"), read("b", "detaching")],
        [read("a"), read("b", token="")],
        [read("a", token=""), read("b", fs="ext4")],
        [read("a", spec="{"), read("b", fs="ext4")],
    ],
)
def test_volumes_that_may_have_data_and_those_of_others_are_not_chosen_from(
    found: list[CinderVolume],
) -> None:
    for order in permutations(found):
        with pytest.raises(DuplicateVolumes, match="a, b") as refused:
            chosen_of(order)
        assert refused.value.volume_ids == ("a", "b")


def test_a_superfluous_volume_that_could_not_be_deleted_does_not_count_as_used() -> None:
    left = read_volume(volume("error", id="b", status="error_deleting"), "cloud")
    for winner in (read("a"), read("a", "in-use"), read("a", fs="ext4")):
        assert chosen_of([left, winner]) == winner


def test_a_volume_that_is_being_deleted_does_not_count_beside_another() -> None:
    going = read_volume(volume("available", id="a", status="deleting"), "cloud")
    assert chosen_of([going]) is going
    assert chosen_of([going, read("b")]) == read("b")
    assert VOLUMES["detaching"]["attachments"], "a detach in progress is an attachment"
