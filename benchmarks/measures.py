"""What is measured, and the figures of one run."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.client import CallError

VOLPLUG, RCLONE, LOCAL, SHELL, BARE, ECHO = "volplug", "rclone", "local", "shell", "syscalls", "echo"
SDK = "sdk"


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is measured of one or more peers."""

    key: str
    title: str
    unit: str = "ms"


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured of one peer."""

    p50: float
    p99: float
    count: int


START = Measure("start", "Start until Activate is answered")
INTERPRETER = Measure("start.python", "Start of the Python interpreter alone")
IMPORTS = Measure("start.imports", "The same and the imports of `volplug serve`")
RSS_START = Measure("rss.start", "Resident memory after the start", "MiB")
RSS_WORK = Measure("rss.work", "Resident memory after all calls below", "MiB")
CONSTANT = Measure("capabilities", "Capabilities (a constant)")
GET_MOUNTED = Measure("get.mounted", "Get of a mounted volume")
GET_DETACHED = Measure("get.detached", "Get of a detached volume")
GET_8 = Measure("get.8", "Get of a mounted volume, 8 connections at once, time for each")
PATH = Measure("path", "Path of a mounted volume")
LIST_10 = Measure("list.10", "List of 10")
LIST_1000 = Measure("list.1000", "List of 1,000")
LIST_10000 = Measure("list.10000", "List of 10,000")
LISTS = (LIST_10, LIST_1000, LIST_10000)
CREATE_10 = Measure("create.10", "Create of a sparse volume among 10")
CREATE_1000 = Measure("create.1000", "The same among 1,000")
FIRST = Measure("mount.first", "Create, first Mount (formats) and Unmount")
MOUNT_COLD = Measure("mount.cold", "Mount of a detached volume")
UNMOUNT_COLD = Measure("unmount.cold", "Unmount after it")
COLD = Measure("pair.cold", "Mount + Unmount of a detached volume")
COLD_GONE = Measure("pair.cold.gone", "The same until the device is detached")
WARM = Measure("pair.warm", "Mount + Unmount of an attached volume")
PARALLEL = Measure("mount.parallel", "50 Mounts of 50 volumes at once, until the last answer")
RUN = Measure("run", "`docker run --rm`, volume at a path of its own")
RUN_OVER_LOCAL = Measure("run.over-local", "The same over `local`, run by run")
RUN_TWICE = Measure("run.twice", "`docker run --rm`, volume at a path that the image has")
RUN_TWICE_OVER_LOCAL = Measure("run.twice.over-local", "The same with two mounts over `local`, run by run")
IDLE_CPU = Measure("idle.cpu", "Idle: processor time")
IDLE_SWITCHES = Measure("idle.switches", "Idle: voluntary context switches", "")
IDLE_CALLS = Measure("idle.calls", "Idle: reads and writes, programs started, ledger writes", "")

MEASURES: Sequence[Measure] = (
    START, INTERPRETER, IMPORTS, RSS_START, RSS_WORK, CONSTANT, GET_MOUNTED, GET_8, GET_DETACHED, PATH,
    LIST_10, LIST_1000, LIST_10000, CREATE_10, CREATE_1000, FIRST, MOUNT_COLD, UNMOUNT_COLD, COLD, COLD_GONE,
    WARM, PARALLEL, RUN, RUN_OVER_LOCAL, RUN_TWICE, RUN_TWICE_OVER_LOCAL, IDLE_CPU, IDLE_SWITCHES, IDLE_CALLS,
)  # fmt: skip


@dataclass
class Results:
    """All figures, and the reasons for missing ones.

    Attributes:
        figures: By the measure's key and the peer.
        kinds: For figures that are sums of counts: the median of each kind.
        lacking: Why there is no figure, or an incomplete one.
    """

    figures: dict[tuple[str, str], Figure] = field(default_factory=dict)
    kinds: dict[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)
    lacking: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, measure: Measure, peer: str, samples: Iterable[float]) -> None:
        """Keep the figure of samples; without samples it is missing."""
        ordered = sorted(samples)
        if ordered:
            self.figures[measure.key, peer] = figure(ordered)
        else:
            self.lacking.setdefault((measure.key, peer), "no samples")

    def add_counts(self, measure: Measure, peer: str, samples: Sequence[Counter[str]]) -> None:
        """Keep the figure of the sums of counts, and the median of each kind."""
        self.add(measure, peer, [each.total() for each in samples])
        names = sorted({name for each in samples for name in each})
        self.kinds[measure.key, peer] = {
            name: figure(sorted(each[name] for each in samples)).p50 for name in names
        }

    def lack(self, measure: Measure, peer: str, reason: str) -> None:
        """Keep why there is no figure, or why it ends early."""
        self.lacking[measure.key, peer] = reason

    def p50(self, measure: Measure, peer: str = VOLPLUG) -> float | None:
        """The median, or None if it was not measured."""
        found = self.figures.get((measure.key, peer))
        return found.p50 if found else None


def figure(ordered: Sequence[float]) -> Figure:
    """The figure of sorted samples: nearest-rank percentiles."""
    return Figure(_percentile(ordered, 50), _percentile(ordered, 99), len(ordered))


def _percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]


def interleaved(
    rounds: int, actions: Mapping[str, Callable[[], Sequence[float]]]
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Let every peer act once per round, each time another one first; return samples and failures.

    A disturbance of the machine affects all peers then. A peer that fails is left out from then on.
    """
    samples: dict[str, list[float]] = {peer: [] for peer in actions}
    failures: dict[str, str] = {}
    peers = list(actions)
    for number in range(rounds):
        shift = number % len(peers)
        for peer in peers[shift:] + peers[:shift]:
            if peer in failures:
                continue
            try:
                samples[peer] += actions[peer]()
            except (CallError, OSError) as error:
                failures[peer] = f"{error} (round {number + 1})"
    return samples, failures


def measure_interleaved(
    results: Results, measure: Measure, rounds: int, actions: Mapping[str, Callable[[], Sequence[float]]]
) -> None:
    """Measure one thing of several peers and keep it."""
    samples, failures = interleaved(rounds, actions)
    for peer, reason in failures.items():
        if peer == VOLPLUG:
            raise CallError(f"{measure.title}: {reason}")
        results.lack(measure, peer, reason)
    for peer, taken in samples.items():
        results.add(measure, peer, taken)
