"""Calls that volplug makes to EC2: for each operation, and while nobody asks."""

import time
from collections.abc import Callable
from typing import Final

from benchmarks import measures as m
from benchmarks.ebs import measures as e
from benchmarks.ebs.site import EbsVolplug
from benchmarks.ebs.ways import Way
from benchmarks.measures import Measure, Results
from benchmarks.plan import Plan
from benchmarks.processes import activity, wait_until_quiet
from tests.ec2sim import RemoteEc2Cloud
from tests.lab.waiting import wait_until

_MINUTE_S: Final = 60.0
_DETACH_TIMEOUT_S: Final = 30.0


class Counting:
    """Counts calls; nobody but volplug makes any meanwhile."""

    def __init__(self, results: Results, cloud: RemoteEc2Cloud) -> None:
        self._results = results
        self._cloud = cloud

    def count(self, measure: Measure, action: Callable[[], object]) -> None:
        """Do something and keep how many calls it took."""
        self._cloud.calls.reset()
        action()
        self._results.add(measure, m.VOLPLUG, [self._cloud.calls.counts().total()])

    def count_life(self, volplug: Way, name: str) -> None:
        """Create, mount twice, remove."""

        def unmount() -> None:
            volplug.unmount(name)
            volplug.let_go(name)
            wait_until(self._is_all_detached, _DETACH_TIMEOUT_S, "EC2 has detached all volumes")

        self.count(e.CALLS_CREATE, lambda: volplug.create(name))
        self.count(e.CALLS_FIRST, lambda: volplug.mount(name))
        unmount()
        self.count(e.CALLS_MOUNT, lambda: volplug.mount(name))
        self.count(e.CALLS_UNMOUNT, unmount)
        self.count(e.CALLS_REMOVE, lambda: volplug.remove(name))

    def _is_all_detached(self) -> bool:
        """Tell whether DetachVolume has done all that it does: it is counted as it is answered."""
        answered = self._cloud.calls.counts()["DetachVolume"] > 0
        return answered and all(each.attachment is None for each in self._cloud.volumes())


def measure_idle(results: Results, plan: Plan, cloud: RemoteEc2Cloud, volplug: EbsVolplug) -> None:
    """With a volume mounted and a connection open, asked nothing."""
    wait_until_quiet(volplug.pid)
    cloud.calls.reset()
    before = activity(volplug.pid)
    time.sleep(plan.idle_s)
    after = activity(volplug.pid)
    scale = _MINUTE_S / plan.idle_s
    results.add(e.IDLE_CPU, m.VOLPLUG, [(after.cpu_ns - before.cpu_ns) / 1e6 * scale])
    results.add(e.IDLE_CALLS, m.VOLPLUG, [cloud.calls.counts().total() * scale])
