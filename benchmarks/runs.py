"""`docker run --rm` on a private engine, with a volume of each driver."""

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import measures as m
from benchmarks.client import CallError
from benchmarks.measures import Measure, Results, interleaved
from benchmarks.peers import VOLUME_SIZE, Rclone
from benchmarks.plan import Plan
from tests.lab.engine import Engine
from tests.lab.plugin import VolplugProcess
from tests.lab.programs import CommandError

_IMAGE = "busybox:local"
_RUN_TIMEOUT_S = 60.0


def measure_runs(results: Results, plan: Plan, with_rclone: bool) -> str:
    """Measure, and return the engine's version."""
    with Engine() as engine, ExitStack() as stack:
        engine.import_busybox(_IMAGE)
        stack.enter_context(VolplugProcess(engine))
        create = partial(engine.docker, "volume", "create")
        create("-d", m.VOLPLUG, "-o", f"size={VOLUME_SIZE}", m.VOLPLUG)
        create("-d", "local", m.LOCAL)
        peers = [m.LOCAL, m.VOLPLUG]
        if with_rclone:
            rclone = Rclone(engine, socket=Path("/run/docker/plugins/rclone.sock"))
            stack.enter_context(rclone)
            options = [f"--opt={key}={value}" for key, value in rclone.options(m.RCLONE).items()]
            create("-d", m.RCLONE, *options, m.RCLONE)
            peers.append(m.RCLONE)
        for run, over_local, path in (
            (m.RUN, m.RUN_OVER_LOCAL, "/of-its-own"),
            (m.RUN_TWICE, m.RUN_TWICE_OVER_LOCAL, "/data"),
        ):
            actions: dict[str, Callable[[], Sequence[float]]] = {
                peer: partial(_run, engine, peer, path) for peer in peers
            }
            interleaved(1, actions)  # formats, and fills Docker's caches
            _keep(results, run, over_local, *interleaved(plan.runs, actions))
        return engine.docker("version", "--format", "{{.Server.Version}}").stdout.strip()


def _run(engine: Engine, volume: str, path: str) -> Sequence[float]:
    begun = time.perf_counter_ns()
    try:
        engine.docker("run", "--rm", "-v", f"{volume}:{path}", _IMAGE, "true", timeout_s=_RUN_TIMEOUT_S)
    except (CommandError, subprocess.TimeoutExpired) as error:
        raise CallError(str(error)) from error
    return [(time.perf_counter_ns() - begun) / 1e6]


def _keep(
    results: Results,
    run: Measure,
    over_local: Measure,
    samples: dict[str, list[float]],
    failures: dict[str, str],
) -> None:
    for peer, taken in samples.items():
        results.add(run, peer, taken)
        if peer in failures:
            results.lack(run, peer, failures[peer])
        if peer != m.LOCAL:
            pairs = zip(taken, samples[m.LOCAL], strict=False)
            results.add(over_local, peer, [one - local for one, local in pairs])
