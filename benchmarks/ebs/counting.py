"""Calls that volplug makes to EC2: for each operation, and while idle."""

import time
from collections.abc import Callable
from typing import Final

from benchmarks import measures as m
from benchmarks.clouds import CloudVolplug
from benchmarks.ebs import measures as e
from benchmarks.measures import Measure, Results
from benchmarks.plan import Plan
from benchmarks.processes import activity, wait_until_quiet
from tests.ec2sim import RemoteEc2Cloud

_MINUTE_S: Final = 60.0


class Counting:
    """Counts calls; only volplug makes any meanwhile."""

    def __init__(self, results: Results, cloud: RemoteEc2Cloud) -> None:
        self._results = results
        self._cloud = cloud

    def count(self, measure: Measure, action: Callable[[], object]) -> None:
        """Do something and keep how many calls it took."""
        self._cloud.calls.reset()
        action()
        self._results.add_counts(measure, m.VOLPLUG, [self._cloud.calls.counts()])


def measure_idle(results: Results, plan: Plan, cloud: RemoteEc2Cloud, volplug: CloudVolplug) -> None:
    """Measure the calls while idle, with a volume mounted and a connection open."""
    wait_until_quiet(volplug.pid)
    cloud.calls.reset()
    before = activity(volplug.pid)
    time.sleep(plan.idle_s)
    after = activity(volplug.pid)
    scale = _MINUTE_S / plan.idle_s
    results.add(e.IDLE_CPU, m.VOLPLUG, [(after.cpu_ns - before.cpu_ns) / 1e6 * scale])
    results.add(e.IDLE_CALLS, m.VOLPLUG, [cloud.calls.counts().total() * scale])
