"""Operations on volumes, by volplug and by the bare calls in turns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import measures as m
from benchmarks.clouds import Way
from benchmarks.ebs import measures as e
from benchmarks.measures import Measure, Results
from benchmarks.plan import Plan
from benchmarks.samples import Samples, in_turns, milliseconds
from tests.ec2sim import RemoteEc2Cloud
from tests.lab.waiting import wait_until

_LATENCY_S: Final = 0.05
_DEVICE_LAG_S: Final = 0.1
_SLOW_DEVICE_LAG_S: Final = 1.0
_DETACH_TIMEOUT_S: Final = 30.0

Ways = Mapping[str, Way]
Names = Mapping[str, Sequence[str]]


def measure_lives(results: Results, plan: Plan, ways: Ways) -> None:
    """Measure Create and Remove, with new names."""
    samples, rounds = Samples(), plan.rounds * plan.pairs
    names = {peer: [f"{peer}-{number}" for number in range(rounds)] for peer in ways}

    def use(peer: str, way: Way, name: str) -> None:
        samples.time(e.CREATE, peer, lambda: way.create(name))
        samples.time(e.REMOVE, peer, lambda: way.remove(name))

    in_turns(rounds, ways, names, use)
    samples.keep(results, e.CREATE, e.CREATE_ADDED)
    samples.keep(results, e.REMOVE, e.REMOVE_ADDED)


def measure_mounts(results: Results, plan: Plan, ways: Ways, names: Names) -> None:
    """Measure Mount and Unmount of formatted volumes, until the device has gone."""
    samples = Samples()

    def use(peer: str, way: Way, name: str) -> None:
        samples.time(e.MOUNT, peer, lambda: way.mount(name))
        answered = samples.time(e.UNMOUNT, peer, lambda: way.unmount(name))
        samples.note(e.GONE, peer, answered + milliseconds(lambda: way.wait_detached(name)))

    in_turns(plan.rounds * plan.pairs, ways, names, use)
    samples.keep(results, e.MOUNT, e.MOUNT_ADDED)
    samples.keep(results, e.UNMOUNT)
    samples.keep(results, e.GONE, e.GONE_ADDED)


def measure_late(results: Results, plan: Plan, cloud: RemoteEc2Cloud, ways: Ways, names: Names) -> None:
    """Measure Mounts whose device appears late, as a real one does."""
    samples = Samples()

    def use(peer: str, way: Way, name: str) -> None:
        samples.time(e.LATE, peer, lambda: way.mount(name))
        way.unmount(name)
        way.wait_detached(name)

    cloud.set_plan(device="after", device_lag_s=_DEVICE_LAG_S)
    try:
        in_turns(plan.rounds, ways, names, use)
    finally:
        cloud.end_faults()
    samples.keep(results, e.LATE, e.LATE_ADDED)


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Measures of one mount and of many at once, and how slow EC2 is meanwhile."""

    one: Measure
    many: Measure
    ratio: Measure
    calls: Measure | None
    slowness: Mapping[str, object]


def _at_once(plan: Plan) -> Sequence[AtOnce]:
    late = {"device": "after", "device_lag_s": _SLOW_DEVICE_LAG_S * plan.second_s}
    return (
        AtOnce(e.ONE, e.MANY, e.MANY_RATIO, e.MANY_CALLS, {"latency_s": _LATENCY_S}),
        AtOnce(e.SLOW_ONE, e.SLOW_MANY, e.SLOW_RATIO, None, {"latency_s": _LATENCY_S, **late}),
    )


def measure_many(results: Results, plan: Plan, cloud: RemoteEc2Cloud, ways: Ways, names: Names) -> None:
    """Measure one mount, then many at once, with calls and devices that take as long as over a network."""
    for each in _at_once(plan):
        cloud.set_plan(**each.slowness)
        try:
            _measure_at_once(results, plan, cloud, ways, names, each)
        finally:
            cloud.end_faults()


def _measure_at_once(
    results: Results, plan: Plan, cloud: RemoteEc2Cloud, ways: Ways, names: Names, each: AtOnce
) -> None:
    samples = Samples()

    def use(peer: str, way: Way, name: str) -> None:
        cloud.calls.reset()
        samples.time(each.one, peer, lambda: way.mount(name))
        _end(way, [name])
        if each.calls is not None:
            _await_detach(cloud)
        cloud.calls.reset()
        samples.time(each.many, peer, lambda: way.mount_all(names[peer]))
        if each.calls is not None:
            samples.count(each.calls, peer, cloud.calls.counts())
        _end(way, names[peer])

    in_turns(plan.parallel_rounds, ways, names, use)
    samples.keep(results, each.one)
    samples.keep(results, each.many)
    if each.calls is not None:
        samples.keep_counts(results, each.calls)
    samples.keep_ratios(results, each.ratio, each.many, each.one)


def _await_detach(cloud: RemoteEc2Cloud) -> None:
    """Wait until DetachVolume is counted, which it is when it is answered: the device disappears before."""
    wait_until(
        lambda: cloud.calls.counts()["DetachVolume"] > 0, _DETACH_TIMEOUT_S, "DetachVolume is answered"
    )


def _end(way: Way, names: Sequence[str]) -> None:
    for name in names:
        way.unmount(name)
    for name in names:
        way.wait_detached(name)


def prepare(volplug: Way, names: Sequence[str]) -> None:
    """Make formatted volumes."""
    for name in names:
        volplug.create(name)
        volplug.mount(name)
        volplug.unmount(name)
        volplug.wait_detached(name)


def names_for(plan: Plan) -> Names:
    """The names of the volumes that are prepared for each way."""
    return {peer: [f"{peer}-p{number:02}" for number in range(plan.volumes)] for peer in (m.VOLPLUG, m.SDK)}
