"""The report of a run: JSON for programs, Markdown for docs/benchmarks.md."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.chapters import LOOP, ZFS, Chapter
from benchmarks.measures import Measure, Results
from benchmarks.targets import Verdict, breakdown, judge
from tests.lab.requirements import HAS_OPENZFS
from volplug import __version__

_LIBRARIES = {"api": "aiohttp", "ebs": "boto3", "cinder": "openstacksdk"}
_READS = ("DescribeVolumes", "GET")  # of EC2, and of Cinder and Nova


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
    libraries: Mapping[str, str]
    is_quick: bool
    load_before: float
    load_after: float
    took_s: float

    def ended(self, engine: str, took_s: float) -> "Conditions":
        """Complete the conditions at the end of the run."""
        return replace(self, engine=engine, took_s=round(took_s), load_after=_load())


def conditions(*, is_quick: bool) -> Conditions:
    """Read the state of the machine before the run."""
    return Conditions(
        date=time.strftime("%Y-%m-%d"),
        kernel=platform.release(),
        processors=os.cpu_count() or 0,
        processor=_processor(),
        python=platform.python_version(),
        volplug=__version__,
        rclone=_rclone_version(),
        engine="",
        libraries={
            **{name: f"{each} {version(each)}" for name, each in _LIBRARIES.items()},
            ZFS.name: "OpenZFS" if HAS_OPENZFS else "zfs-fuse",
        },
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


def as_json(results: Results, seen: Mapping[str, Conditions], chapters: Sequence[Chapter]) -> dict[str, Any]:
    """The report for programs, with the conditions of each chapter."""
    return {
        "conditions": {name: asdict(each) for name, each in seen.items()},
        "figures": [
            {
                **{"measure": each.key, "title": each.title, "unit": each.unit, "peer": peer},
                **asdict(found),
                **({"kinds": results.kinds[key, peer]} if (key, peer) in results.kinds else {}),
            }
            for chapter in chapters
            for each in chapter.measures
            for (key, peer), found in results.figures.items()
            if key == each.key
        ],
        "not_measured": [
            {"measure": key, "peer": peer, "reason": reason}
            for (key, peer), reason in results.lacking.items()
        ],
        "targets": [
            _verdict_json(judge(target, results), results)
            for chapter in chapters
            for target in chapter.targets
        ],
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
    """The limit as text."""
    target = verdict.target
    if target.waited is not None:
        return f"{target.limit:g} + polls while waiting"
    if target.of is None:
        return f"{target.limit:g} {target.measure.unit}".rstrip()
    measure, peer = target.of
    what = "" if measure is target.measure else f" ({measure.title[0].lower()}{measure.title[1:]})"
    return f"{target.limit:g} x {LOOP.peers[peer]}{what}"


def as_markdown(results: Results, seen: Conditions, chapter: Chapter) -> str:
    """A chapter of the page: the template's text with the tables of this run."""
    verdicts = [judge(target, results) for target in chapter.targets]
    parts = {
        "conditions": _conditions_text(seen, chapter),
        "targets": "\n".join(_targets(verdicts)),
        "missed": "\n".join(_missed(verdicts, results)),
        "figures": "\n".join(_figures(results, chapter)),
        "lacking": "\n".join(_lacking(results, chapter)),
    }
    text = chapter.template.read_text()
    for key, part in parts.items():
        text = text.replace(f"<!-- {key} -->", part)
    return text


def _conditions_text(seen: Conditions, chapter: Chapter) -> str:
    rclone = f"rclone {seen.rclone}" if seen.rclone else "no rclone"
    others = f"Docker Engine {seen.engine}, {rclone}" if chapter is LOOP else seen.libraries[chapter.name]
    programs = f"volplug {seen.volplug} on Python {seen.python}, {others}"
    machine = f"{seen.processors} processors ({seen.processor}), Linux {seen.kernel}"
    load = f"Load average {seen.load_before:g} before and {seen.load_after:g} after the run"
    quick = "A quick run: hardly any repetitions, and lists of some volumes only.\n" if seen.is_quick else ""
    return f"{quick}Run of {seen.date}: {programs}.\n{machine}.\n{load}, which took {seen.took_s:g} s."


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
            sum_of = f" = {' + '.join(steps)}" if verdict.target.rest else ""
            lines.append(f"- {measure.title}: {_number(verdict.value, measure)}{sum_of}.")
        elif verdict.is_met is None:
            lines.append(f"- {verdict.target.measure.title}: {verdict.why}.")
    return lines or ["Nothing."]


def _figures(results: Results, chapter: Chapter) -> list[str]:
    keys = {each.key for each in chapter.measures}
    used = {peer for key, peer in results.figures if key in keys}
    columns = [(peer, title) for peer, title in chapter.peers.items() if peer in used]
    return _table(
        ["", *(title for _, title in columns)],
        [[each.title, *(_cell(results, each, peer) for peer, _ in columns)] for each in chapter.measures],
    )


def _cell(results: Results, measure: Measure, peer: str) -> str:
    found = results.figures.get((measure.key, peer))
    if found is None:
        return ""
    kinds = results.kinds.get((measure.key, peer))
    if kinds is not None:
        return changes_and_reads(kinds)
    if found.count == 1:
        return _number(found.p50, measure)
    return f"{_digits(found.p50)} / {_digits(found.p99)} {measure.unit}".rstrip()


def changes_and_reads(kinds: Mapping[str, float]) -> str:
    """Counts of calls to a cloud: changes + reads, and which changes."""
    changes = {action: count for action, count in kinds.items() if action not in _READS and count}
    which = ", ".join(f"{count:g} {action}" for action, count in changes.items())
    return f"{sum(changes.values()):g} + {sum(kinds.get(read, 0) for read in _READS):g}" + (
        f" ({which})" if which else ""
    )


def _lacking(results: Results, chapter: Chapter) -> list[str]:
    titles = {each.key: each.title for each in chapter.measures}
    lines = [
        f"- {titles[key]}, {peer}: {reason}"
        for (key, peer), reason in results.lacking.items()
        if key in titles
    ]
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
    """Print progress."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()
