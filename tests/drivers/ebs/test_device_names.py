"""Which device name an attachment gets."""

import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volplug.drivers.ebs.names import NITRO_NAMES, XEN_NAMES, DeviceNames
from volplug.errors import LimitExceeded

VOLUMES = [f"vol-{number:017x}" for number in range(len(NITRO_NAMES))]


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_names_are_ones_that_ec2_takes() -> None:
    assert all(re.fullmatch(r"/dev/xvd[a-d][a-z]", name) for name in NITRO_NAMES)
    assert all(re.fullmatch(r"/dev/xvd[bc][a-z]", name) for name in XEN_NAMES)


def test_every_name_is_given_once_and_then_the_limit_is_said() -> None:
    names = DeviceNames(NITRO_NAMES, Clock())
    assert sorted(names.take(volume_id) for volume_id in VOLUMES) == sorted(NITRO_NAMES)
    with pytest.raises(LimitExceeded, match="104 device names"):
        names.take("vol-1")


def test_volume_begins_its_search_at_the_same_place_after_a_restart() -> None:
    assert DeviceNames(NITRO_NAMES, Clock()).take(VOLUMES[0]) == DeviceNames(NITRO_NAMES, Clock()).take(
        VOLUMES[0]
    )
    starts = {DeviceNames(NITRO_NAMES, Clock()).take(volume_id) for volume_id in VOLUMES}
    assert len(starts) > len(NITRO_NAMES) / 2


def test_bad_and_visible_names_are_left_out() -> None:
    names = DeviceNames(("/dev/xvdba", "/dev/xvdbb", "/dev/xvdbc"), Clock())
    names.avoid("/dev/xvdba")
    assert names.take("vol-1", visible={"/dev/xvdbb"}) == "/dev/xvdbc"


def test_bad_name_is_tried_again_after_an_hour() -> None:
    clock = Clock()
    names = DeviceNames(("/dev/xvdba",), clock)
    names.avoid("/dev/xvdba")
    with pytest.raises(LimitExceeded):
        names.take("vol-1")
    clock.now += 3601
    assert names.take("vol-1") == "/dev/xvdba"


def test_name_of_a_failed_attach_is_free_again_and_rests_first() -> None:
    names = DeviceNames(("/dev/xvdba", "/dev/xvdbb"), Clock())
    failed = names.take("vol-1")
    names.leave("vol-1")
    assert names.take("vol-1") != failed
    assert names.take("vol-2") == failed


def test_name_that_rests_is_used_rather_than_none() -> None:
    clock = Clock()
    names = DeviceNames(("/dev/xvdba", "/dev/xvdbb"), clock)
    first = names.take("vol-1")
    names.take("vol-2")
    names.leave("vol-1")
    clock.now += 1
    names.leave("vol-2")
    assert names.take("vol-3") == first


def test_volume_has_one_name() -> None:
    names = DeviceNames(("/dev/xvdba", "/dev/xvdbb"), Clock())
    first = names.take("vol-1")
    assert names.take("vol-1") != first
    assert names.take("vol-2") == first


@given(st.lists(st.tuples(st.sampled_from(VOLUMES[:30]), st.booleans()), max_size=60))
def test_no_two_attached_volumes_ever_share_a_name(moves: list[tuple[str, bool]]) -> None:
    names, attached = DeviceNames(XEN_NAMES, Clock()), dict[str, str]()
    for volume_id, attach in moves:
        if attach and volume_id not in attached:
            attached[volume_id] = names.take(volume_id)
        elif not attach and volume_id in attached:
            del attached[volume_id]
            names.leave(volume_id)
        assert len(set(attached.values())) == len(attached)
