"""The report of a run: JSON for programs, Markdown for docs/benchmarks.md."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import measures as m
from benchmarks.measures import MEASURES, Figure, Measure, Results
from benchmarks.targets import TARGETS, Verdict, breakdown, judge
from volplug import __version__

_COLUMNS: Sequence[tuple[str, str]] = (
    (m.VOLPLUG, "volplug"),
    (m.RCLONE, "rclone"),
    (m.LOCAL, "`local`"),
    (m.SHELL, "shell commands"),
    (m.BARE, "system calls"),
    (m.ECHO, "client and socket alone"),
)


@dataclass(frozen=True, slots=True)
class Conditions:
    """Where and when a run was made."""

    date: str
    kernel: str
    processors: int
    processor: str
    python: str
    volplug: str
    rclone: str
    engine: str
    is_quick: bool
    load_before: float
    load_after: float
    took_s: float

    def ended(self, engine: str, took_s: float) -> "Conditions":
        """Complete it at the end."""
        return replace(self, engine=engine, took_s=round(took_s), load_after=_load())


def conditions(*, is_quick: bool) -> Conditions:
    """Look at the machine before the run."""
    return Conditions(
        date=time.strftime("%Y-%m-%d"),
        kernel=platform.release(),
        processors=os.cpu_count() or 0,
        processor=_processor(),
        python=platform.python_version(),
        volplug=__version__,
        rclone=_rclone_version(),
        engine="",
        is_quick=is_quick,
        load_before=_load(),
        load_after=0,
        took_s=0,
    )


def _load() -> float:
    return round(os.getloadavg()[0], 2)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def _rclone_version() -> str:
    try:
        said = subprocess.run(["rclone", "version"], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        return ""
    return said.split()[1]


def as_json(results: Results, seen: Conditions) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "conditions": asdict(seen),
        "figures": [
            {"measure": each.key, "title": each.title, "unit": each.unit, "peer": peer, **asdict(found)}
            for each in MEASURES
            for (key, peer), found in results.figures.items()
            if key == each.key
        ],
        "not_measured": [
            {"measure": key, "peer": peer, "reason": reason}
            for (key, peer), reason in results.lacking.items()
        ],
        "targets": [_verdict_json(judge(target, results), results) for target in TARGETS],
    }


def _verdict_json(verdict: Verdict, results: Results) -> dict[str, Any]:
    return {
        "measure": verdict.target.measure.key,
        "target": limit_text(verdict),
        "value": verdict.value,
        "limit": verdict.limit,
        "is_met": verdict.is_met,
        "why": verdict.why,
        "parts": [{"part": label, "value": value} for label, value in breakdown(verdict.target, results)],
    }


def limit_text(verdict: Verdict) -> str:
    """The limit as people say it."""
    target = verdict.target
    if target.of is None:
        return f"{target.limit:g} {target.measure.unit}".rstrip()
    measure, peer = target.of
    what = "" if measure is target.measure else f" ({measure.title[0].lower()}{measure.title[1:]})"
    return f"{target.limit:g} x {dict(_COLUMNS)[peer]}{what}"


def as_markdown(results: Results, seen: Conditions, template: Path) -> str:
    """The page: the template's text with the tables of this run."""
    verdicts = [judge(target, results) for target in TARGETS]
    parts = {
        "conditions": _conditions_text(seen),
        "targets": "\n".join(_targets(verdicts)),
        "missed": "\n".join(_missed(verdicts, results)),
        "figures": "\n".join(_figures(results)),
        "lacking": "\n".join(_lacking(results)),
    }
    text = template.read_text()
    for key, part in parts.items():
        text = text.replace(f"<!-- {key} -->", part)
    return text


def _conditions_text(seen: Conditions) -> str:
    programs = f"volplug {seen.volplug} on Python {seen.python}, Docker Engine {seen.engine}"
    rclone = f"rclone {seen.rclone}" if seen.rclone else "no rclone"
    machine = f"{seen.processors} processors ({seen.processor}), Linux {seen.kernel}"
    load = f"Load average {seen.load_before:g} before and {seen.load_after:g} after the run"
    quick = "A quick run: hardly any repetitions, and lists of some volumes only.\n" if seen.is_quick else ""
    return (
        f"{quick}Run of {seen.date}: {programs}, {rclone}.\n{machine}.\n{load}, which took {seen.took_s:g} s."
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _targets(verdicts: Sequence[Verdict]) -> list[str]:
    words = {True: "met", False: "**missed**", None: "not measured"}
    return _table(
        ["What (median)", "At most", "That is", "Measured", ""],
        [
            [
                each.target.measure.title,
                limit_text(each),
                _number(each.limit, each.target.measure),
                _number(each.value, each.target.measure),
                words[each.is_met],
            ]
            for each in verdicts
        ],
    )


def _missed(verdicts: Sequence[Verdict], results: Results) -> list[str]:
    lines: list[str] = []
    for verdict in verdicts:
        if verdict.is_met is False:
            measure = verdict.target.measure
            steps = [
                f"{label} {_number(value, measure)}" for label, value in breakdown(verdict.target, results)
            ]
            lines.append(f"- {measure.title}: {_number(verdict.value, measure)} = {' + '.join(steps)}.")
        elif verdict.is_met is None:
            lines.append(f"- {verdict.target.measure.title}: {verdict.why}.")
    return lines or ["Nothing."]


def _figures(results: Results) -> list[str]:
    used = {peer for _, peer in results.figures}
    columns = [(peer, title) for peer, title in _COLUMNS if peer in used]
    return _table(
        ["", *(title for _, title in columns)],
        [
            [each.title, *(_cell(results.figures.get((each.key, peer)), each) for peer, _ in columns)]
            for each in MEASURES
        ],
    )


def _cell(found: Figure | None, measure: Measure) -> str:
    if found is None:
        return ""
    if found.count == 1:
        return _number(found.p50, measure)
    return f"{_digits(found.p50)} / {_digits(found.p99)} {measure.unit}".rstrip()


def _lacking(results: Results) -> list[str]:
    titles = {each.key: each.title for each in MEASURES}
    lines = [f"- {titles[key]}, {peer}: {reason}" for (key, peer), reason in results.lacking.items()]
    return lines or ["Nothing."]


def _number(value: float | None, measure: Measure) -> str:
    return "" if value is None else f"{_digits(value)} {measure.unit}".rstrip()


def _digits(value: float) -> str:
    size = abs(value)
    return (
        f"{value:.3f}"
        if size < 1
        else f"{value:.2f}"
        if size < 10
        else f"{value:.1f}"
        if size < 100
        else f"{value:.0f}"
    )


def show(text: str) -> None:
    """Progress, for people."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()
