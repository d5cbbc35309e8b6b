import asyncio
from dataclasses import replace

import pytest

from tests.volumes.test_ledger import volume_of
from tests.volumes.world import GatedDriver, LocalDriver, MemoryStore, spec_of
from volplug.drivers.base import Driver
from volplug.errors import BackendUnavailable, ConfigurationError, DuplicateVolumes
from volplug.models import Volume
from volplug.testing.memory import MemoryCloud
from volplug.volumes.catalog import BackendLists, Catalog, VolumeListCache
from volplug.volumes.ledger import Desired, Entry, Ledger
from volplug.volumes.views import VolumeView, view_volume

ANONYMOUS = "0123456789abcdef" * 4
OUTAGE = BackendUnavailable("no route to the cloud")


class Backends:
    """A backend over a network and one of this host, with their catalog."""

    def __init__(self, timeout_s: float = 10) -> None:
        self.far_cloud, self.near_cloud = MemoryCloud(), MemoryCloud()
        self.far = GatedDriver(self.far_cloud, backend="far")
        self.near = LocalDriver(self.near_cloud, backend="near")
        drivers: dict[str, Driver] = {"far": self.far, "near": self.near}
        self.now_s = 0.0
        self.catalog = Catalog(drivers, timeout_s, lambda: self.now_s)


@pytest.fixture
async def both() -> Backends:
    return Backends()


async def test_every_backend_is_queried_for_an_unknown_name(both: Backends) -> None:
    assert await both.catalog.find("v") is None
    assert (both.far_cloud.calls, both.near_cloud.calls) == (["get"], ["get"])


async def test_only_the_backend_that_is_known_to_have_it_is_queried(both: Backends) -> None:
    volume = await both.near.create(spec_of("v"))
    assert await both.catalog.find("v", "near") == volume
    assert both.far_cloud.calls == []


async def test_a_backend_that_is_not_configured_is_an_error(both: Backends) -> None:
    with pytest.raises(ConfigurationError) as unknown:
        await both.catalog.find("v", "gone")
    assert str(unknown.value) == "backend 'gone' is not configured."


async def test_concurrent_look_ups_cost_one_call(both: Backends) -> None:
    await both.far.create(spec_of("v"))
    gate = both.far.hold("get")
    asking = [asyncio.create_task(both.catalog.find("v", "far")) for _ in range(20)]
    await gate.reached.wait()
    gate.opened.set()
    found = await asyncio.gather(*asking)
    assert {volume.name for volume in found if volume} == {"v"}
    assert both.far_cloud.calls == ["create", "get"]


async def test_a_caller_that_leaves_cancels_no_other_callers_look_up(both: Backends) -> None:
    await both.far.create(spec_of("v"))
    gate = both.far.hold("get")
    leaving, staying = (asyncio.create_task(both.catalog.find("v", "far")) for _ in range(2))
    await gate.reached.wait()
    leaving.cancel()
    gate.opened.set()
    assert await staying is not None


@pytest.mark.parametrize(("backend", "calls"), [("far", 1), ("near", 2)])
async def test_only_answers_of_remote_backends_are_cached(both: Backends, backend: str, calls: int) -> None:
    driver, cloud = (both.far, both.far_cloud) if backend == "far" else (both.near, both.near_cloud)
    await driver.create(spec_of("v"))
    assert both.catalog.cached("v", backend) is None
    for _ in range(2):
        found = await both.catalog.find("v", backend)
    assert cloud.calls.count("get") == calls
    assert both.catalog.cached("v", backend) == (found if calls == 1 else None)
    both.catalog.invalidate("v")
    assert both.catalog.cached("v", backend) is None


async def test_not_found_is_never_cached(both: Backends) -> None:
    for _ in range(2):
        assert await both.catalog.find("v", "far") is None
    assert both.far_cloud.calls.count("get") == 2


async def test_an_answer_is_cached_for_five_seconds(both: Backends) -> None:
    await both.far.create(spec_of("v"))
    for now_s, calls in ((100.0, 1), (104.9, 1), (105.0, 2)):
        both.now_s = now_s
        await both.catalog.find("v", "far")
        assert both.far_cloud.calls.count("get") == calls


async def test_a_changed_volume_is_looked_up_again(both: Backends) -> None:
    await both.far.create(spec_of("v"))
    await both.catalog.find("v")
    both.far_cloud.volumes.clear()
    both.catalog.invalidate("v")
    assert await both.catalog.find("v") is None


async def test_the_answer_of_a_look_up_from_before_a_change_is_not_cached_after_it(both: Backends) -> None:
    await both.far.create(spec_of("v"))
    gate = both.far.hold("get")
    asking = asyncio.create_task(both.catalog.find("v"))
    await gate.reached.wait()
    both.far_cloud.volumes.clear()
    both.catalog.invalidate("v")
    gate.opened.set()
    await asking
    assert await both.catalog.find("v") is None


async def test_a_look_up_after_a_change_does_not_join_one_from_before(both: Backends) -> None:
    await both.far.create(spec_of("v"))
    gate = both.far.hold("get")
    before = asyncio.create_task(both.catalog.find("v"))
    await gate.reached.wait()
    both.far_cloud.volumes.clear()
    both.catalog.invalidate("v")
    after = asyncio.create_task(both.catalog.find("v"))
    await asyncio.sleep(0)
    gate.opened.set()
    await before
    assert await after is None


