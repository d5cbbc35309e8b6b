"""Volumes on Cinder: everything that is measured, in its order."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from benchmarks import measures as m
from benchmarks import processes
from benchmarks.cinder import measures as c
from benchmarks.cinder.line import Line
from benchmarks.cinder.testbed import Testbed, is_bare, served
from benchmarks.cinder.ways import POLL_S, BySdk
from benchmarks.client import PluginClient, request
from benchmarks.clouds import ByVolplug, CloudVolplug, Way
from benchmarks.measures import Measure, Results, measure_interleaved
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.processes import activity, wait_until_quiet
from benchmarks.report import show
from benchmarks.samples import Samples, in_turns, milliseconds
from tests.lab.openstack import software
from tests.lab.waiting import wait_until

_AT_ONCE: Final = 10
_MINUTE_S: Final = 60.0
_RACE_S: Final = 0.3  # of first Mounts, which are not measured
_PRODUCTION_POLL_S: Final = 0.5
_QUIET_S: Final = 1.5  # longer than between two polls of a wait at first
_QUIET_TIMEOUT_S: Final = 60.0

Ways = Mapping[str, Way]


def measure_cinder(results: Results, plan: Plan, where: Place) -> None:
    """Measure everything, or note why nothing can be measured."""
    if reason := software.missing():
        for measure in c.MEASURES:
            results.lack(measure, m.VOLPLUG, reason)
        return
    show("an OpenStack starts")
    with served(where) as testbed:
        show("first calls")
        _measure_first(results, plan, testbed)
        _measure_times(results, plan, where, testbed)
        show("calls")
        _measure_calls(results, plan, where, testbed)


def _measure_first(results: Results, plan: Plan, testbed: Testbed) -> None:
    samples = Samples()
    for number in range(plan.starts):
        volplug = testbed.volplug(f"first-{number}", testbed.clouds_yaml, mount_grace_s=_MINUTE_S)
        with volplug, volplug.connect() as client:
            client.call("Capabilities")
            client.send(request("Get", {"Name": "nothing"}))  # that it is an error does not matter
            samples.time(c.FIRST, m.VOLPLUG, client.receive)
    samples.keep(results, c.FIRST)


def _measure_times(results: Results, plan: Plan, where: Place, testbed: Testbed) -> None:
    polls = {"poll_s": POLL_S, "poll_later_s": POLL_S, "race_s": _RACE_S}
    with ExitStack() as stack:
        volplug = stack.enter_context(testbed.volplug("volplug-cinder", testbed.clouds_yaml, **polls))
        processes.measure_memory(results, c.RSS_START, {m.VOLPLUG: volplug})
        client = stack.enter_context(volplug.connect()).with_room()
        cloud = stack.enter_context(testbed.connection(testbed.clouds_yaml))
        ours = ByVolplug(volplug, client, lambda: is_bare(testbed.ours))
        bare = BySdk(cloud, testbed.bare, where.directory / "targets")
        ways: Ways = {m.VOLPLUG: ours, m.SDK: bare}
        show("create and remove")
        _measure_lives(results, plan, ways)
        names = {
            peer: [f"{peer}-p{number}" for number in range(min(_AT_ONCE, plan.volumes))] for peer in ways
        }
        for each in [name for some in names.values() for name in some]:
            _use_once(ours, each)
        show("mounts")
        _measure_mounts(results, plan, testbed, ways, names)
        show("mounts at once")
        _measure_many(results, plan, testbed, ways, names)
        show("look-ups")
        _measure_gets(results, plan, client, bare, names[m.VOLPLUG])
        processes.measure_memory(results, c.RSS_WORK, {m.VOLPLUG: volplug})
        for each in [name for some in names.values() for name in some]:
            ours.remove(each)


def _measure_lives(results: Results, plan: Plan, ways: Ways) -> None:
    samples = Samples()
    names = {peer: [f"{peer}-{number}" for number in range(plan.rounds)] for peer in ways}

    def use(peer: str, way: Way, name: str) -> None:
        samples.time(c.CREATE, peer, lambda: way.create(name))
        samples.time(c.REMOVE, peer, lambda: way.remove(name))

    in_turns(plan.rounds, ways, names, use)
    samples.keep(results, c.CREATE, c.CREATE_ADDED)
    samples.keep(results, c.REMOVE, c.REMOVE_ADDED)


def _use_once(way: Way, name: str) -> None:
    way.create(name)
    way.mount(name)
    way.unmount(name)
    way.wait_detached(name)


def _measure_mounts(
    results: Results, plan: Plan, testbed: Testbed, ways: Ways, names: Mapping[str, list[str]]
) -> None:
    samples = Samples()

    def use(peer: str, way: Way, name: str) -> None:
        testbed.await_settled()
        samples.time(c.MOUNT, peer, lambda: way.mount(name))
        answered = samples.time(c.UNMOUNT, peer, lambda: way.unmount(name))
        samples.note(c.GONE, peer, answered + milliseconds(lambda: way.wait_detached(name)))

    in_turns(plan.rounds, ways, names, use)
    samples.keep(results, c.MOUNT, c.MOUNT_ADDED)
    samples.keep(results, c.UNMOUNT)
    samples.keep(results, c.GONE, c.GONE_ADDED)


def _measure_many(
    results: Results, plan: Plan, testbed: Testbed, ways: Ways, names: Mapping[str, list[str]]
) -> None:
    samples = Samples()

    def use(peer: str, way: Way, _: str) -> None:
        testbed.await_settled()
        samples.time(c.MANY, peer, lambda: way.mount_all(names[peer]))
        for name in names[peer]:
            way.unmount(name)
        for name in names[peer]:
            way.wait_detached(name)

    in_turns(plan.lifecycles, ways, names, use)
    samples.keep(results, c.MANY)


def _measure_gets(results: Results, plan: Plan, client: PluginClient, bare: BySdk, names: list[str]) -> None:
    mounted, detached = names[0], names[1:]
    client.call("Mount", Name=mounted, ID="x")
    get = request("Get", {"Name": mounted})
    measure_interleaved(results, c.GET_MOUNTED, plan.rounds, {m.VOLPLUG: partial(client.timed, get, 1)})
    turns = iter(detached)  # volplug caches an answer for some seconds, so each time another one
    ways: dict[str, Callable[[], Sequence[float]]] = {
        m.VOLPLUG: lambda: client.timed(request("Get", {"Name": next(turns)}), 1),
        m.SDK: lambda: [milliseconds(partial(bare.get, mounted))],
    }
    measure_interleaved(results, c.GET, len(detached), ways)
    client.call("Unmount", Name=mounted, ID="x")


def _measure_calls(results: Results, plan: Plan, where: Place, testbed: Testbed) -> None:
    """Count the calls of both ways, which poll as in production; then those while idle."""
    with ExitStack() as stack:
        line, file = stack.enter_context(testbed.line())
        volplug = stack.enter_context(testbed.volplug("volplug-counted", file))
        client = stack.enter_context(volplug.connect())
        cloud = stack.enter_context(testbed.connection(file))
        ours = ByVolplug(volplug, client, lambda: is_bare(testbed.ours))
        bare = BySdk(cloud, testbed.bare, where.directory / "targets", _PRODUCTION_POLL_S)
        counting = Counting(line)
        formatted = "formatted"
        _use_once(ours, formatted)  # and the SDK of volplug has discovered the services' versions
        bare.get(formatted)
        for number in range(plan.lifecycles):
            counting.count_ours(ours, f"{m.VOLPLUG}-c{number}")
            counting.count_bare(bare, f"{m.SDK}-c{number}", formatted)
        counting.keep(results)
        show(f"{plan.idle_s:g} s idle")
        ours.mount(formatted)
        _measure_idle(results, plan, line, volplug)
        ours.unmount(formatted)
        ours.wait_detached(formatted)
        ours.remove(formatted)


class Counting:
    """Counts the calls of each operation.

    Args:
        line: All calls pass it.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._samples = Samples()

    def count_ours(self, way: Way, name: str) -> None:
        """Take a new volume through all operations."""
        self._count(c.CALLS_CREATE, m.VOLPLUG, lambda: way.create(name))
        self._count(c.CALLS_FIRST, m.VOLPLUG, lambda: way.mount(name))
        self._count(c.CALLS_GONE, m.VOLPLUG, lambda: self._end(way, name))
        self._count(c.CALLS_MOUNT, m.VOLPLUG, lambda: way.mount(name))
        self._end(way, name)
        self._await_quiet()
        self._count(c.CALLS_REMOVE, m.VOLPLUG, lambda: way.remove(name))

    def count_bare(self, way: BySdk, name: str, formatted: str) -> None:
        """Make and delete a volume, and use one that volplug has formatted."""
        self._count(c.CALLS_CREATE, m.SDK, lambda: way.create(name))
        self._count(c.CALLS_REMOVE, m.SDK, lambda: way.remove(name))
        self._count(c.CALLS_MOUNT, m.SDK, lambda: way.mount(formatted))

        def end() -> None:
            self._end(way, formatted)
            way.await_free()

        self._count(c.CALLS_GONE, m.SDK, end)

    def keep(self, results: Results) -> None:
        """Add everything to the results."""
        for measure in (c.CALLS_CREATE, c.CALLS_FIRST, c.CALLS_MOUNT, c.CALLS_GONE, c.CALLS_REMOVE):
            self._samples.keep_counts(results, measure)

    def _end(self, way: Way, name: str) -> None:
        way.unmount(name)
        way.wait_detached(name)

    def _count(self, measure: Measure, peer: str, act: Callable[[], None]) -> None:
        before = self._line.counts()
        act()
        self._await_quiet()
        self._samples.count(measure, peer, self._line.counts() - before)

    def _await_quiet(self) -> None:
        def is_quiet() -> bool:
            before = self._line.counts()
            time.sleep(_QUIET_S)
            return self._line.counts() == before

        wait_until(is_quiet, _QUIET_TIMEOUT_S, "no more calls are made")


def _measure_idle(results: Results, plan: Plan, line: Line, volplug: CloudVolplug) -> None:
    wait_until_quiet(volplug.pid)
    calls, before = line.counts().total(), activity(volplug.pid)
    time.sleep(plan.idle_s)
    after, scale = activity(volplug.pid), _MINUTE_S / plan.idle_s
    results.add(c.IDLE_CPU, m.VOLPLUG, [(after.cpu_ns - before.cpu_ns) / 1e6 * scale])
    results.add(c.IDLE_CALLS, m.VOLPLUG, [(line.counts().total() - calls) * scale])
