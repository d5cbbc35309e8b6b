"""The lives of volumes, by volplug and by the bare calls in turns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import measures as m
from benchmarks.ebs import measures as e
from benchmarks.ebs.taken import Taken, in_turns, milliseconds
from benchmarks.ebs.ways import Way
from benchmarks.measures import Measure, Results
from benchmarks.plan import Plan
from tests.ec2sim import RemoteEc2Cloud
from tests.lab.waiting import wait_until

_LATENCY_S: Final = 0.05
_DEVICE_LAG_S: Final = 0.1
_SLOW_DEVICE_LAG_S: Final = 1.0
_DETACH_TIMEOUT_S: Final = 30.0

Ways = Mapping[str, Way]
Names = Mapping[str, Sequence[str]]


def measure_lives(results: Results, plan: Plan, ways: Ways) -> None:
    """Create and Remove, of names that were never used."""
    taken, rounds = Taken(), plan.rounds * plan.pairs
    names = {peer: [f"{peer}-{number}" for number in range(rounds)] for peer in ways}

    def live(peer: str, way: Way, name: str) -> None:
        taken.time(e.CREATE, peer, lambda: way.create(name))
        taken.time(e.REMOVE, peer, lambda: way.remove(name))

    in_turns(rounds, ways, names, live)
    taken.keep(results, e.CREATE, e.CREATE_ADDED)
    taken.keep(results, e.REMOVE, e.REMOVE_ADDED)


def measure_mounts(results: Results, plan: Plan, ways: Ways, names: Names) -> None:
    """Mount and Unmount of formatted volumes, until the device has gone."""
    taken = Taken()

    def use(peer: str, way: Way, name: str) -> None:
        taken.time(e.MOUNT, peer, lambda: way.mount(name))
        answered = taken.time(e.UNMOUNT, peer, lambda: way.unmount(name))
        taken.note(e.GONE, peer, answered + milliseconds(lambda: way.let_go(name)))

    in_turns(plan.rounds * plan.pairs, ways, names, use)
    taken.keep(results, e.MOUNT, e.MOUNT_ADDED)
    taken.keep(results, e.UNMOUNT)
    taken.keep(results, e.GONE, e.GONE_ADDED)


def measure_late(results: Results, plan: Plan, cloud: RemoteEc2Cloud, ways: Ways, names: Names) -> None:
    """Mounts whose device lets itself be awaited, as a real one does."""
    taken = Taken()

    def use(peer: str, way: Way, name: str) -> None:
        taken.time(e.LATE, peer, lambda: way.mount(name))
        way.unmount(name)
        way.let_go(name)

    cloud.set_plan(device="after", device_lag_s=_DEVICE_LAG_S)
    try:
        in_turns(plan.rounds, ways, names, use)
    finally:
        cloud.end_faults()
    taken.keep(results, e.LATE, e.LATE_ADDED)


@dataclass(frozen=True, slots=True)
class AtOnce:
    """One mount and many at once, and how slow EC2 is meanwhile."""

    one: Measure
    many: Measure
    ratio: Measure
    calls: Measure | None
    slowness: Mapping[str, object]


_AT_ONCE: Final = (
    AtOnce(e.ONE, e.MANY, e.MANY_RATIO, e.MANY_CALLS, {"latency_s": _LATENCY_S}),
    AtOnce(
        e.SLOW_ONE,
        e.SLOW_MANY,
        e.SLOW_RATIO,
        None,
        {"latency_s": _LATENCY_S, "device": "after", "device_lag_s": _SLOW_DEVICE_LAG_S},
    ),
)


def measure_many(results: Results, plan: Plan, cloud: RemoteEc2Cloud, ways: Ways, names: Names) -> None:
    """One mount, then many at once, with calls and devices that take as long as they do over a network."""
    for each in _AT_ONCE:
        cloud.set_plan(**each.slowness)
        try:
            _measure_at_once(results, plan, cloud, ways, names, each)
        finally:
            cloud.end_faults()


def _measure_at_once(
    results: Results, plan: Plan, cloud: RemoteEc2Cloud, ways: Ways, names: Names, each: AtOnce
) -> None:
    taken = Taken()

    def use(peer: str, way: Way, name: str) -> None:
        cloud.calls.reset()
        taken.time(each.one, peer, lambda: way.mount(name))
        _end(way, [name])
        if each.calls is not None:
            _await_detach(cloud)
        cloud.calls.reset()
        taken.time(each.many, peer, lambda: way.mount_all(names[peer]))
        if each.calls is not None:
            taken.count(each.calls, peer, cloud.calls.counts())
        _end(way, names[peer])

    in_turns(plan.parallel_rounds, ways, names, use)
    taken.keep(results, each.one)
    taken.keep(results, each.many)
    if each.calls is not None:
        taken.keep_counts(results, each.calls)
    taken.keep_ratios(results, each.ratio, each.many, each.one)


def _await_detach(cloud: RemoteEc2Cloud) -> None:
    """Wait until DetachVolume is counted, which it is when it is answered: a device goes before that."""
    wait_until(
        lambda: cloud.calls.counts()["DetachVolume"] > 0, _DETACH_TIMEOUT_S, "DetachVolume is answered"
    )


def _end(way: Way, names: Sequence[str]) -> None:
    for name in names:
        way.unmount(name)
    for name in names:
        way.let_go(name)


def prepare(volplug: Way, names: Sequence[str]) -> None:
    """Make formatted volumes."""
    for name in names:
        volplug.create(name)
        volplug.mount(name)
        volplug.unmount(name)
        volplug.let_go(name)


def names_for(plan: Plan) -> Names:
    """The volumes that are prepared for each way."""
    return {peer: [f"{peer}-p{number:02}" for number in range(plan.volumes)] for peer in (m.VOLPLUG, m.SDK)}
