"""Get and List in a cluster of many volumes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Final

from benchmarks import measures as m
from benchmarks.client import CallError, PluginClient, request
from benchmarks.ebs import measures as e
from benchmarks.ebs.counting import Counting
from benchmarks.ebs.ways import BySdk, tags_for
from benchmarks.measures import Measure, Results, measure_interleaved
from benchmarks.plan import Plan
from benchmarks.samples import milliseconds
from tests.ec2sim import NewVolume, RemoteEc2Cloud

_LISTS_PER_TURN: Final = 2


class Cluster:
    """A cluster that is filled up to as many volumes as the plan lists.

    Args:
        results: Where the figures go.
        plan: How often, and how many volumes.
        cloud: The simulated EC2.
        client: A connection to volplug.
        bare: The bare calls.
    """

    def __init__(
        self, results: Results, plan: Plan, cloud: RemoteEc2Cloud, client: PluginClient, bare: BySdk
    ) -> None:
        self._results = results
        self._plan = plan
        self._listing = plan.lists[m.LIST_1000.key]
        self._client = client
        self._bare = bare
        self._counting = Counting(results, cloud)
        facts = cloud.volumes()
        self._others = [f"more-{each:04}" for each in range(max(self._listing.volumes - len(facts), 1))]
        tags, zone = facts[0].tags, facts[0].zone
        cloud.add_volumes(NewVolume(tags_for(tags, name), zone=zone) for name in self._others)
        self._number = len(facts) + len(self._others)

    def measure(self, mounted: str, detached: str) -> None:
        """Measure with one mounted and one detached volume."""
        self._counting.count(e.CALLS_GET, partial(self._client.call, "Get", Name=detached))
        self._counting.count(e.CALLS_LIST, self._check_list)
        if self._bare.count() != self._number:
            raise CallError(f"EC2 lists {self._bare.count()} volumes instead of {self._number}")
        gets, lists = range(self._listing.calls), range(_LISTS_PER_TURN)
        self._measure(e.GET_MOUNTED, {m.VOLPLUG: self._timed("Get", len(gets), Name=mounted)})
        self._measure(e.GET_AGAIN, {m.VOLPLUG: self._timed("Get", len(gets), Name=detached)})
        others = cycle(self._others)  # volplug caches an answer for some seconds, so each time another one
        by_sdk: dict[Measure, Callable[[], Sequence[float]]] = {
            e.GET: lambda: [milliseconds(partial(self._bare.get, detached)) for _ in gets],
            e.LIST: lambda: [milliseconds(self._bare.count) for _ in lists],
        }
        by_volplug: dict[Measure, Callable[[], Sequence[float]]] = {
            e.GET: lambda: [milliseconds(lambda: self._client.call("Get", Name=next(others))) for _ in gets],
            e.LIST: self._timed("List", len(lists)),
        }
        for measure, action in by_volplug.items():
            self._measure(measure, {m.VOLPLUG: action, m.SDK: by_sdk[measure]})

    def _measure(self, measure: Measure, actions: Mapping[str, Callable[[], Sequence[float]]]) -> None:
        measure_interleaved(self._results, measure, self._plan.list_rounds, actions)

    def _timed(self, verb: str, count: int, **body: str) -> Callable[[], Sequence[float]]:
        return partial(self._client.timed, request(verb, body), count)

    def _check_list(self) -> None:
        listed = len(self._client.call("List")["Volumes"])
        if listed != self._number:
            raise CallError(f"volplug lists {listed} volumes instead of {self._number}")
