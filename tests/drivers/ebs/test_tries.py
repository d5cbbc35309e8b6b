"""Giving up a call lets no further try begin."""

import pytest

from volplug.drivers.ebs.tries import GivenUp, Tries


def test_giving_up_between_tries_lets_none_begin() -> None:
    tries = Tries()
    tries.begin()
    tries.failed("RequestLimitExceeded")
    assert tries.give_up()
    with pytest.raises(GivenUp):
        tries.begin()
    assert tries.last == "RequestLimitExceeded"


def test_giving_up_during_a_try_says_so_and_lets_no_other_begin() -> None:
    tries = Tries()
    tries.begin()
    assert not tries.give_up()
    with pytest.raises(GivenUp):
        tries.failed("InternalError")
    assert tries.give_up()


def test_giving_up_before_the_thread_runs_lets_it_do_nothing() -> None:
    tries = Tries()
    assert tries.give_up()
    with pytest.raises(GivenUp), tries.made_here():
        pytest.fail("it ran")
