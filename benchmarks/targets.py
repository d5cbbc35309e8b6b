"""The targets of volplug: a table of limits, most of them ratios to a peer in the same run."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import measures as m
from benchmarks.measures import Measure, Results


@dataclass(frozen=True, slots=True)
class Part:
    """A measured part of a larger measure; the difference of two parts is explained."""

    label: str
    measure: Measure
    peer: str = m.VOLPLUG


@dataclass(frozen=True, slots=True)
class Target:
    """A limit of a median.

    Attributes:
        measure: What is limited.
        limit: In the measure's unit, or a factor if ``of`` is given.
        of: The measure and the peer whose median the factor applies to.
        waited: How long was waited, in milliseconds, if polls while waiting come on top of ``limit``.
        parts: From the smallest up; the last, which is the measure itself, is ``rest``.
        rest: What the measure includes beyond its largest part.
    """

    measure: Measure
    limit: float
    of: tuple[Measure, str] | None = None
    parts: tuple[Part, ...] = ()
    rest: str = ""
    waited: Measure | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what was measured. ``is_met`` is None if a figure is missing; ``why`` names it."""

    target: Target
    value: float | None
    limit: float | None
    is_met: bool | None
    why: str = ""


_EAGER_S = 5.0
_LATER_EVERY_S = 5.0

_SOCKET = Part("client, socket and two switches between processes", m.CONSTANT, m.ECHO)
_HTTP = Part("reading and answering HTTP", m.CONSTANT)
_SYSCALLS = Part("the bare system calls", m.COLD_GONE, m.BARE)

TARGETS: Sequence[Target] = (
    Target(
        m.START,
        500,
        parts=(Part("the interpreter", m.INTERPRETER), Part("imports", m.IMPORTS)),
        rest="settings, state file, socket, first answer",
    ),
    Target(m.RSS_WORK, 75, parts=(Part("after the start", m.RSS_START),), rest="after all calls"),
    Target(
        m.GET_MOUNTED,
        2,
        (m.GET_MOUNTED, m.RCLONE),
        (_SOCKET, _HTTP),
        "reading the request, the ledger, JSON",
    ),
    Target(
        m.GET_8,
        0.4,
        (m.GET_MOUNTED, m.VOLPLUG),
        (_HTTP,),
        "reading the request, the ledger, JSON, one after the other",
    ),
    Target(
        m.GET_DETACHED,
        3,
        (m.GET_DETACHED, m.RCLONE),
        (_SOCKET, _HTTP, Part("reading the request, the ledger, JSON", m.GET_MOUNTED)),
        "asking the driver: a task, and what the kernel reports of the directory",
    ),
    Target(
        m.LIST_1000,
        0.3,
        (m.LIST_1000, m.RCLONE),
        (Part("client, socket and as many bytes", m.LIST_1000, m.ECHO),),
        "asking the driver for its list, a view of each volume, JSON",
    ),
    Target(
        m.LIST_10000,
        1,
        parts=(Part("client, socket and as many bytes", m.LIST_10000, m.ECHO),),
        rest="asking the driver for its list, a view of each volume, JSON",
    ),
    Target(
        m.CREATE_1000,
        1.25,
        (m.CREATE_10, m.VOLPLUG),
        (Part("among 10", m.CREATE_10),),
        "what grows with the number of volumes",
    ),
    Target(
        m.FIRST,
        2,
        (m.FIRST, m.SHELL),
        (Part("Mount and Unmount of an idle volume", m.COLD),),
        "the image, two records and a filesystem tag on the disk, two judgements of the device, mkfs",
    ),
    Target(
        m.COLD,
        0.8,
        (m.COLD_GONE, m.SHELL),
        (_SYSCALLS,),
        "HTTP, ledger writes, identification, release test (the detach follows the answer)",
    ),
    Target(
        m.COLD_GONE,
        0.8,
        (m.COLD_GONE, m.SHELL),
        (_SYSCALLS, Part("HTTP, ledger writes, identification, release test", m.COLD)),
        "the detach after the answer, its ledger writes",
    ),
    Target(
        m.RUN_OVER_LOCAL,
        12,
        parts=(Part("Mount and Unmount of an idle volume", m.COLD),),
        rest="other calls, and a filesystem that was used",
    ),
    Target(
        m.RUN_TWICE_OVER_LOCAL,
        16,
        parts=(Part("one Mount and Unmount, and the other calls", m.RUN_OVER_LOCAL),),
        rest="the second Mount and Unmount",
    ),
    Target(m.IDLE_CPU, 5),
    Target(m.IDLE_CALLS, 0),
)  # fmt: skip


def judge(target: Target, results: Results) -> Verdict:
    """Compare what was measured with its limit."""
    value = results.p50(target.measure)
    if value is None:
        return Verdict(target, None, None, None, _reason(results, target.measure, m.VOLPLUG))
    limit = target.limit
    if target.of is not None:
        base = results.p50(*target.of)
        if base is None:
            return Verdict(target, value, None, None, _reason(results, *target.of))
        limit *= base
    if target.waited is not None:
        waited_ms = results.p50(target.waited)
        if waited_ms is None:
            return Verdict(target, value, None, None, _reason(results, target.waited, m.VOLPLUG))
        limit += polls_while_waiting(waited_ms / 1000)
    return Verdict(target, value, limit, value <= limit)


def polls_while_waiting(waited_s: float) -> int:
    """How often a state may be polled: at once, every second at first, and every 5 seconds later."""
    eager_s = min(waited_s, _EAGER_S)
    return 1 + int(eager_s) + int((waited_s - eager_s) / _LATER_EVERY_S)


def _reason(results: Results, measure: Measure, peer: str) -> str:
    return f"{peer} not measured: {results.lacking.get((measure.key, peer), 'not part of this run')}"


def breakdown(target: Target, results: Results) -> list[tuple[str, float]]:
    """Where the time goes: each part less the one before, from the same run."""
    steps: list[tuple[str, float]] = []
    before = 0.0
    for part in (*target.parts, Part(target.rest, target.measure)):
        value = results.p50(part.measure, part.peer)
        if value is not None:
            steps.append((part.label, value - before))
            before = value
    return steps
