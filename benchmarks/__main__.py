"""`make bench`: measure everything, judge the targets, write the report.

Usage: python -m benchmarks [--part loop|api|ebs|cinder|zfs] [--quick] [--json FILE] [--docs [FILE]]
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from benchmarks import calls, processes, runs
from benchmarks import measures as m
from benchmarks.api.work import measure_api
from benchmarks.chapters import API, CHAPTERS, CINDER, EBS, LOOP, ZFS, Chapter, assembled
from benchmarks.cinder.work import measure_cinder
from benchmarks.ebs.work import measure_ebs
from benchmarks.measures import MEASURES, Results
from benchmarks.mounts import Mounts
from benchmarks.peers import Rclone, Volplug
from benchmarks.place import REPOSITORY, Place, make_mounts_private, place
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.report import Conditions, as_json, as_markdown, conditions, show
from benchmarks.zfs.work import measure_zfs
from tests.lab import lane, leftovers

_JSON = REPOSITORY / "build" / "bench.json"
_DOCS = REPOSITORY / "docs" / "benchmarks.md"
_PARTS = {API.name: measure_api, EBS.name: measure_ebs, CINDER.name: measure_cinder, ZFS.name: measure_zfs}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; return 0 if everything could be measured and nothing is left over, also with missed targets."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure volplug and its peers.")
    parser.add_argument(
        "--quick", action="store_true", help="only show that everything works; figures mean little"
    )
    parser.add_argument(
        "--part",
        action="append",
        choices=[each.name for each in CHAPTERS],
        help="measure only this; may be repeated (default: everything)",
    )
    parser.add_argument("--json", type=Path, default=_JSON, help=f"the report (default: {_JSON})")
    parser.add_argument("--docs", type=Path, nargs="?", const=_DOCS, help=f"write the page, too ({_DOCS})")
    given = parser.parse_args(arguments)
    if os.geteuid() != 0:
        show("make bench needs root: it mounts volumes and starts a Docker Engine.")
        return 2
    signal.signal(signal.SIGTERM, _exit_in_order)
    make_mounts_private()
    with lane.without_namespaces() as ours:
        return _measure_and_write(given, ours)


def _measure_and_write(given: argparse.Namespace, ours: Path) -> int:
    """Measure the chosen parts and write the reports; return 1 if something is left over below ``ours``."""
    before = leftovers.snapshot()
    chapters = [each for each in CHAPTERS if not given.part or each.name in given.part]
    results, seen = Results(), {}
    for chapter in chapters:
        seen[chapter.name] = _measured(chapter, results, is_quick=given.quick)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(as_json(results, seen, chapters), indent=1) + "\n")
    written = {each.name: as_markdown(results, seen[each.name], each) for each in chapters}
    if given.docs is not None:
        page = given.docs.read_text() if given.docs.exists() else ""
        given.docs.write_text(assembled(page, written))
    sys.stdout.write(assembled("", written))
    # Other changes of this machine belong to other programs.
    if left := [line for line in leftovers.settled_difference(before) if str(ours) in line]:
        show("these are left over on the machine:\n  " + "\n  ".join(left))
    return 1 if left else 0


def _measured(chapter: Chapter, results: Results, *, is_quick: bool) -> Conditions:
    """Measure one part and return its conditions."""
    seen, begun = conditions(is_quick=is_quick), time.monotonic()
    plan, engine = QUICK if is_quick else FULL, ""
    if chapter is LOOP:
        engine = _measure(results, plan)
    else:
        with place() as where:
            _PARTS[chapter.name](results, plan, where)
    return seen.ended(engine, time.monotonic() - begun)


def _measure(results: Results, plan: Plan) -> str:
    """Measure loop volumes and everything else in its order; return the version of Docker Engine."""
    reason = Rclone.why_not_here()
    if reason:
        for measure in MEASURES:
            results.lack(measure, m.RCLONE, reason)
    with place() as where, ExitStack() as stack:
        show("starts")
        processes.measure_starts(results, plan, where, not reason)
        echo_socket = stack.enter_context(calls.echo(where))
        for measure in m.LISTS:
            show(measure.title)
            calls.measure_list(results, plan, where, measure, not reason, echo_socket)
        volplug = stack.enter_context(Volplug(where, "volplug"))
        rclone = None if reason else stack.enter_context(Rclone(where))
        _measure_pair(results, plan, where, volplug, rclone, echo_socket)
    show("docker run")
    return runs.measure_runs(results, plan, not reason)


def _measure_pair(
    results: Results, plan: Plan, where: Place, volplug: Volplug, rclone: Rclone | None, echo_socket: Path
) -> None:
    plugins = {m.VOLPLUG: volplug} | ({m.RCLONE: rclone} if rclone else {})
    processes.measure_memory(results, m.RSS_START, plugins)
    for plugin in plugins.values():
        with plugin.connect() as client:
            for name in ("mounted", "detached"):
                plugin.create(client, name)
                client.call("Mount", Name=name, ID="x")
            client.call("Unmount", Name="detached", ID="x")
    volplug.wait_until_detached("detached")
    show("small calls")
    calls.measure_small(results, plan, echo_socket, volplug, rclone)
    show("mounts")
    Mounts(results, plan, where, volplug, rclone).measure()
    processes.measure_memory(results, m.RSS_WORK, plugins)
    show(f"{plan.idle_s:g} s idle")
    processes.measure_idle(results, plan, volplug, rclone)
    with volplug.connect() as client:  # rclone, which may hang by now, unmounts when it ends
        client.call("Unmount", Name="mounted", ID="x")


def _exit_in_order(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
