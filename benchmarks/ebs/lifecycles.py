"""Life cycles of volumes while EC2's states are slow or quick: how long each step takes, and its calls."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Final

from benchmarks.clouds import spin_until
from benchmarks.ebs import measures as e
from benchmarks.ebs.groups import Group
from benchmarks.ebs.measures import Step, Steps
from benchmarks.measures import Results
from benchmarks.plan import Plan
from benchmarks.samples import Samples, milliseconds
from tests.ec2sim import RemoteEc2Cloud, Slow

_READ_EVERY_S: Final = 0.02

Groups = Mapping[str, Group]


class Lifecycles:
    """Takes volumes from Create to Remove.

    Args:
        cloud: The simulated EC2.
        steps: What is measured.
    """

    def __init__(self, cloud: RemoteEc2Cloud, steps: Steps) -> None:
        self._cloud = cloud
        self._steps = steps
        self._samples = Samples()
        self._failed: defaultdict[tuple[Step, str], list[str]] = defaultdict(list)
        self._numbers = count()

    def run_one(self, peer: str, group: Group) -> None:
        """Take one volume through every step, and another one through Create and Remove only."""
        steps, (one, idle) = self._steps, ([name] for name in self._new_names(peer, 2))
        self._do(steps.create, peer, group, partial(group.create, idle))
        first = partial(group.mount, one, is_blank=True)
        self._do(steps.first, peer, group, partial(group.create, one), first)
        self._leave(peer, group, one)
        self._do(steps.mount, peer, group, partial(group.mount, one))
        self._after_unmount(steps.again, peer, group, one, group.mount)
        self._after_unmount(steps.remove_now, peer, group, one, group.remove)
        self._do(steps.remove, peer, group, partial(group.remove, idle))

    def run_many(self, peer: str, group: Group, number: int) -> None:
        """Take many volumes from Create to Remove."""
        steps, names = self._steps, self._new_names(peer, number)
        self._do(steps.creates, peer, group, partial(group.create, names))
        self._do(steps.mounts, peer, group, partial(group.mount, names, is_blank=True))
        end = [partial(act, names) for act in (group.unmount, group.detach, group.remove)]
        self._do(steps.removes, peer, group, *end)

    def keep(self, results: Results) -> None:
        """Add everything to the results."""
        self._samples.keep(results, self._steps.unmount)
        for step in self._steps.all:
            self._samples.keep(results, step.took)
            self._samples.keep_counts(results, step.calls)
        for (step, peer), failed in self._failed.items():
            why = f"{len(failed)} failed and were repeated, the first with {failed[0]}"
            results.lack(step.took, peer, why)

    def _do(self, step: Step, peer: str, group: Group, *acts: Callable[[], object]) -> None:
        before = group.calls()
        self._samples.time(step.took, peer, lambda: [act() for act in acts])
        self._count(step, peer, group, before)

    def _leave(self, peer: str, group: Group, names: Sequence[str]) -> None:
        """Unmount and wait until the volume is available; read from the simulation, not counted as a call."""
        (volume_id,) = (each.volume_id for each in self._cloud.volumes() if each.tags.get("Name") in names)
        before = group.calls()
        answered_ms = self._samples.time(self._steps.unmount, peer, partial(group.unmount, names))

        def see_it_go() -> None:
            group.detach(names)
            spin_until(lambda: self._is_available(volume_id), f"{volume_id} is available", _READ_EVERY_S)

        self._samples.note(self._steps.gone.took, peer, answered_ms + milliseconds(see_it_go))
        group.settle()
        self._count(self._steps.gone, peer, group, before)

    def _is_available(self, volume_id: str) -> bool:
        fact = self._cloud.volume(volume_id)
        return fact is not None and fact.status == "available"

    def _after_unmount(
        self,
        step: Step,
        peer: str,
        group: Group,
        names: Sequence[str],
        act: Callable[[Sequence[str]], object],
    ) -> None:
        """Act as soon as the last Unmount is answered; its detach counts as well, also in the background."""
        before = group.calls()
        group.unmount(names)
        acts = (group.detach, act)
        self._samples.time(step.took, peer, lambda: [each(names) for each in acts])
        self._count(step, peer, group, before)

    def _count(self, step: Step, peer: str, group: Group, before: Counter[str]) -> None:
        self._samples.count(step.calls, peer, group.calls() - before)
        if failed := group.failures():
            self._failed[step, peer] += failed

    def _new_names(self, peer: str, number: int) -> list[str]:
        return [f"{peer}-{self._steps.pace}-{next(self._numbers):04}" for _ in range(number)]


def measure_states(results: Results, plan: Plan, cloud: RemoteEc2Cloud, groups: Groups) -> None:
    """Measure life cycles with slow states, then with quick ones."""
    cloud.set_plan(
        creating=Slow(e.CREATING_S * plan.second_s),
        attaching=Slow(e.ATTACHING_S * plan.second_s),
        detaching=Slow(e.DETACHING_S * plan.second_s),
    )
    try:
        # At the same time, because both ways wait nearly all of the time.
        _measure(results, plan, cloud, groups, e.SLOW, side_by_side=len(groups))
    finally:
        cloud.end_faults()
    _measure(results, plan, cloud, groups, e.QUICK, side_by_side=1)


def _measure(
    results: Results, plan: Plan, cloud: RemoteEc2Cloud, groups: Groups, steps: Steps, *, side_by_side: int
) -> None:
    lifecycles = Lifecycles(cloud, steps)
    with ThreadPoolExecutor(side_by_side) as threads:
        for _ in range(plan.lifecycles):
            cloud.calls.reset()
            for each in [threads.submit(lifecycles.run_one, peer, group) for peer, group in groups.items()]:
                each.result()
    for _ in range(plan.parallel_lifecycles):
        for peer, group in groups.items():
            cloud.calls.reset()
            lifecycles.run_many(peer, group, plan.volumes)
    lifecycles.keep(results)
