"""Which device name an attachment gets."""

import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volplug.drivers.ebs.device_names import NITRO_NAMES, XEN_NAMES, DeviceNames
from volplug.errors import LimitExceeded

VOLUMES = [f"vol-{number:017x}" for number in range(len(NITRO_NAMES))]
FOUR = ("/dev/xvdba", "/dev/xvdbb", "/dev/xvdbc", "/dev/xvdbd")
TWO = FOUR[:2]


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_names_are_ones_that_ec2_takes() -> None:
    assert all(re.fullmatch(r"/dev/xvd[a-d][a-z]", name) for name in NITRO_NAMES)
    assert all(re.fullmatch(r"/dev/xvd[bc][a-z]", name) for name in XEN_NAMES)


def test_every_name_is_given_once_and_then_the_limit_is_reported() -> None:
    names = DeviceNames(Clock())
    assert sorted(names.take(volume_id, NITRO_NAMES) for volume_id in VOLUMES) == sorted(NITRO_NAMES)
    with pytest.raises(LimitExceeded, match="104 device names"):
        names.take("vol-1", NITRO_NAMES)


def test_volume_begins_its_search_at_the_same_place_after_a_restart() -> None:
    first, second = (DeviceNames(Clock()).take(VOLUMES[0], NITRO_NAMES) for _ in range(2))
    assert first == second
    starts = {DeviceNames(Clock()).take(volume_id, NITRO_NAMES) for volume_id in VOLUMES}
    assert len(starts) > len(NITRO_NAMES) / 2


def test_used_bad_and_visible_names_are_left_out() -> None:
    names = DeviceNames(Clock())
    used = names.take("vol-2", FOUR)
    bad, visible, free = (name for name in FOUR if name != used)
    names.avoid(bad)
    assert names.take("vol-1", FOUR, visible={visible}) == free


def test_bad_name_is_tried_again_after_an_hour() -> None:
    clock = Clock()
    names = DeviceNames(clock)
    names.avoid("/dev/xvdba")
    clock.now += 3599
    with pytest.raises(LimitExceeded):
        names.take("vol-1", ("/dev/xvdba",))
    clock.now += 2
    assert names.take("vol-1", ("/dev/xvdba",)) == "/dev/xvdba"


def test_name_of_a_failed_attach_is_free_again_and_rests_first() -> None:
    clock = Clock()
    names = DeviceNames(clock)
    failed = names.take("vol-1", TWO)
    names.leave("vol-1")
    clock.now += 59
    assert names.take("vol-1", TWO) != failed
    assert names.take("vol-2", TWO) == failed


def test_name_that_has_rested_is_as_good_as_any() -> None:
    clock = Clock()
    names = DeviceNames(clock)
    first = names.take("vol-1", TWO)
    names.leave("vol-1")
    clock.now += 61
    assert names.take("vol-1", TWO) == first


@pytest.mark.parametrize("left", [("vol-1", "vol-2"), ("vol-2", "vol-1")])
def test_name_that_was_left_first_is_used_rather_than_none(left: tuple[str, str]) -> None:
    clock = Clock()
    names = DeviceNames(clock)
    taken = {volume_id: names.take(volume_id, TWO) for volume_id in ("vol-1", "vol-2")}
    for volume_id in left:
        names.leave(volume_id)
        clock.now += 1
    assert names.take("vol-3", TWO) == taken[left[0]]


def test_volume_has_one_name() -> None:
    names = DeviceNames(Clock())
    first = names.take("vol-1", TWO)
    assert names.take("vol-1", TWO) != first
    assert names.take("vol-2", TWO) == first


@given(st.lists(st.tuples(st.sampled_from(VOLUMES[:30]), st.booleans()), max_size=60))
def test_no_two_attached_volumes_ever_share_a_name(moves: list[tuple[str, bool]]) -> None:
    names, attached = DeviceNames(Clock()), dict[str, str]()
    for volume_id, attach in moves:
        if attach and volume_id not in attached:
            attached[volume_id] = names.take(volume_id, XEN_NAMES)
        elif not attach and volume_id in attached:
            del attached[volume_id]
            names.leave(volume_id)
        assert len(set(attached.values())) == len(attached)