async def test_the_end_of_an_old_look_up_does_not_affect_those_that_share_the_new_one(both: Backends) -> None:
    await both.far.create(spec_of("v"))
    old_gate = both.far.hold("get")
    old = asyncio.create_task(both.catalog.find("v", "far"))
    await old_gate.reached.wait()
    both.catalog.invalidate("v")
    both.far.gates.clear()
    new_gate = both.far.hold("get")
    new = [asyncio.create_task(both.catalog.find("v", "far"))]
    await new_gate.reached.wait()
    old_gate.opened.set()
    await old
    new.append(asyncio.create_task(both.catalog.find("v", "far")))
    await asyncio.sleep(0)
    new_gate.opened.set()
    await asyncio.gather(*new)
    assert both.far_cloud.calls.count("get") == 2


async def test_a_look_up_that_hangs_times_out_and_its_late_answer_serves_the_next() -> None:
    both = Backends(timeout_s=0.01)
    await both.far.create(spec_of("v"))
    gate = both.far.hold("get")
    with pytest.raises(BackendUnavailable) as late:
        await both.catalog.find("v")
    assert str(late.value) == "backend far did not answer within 0 s. Try again."
    gate.opened.set()
    assert await both.catalog.find("v") is not None
    assert both.far_cloud.calls.count("get") == 1


async def test_a_volume_found_counts_although_another_backend_is_down(both: Backends) -> None:
    volume = await both.near.create(spec_of("v"))
    both.far_cloud.outage = OUTAGE
    assert await both.catalog.find("v") == volume


async def test_no_volume_is_not_found_while_a_backend_is_down(both: Backends) -> None:
    both.far_cloud.outage = OUTAGE
    with pytest.raises(BackendUnavailable) as unknown:
        await both.catalog.find("v")
    assert unknown.value.cause == OUTAGE.cause


async def test_one_name_at_two_backends_is_never_the_first(both: Backends) -> None:
    far, near = await both.far.create(spec_of("v")), await both.near.create(spec_of("v"))
    with pytest.raises(DuplicateVolumes) as twice:
        await both.catalog.find("v")
    ids = (f"far:{far.volume_id}", f"near:{near.volume_id}")
    assert str(twice.value) == (
        f"several backends have a volume of this name: {', '.join(ids)}. Nothing was changed; rename one."
    )
    assert twice.value.volume_ids == ids


async def test_the_whole_list_with_the_failures_of_those_that_could_not_be_asked(both: Backends) -> None:
    volume = await both.near.create(spec_of("v"))
    both.far_cloud.outage = OUTAGE
    answers = await both.catalog.list_all()
    assert answers["near"] == [volume]
    assert str(answers["far"]) == str(OUTAGE)


async def test_a_list_that_hangs_times_out() -> None:
    both = Backends(timeout_s=0.01)
    gate = both.far.hold("list")
    answers = await both.catalog.list_all()
    assert str(answers["far"]) == "backend far did not answer within 0 s."
    gate.opened.set()


# The cached list


V, W = volume_of("v"), volume_of("w")


def view(volume: Volume, entry: Entry | None) -> VolumeView:
    return view_volume(volume, entry, "", "memory", None)


def lists(*entries: Entry) -> tuple[VolumeListCache, Ledger]:
    ledger = Ledger(MemoryStore(), entries)
    return VolumeListCache(ledger, view), ledger


def names(views: object) -> list[str]:
    assert isinstance(views, list)
    return [each.name for each in views]


def test_the_list_has_all_backends_volumes_by_name() -> None:
    made, _ = lists()
    assert names(made.views({"far": (W,), "near": (V,)})) == ["v", "w"]


def test_volumes_of_a_backend_that_does_not_answer_are_listed_as_last_known() -> None:
    made, _ = lists(Entry("v", "far", record=V), Entry("w", "near", record=W))
    assert names(made.views({"far": OUTAGE, "near": ()})) == ["v"]


def test_volumes_of_this_host_are_listed_whatever_a_backend_returns() -> None:
    made, _ = lists(Entry("v", "far", record=V, desired=Desired.DETACHED))
    assert names(made.views({"far": ()})) == ["v"]


def test_the_same_answers_give_the_same_list() -> None:
    made, _ = lists()
    answers = (V,)
    assert made.views({"far": answers}) is made.views({"far": answers})


async def test_a_list_is_rebuilt_after_any_change() -> None:
    made, ledger = lists()
    answers = (V,)
    first = made.views({"far": answers})
    await ledger.put(Entry("v", "far", desired=Desired.MOUNTED))
    second = made.views({"far": answers})
    assert second[0].desired is Desired.MOUNTED
    await ledger.forget("v")
    assert made.views({"far": answers}) == first
    assert names(made.views({"far": (V, W)})) == ["v", "w"]


@pytest.mark.parametrize("answer", [[V], OUTAGE])
def test_values_that_change_without_a_call_are_not_cached(answer: list[Volume] | BackendUnavailable) -> None:
    made, _ = lists(Entry("v", "far", record=V))
    answers: BackendLists = {"far": answer}
    first = made.views(answers)
    if isinstance(answer, list):
        answer[0] = replace(W)
        assert names(made.views(answers)) == ["w"]
    else:
        assert made.views(answers) is not first
