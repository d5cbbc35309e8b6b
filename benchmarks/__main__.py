"""`make bench`: measure everything, judge the targets, write the report.

Usage: python -m benchmarks [--quick] [--json FILE] [--docs [FILE]]
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
from benchmarks.measures import MEASURES, Results
from benchmarks.mounts import Mounts
from benchmarks.peers import Rclone, Volplug
from benchmarks.place import REPOSITORY, Place, make_mounts_private, place
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.report import as_json, as_markdown, conditions, show
from tests.lab import leftovers

_JSON = REPOSITORY / "build" / "bench.json"
_DOCS = REPOSITORY / "docs" / "benchmarks.md"
_TEMPLATE = Path(__file__).with_name("benchmarks.md.in")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 if everything could be measured and nothing is left behind, whether or not targets are met."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure volplug beside its peers.")
    parser.add_argument(
        "--quick", action="store_true", help="only show that everything works; figures mean little"
    )
    parser.add_argument("--json", type=Path, default=_JSON, help=f"the report (default: {_JSON})")
    parser.add_argument("--docs", type=Path, nargs="?", const=_DOCS, help=f"write the page, too ({_DOCS})")
    given = parser.parse_args(arguments)
    if os.geteuid() != 0:
        show("make bench needs root: it mounts volumes and starts a Docker Engine.")
        return 2
    signal.signal(signal.SIGTERM, _exit_in_order)
    make_mounts_private()
    before = leftovers.snapshot()
    seen, begun = conditions(is_quick=given.quick), time.monotonic()
    results = Results()
    engine = _measure(results, QUICK if given.quick else FULL)
    seen = seen.ended(engine, time.monotonic() - begun)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(as_json(results, seen), indent=1) + "\n")
    page = as_markdown(results, seen, _TEMPLATE)
    if given.docs is not None:
        given.docs.write_text(page)
    sys.stdout.write(page)
    ours = f"volplug-lab-{os.getpid()}-"  # whatever else has come or gone is somebody else's
    if left := [line for line in leftovers.settled_difference(before) if ours in line]:
        show("these are left on the machine:\n  " + "\n  ".join(left))
    return 1 if left else 0


def _measure(results: Results, plan: Plan) -> str:
    """Everything in its order; returns the version of Docker Engine."""
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
