"""Samples of both ways, taken in turns."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle

from benchmarks import measures as m
from benchmarks.client import CallError
from benchmarks.clouds import Way
from benchmarks.measures import Measure, Results, interleaved


def milliseconds(action: Callable[[], object]) -> float:
    """Run an action and return how long it took."""
    begun = time.perf_counter_ns()
    action()
    return (time.perf_counter_ns() - begun) / 1e6


class Samples:
    """The samples of a run, by measure and peer."""

    def __init__(self) -> None:
        self._samples: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        self._counts: defaultdict[tuple[str, str], list[Counter[str]]] = defaultdict(list)

    def time(self, measure: Measure, peer: str, action: Callable[[], object]) -> float:
        """Run an action, keep how many milliseconds it took, and return them."""
        taken = milliseconds(action)
        self.note(measure, peer, taken)
        return taken

    def note(self, measure: Measure, peer: str, value: float) -> None:
        """Keep a value."""
        self._samples[measure.key, peer].append(value)

    def count(self, measure: Measure, peer: str, made: Counter[str]) -> None:
        """Keep how many calls of each action were made."""
        self._counts[measure.key, peer].append(made)

    def keep(self, results: Results, measure: Measure, added: Measure | None = None) -> None:
        """Add a measure to the results, and optionally what volplug adds to the bare calls, run by run."""
        for (key, peer), samples in self._samples.items():
            if key == measure.key:
                results.add(measure, peer, samples)
        if added is not None:
            ours, bare = (self._samples[measure.key, peer] for peer in (m.VOLPLUG, m.SDK))
            results.add(added, m.VOLPLUG, differences(ours, bare))

    def keep_counts(self, results: Results, measure: Measure) -> None:
        """Add counts of calls to the results."""
        for peer in (m.VOLPLUG, m.SDK):
            if samples := self._counts[measure.key, peer]:
                results.add_counts(measure, peer, samples)

    def keep_ratios(self, results: Results, measure: Measure, above: Measure, below: Measure) -> None:
        """Add to the results by which factor one measure exceeds another, run by run."""
        for peer in (m.VOLPLUG, m.SDK):
            pairs = zip(self._samples[above.key, peer], self._samples[below.key, peer], strict=True)
            results.add(measure, peer, [one / other for one, other in pairs])


def differences(ours: Sequence[float], bare: Sequence[float]) -> list[float]:
    """The difference of the first to the second, run by run."""
    return [one - other for one, other in zip(ours, bare, strict=True)]


def in_turns(
    rounds: int,
    ways: Mapping[str, Way],
    names: Mapping[str, Sequence[str]],
    act: Callable[[str, Way, str], None],
) -> None:
    """Let each way act on its next volume, each time another one first."""
    following = {peer: cycle(names[peer]) for peer in ways}

    def turn(peer: str) -> Sequence[float]:
        act(peer, ways[peer], next(following[peer]))
        return ()

    _, failures = interleaved(rounds, {peer: partial(turn, peer) for peer in ways})
    if failures:
        raise CallError(f"a way failed: {failures}")
