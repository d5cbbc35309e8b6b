from dataclasses import replace

import pytest

from tests.volumes.test_ledger import volume_of
from tests.volumes.world import MemoryStore
from volplug.errors import BackendUnavailable
from volplug.models import Volume
from volplug.volumes.ledger import Desired, Entry, Ledger
from volplug.volumes.lists import Lists
from volplug.volumes.lookups import Answers
from volplug.volumes.views import VolumeView

V, W = volume_of("v"), volume_of("w")
OUTAGE = BackendUnavailable("no route to the cloud")


def view(volume: Volume, entry: Entry | None) -> VolumeView:
    return VolumeView(volume.name, entry.desired.value if entry else "", None, {})


def lists(*entries: Entry) -> tuple[Lists, Ledger]:
    ledger = Ledger(MemoryStore(), entries)
    return Lists(ledger, view), ledger


def names(views: object) -> list[str]:
    assert isinstance(views, list)
    return [each.name for each in views]


def test_the_list_has_all_backends_volumes_by_name() -> None:
    made, _ = lists()
    assert names(made.views({"far": (W,), "near": (V,)})) == ["v", "w"]


def test_what_a_backend_does_not_say_is_listed_as_it_was_last_known() -> None:
    made, _ = lists(Entry("v", "far", record=V), Entry("w", "near", record=W))
    assert names(made.views({"far": OUTAGE, "near": ()})) == ["v"]


def test_what_this_host_has_is_listed_whatever_a_backend_says() -> None:
    made, _ = lists(Entry("v", "far", record=V, desired=Desired.DETACHED))
    assert names(made.views({"far": ()})) == ["v"]


def test_the_same_answers_give_the_same_list() -> None:
    made, _ = lists()
    answers = (V,)
    assert made.views({"far": answers}) is made.views({"far": answers})


async def test_a_list_is_made_anew_once_anything_has_changed() -> None:
    made, ledger = lists()
    answers = (V,)
    first = made.views({"far": answers})
    await ledger.put(Entry("v", "far", desired=Desired.MOUNTED))
    second = made.views({"far": answers})
    assert second[0].mountpoint == "mounted"
    await ledger.forget("v")
    assert made.views({"far": answers}) == first
    assert names(made.views({"far": (V, W)})) == ["v", "w"]


@pytest.mark.parametrize("answer", [[V], OUTAGE])
def test_what_can_change_by_itself_is_not_kept(answer: list[Volume] | BackendUnavailable) -> None:
    made, _ = lists(Entry("v", "far", record=V))
    answers: Answers = {"far": answer}
    first = made.views(answers)
    if isinstance(answer, list):
        answer[0] = replace(W)
        assert names(made.views(answers)) == ["w"]
    else:
        assert made.views(answers) is not first
