"""The processes themselves: start, memory, and activity while idle."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks import measures as m
from benchmarks.client import CallError, PluginClient
from benchmarks.measures import Results, interleaved
from benchmarks.peers import Plugin, Rclone, Volplug
from benchmarks.place import Place
from benchmarks.plan import Plan
from tests.lab.plugin import SERVE
from tests.lab.programs import settled

_START_TIMEOUT_S = 15.0
_LOOK_EVERY_S = 0.001
_QUIET_S = 0.5
_QUIET_LOOKS = 10
_ACTIVE_NS = 5_000_000
_PARTS = {m.INTERPRETER: "pass", m.IMPORTS: "import volplug.app, volplug.config, volplug.drivers.loop"}
_CHILD_FAULTS_FIELD = (
    8  # cminflt of /proc/PID/stat after the name, see proc(5): any child that ended has some
)


def measure_starts(results: Results, plan: Plan, where: Place, with_rclone: bool) -> None:
    """Measure from the start of the program to the answer of Activate, each time with an empty state."""
    numbers = count()
    actions: dict[str, Callable[[], Sequence[float]]] = {
        m.VOLPLUG: lambda: [_start_volplug(where, next(numbers))]
    }
    if with_rclone:
        actions[m.RCLONE] = lambda: [_start_rclone(where, next(numbers))]
    for part, code in _PARTS.items():
        actions[part.key] = partial(_run, where, [sys.executable, "-c", code])
    samples, failures = interleaved(plan.starts, actions)
    if failures:
        raise CallError(f"starts: {failures}")
    for part in _PARTS:
        results.add(part, m.VOLPLUG, samples.pop(part.key))
    for peer, taken in samples.items():
        results.add(m.START, peer, taken)


def _run(where: Place, argv: Sequence[str]) -> Sequence[float]:
    begun = time.perf_counter_ns()
    if code := where.spawn(argv).wait():
        raise CallError(f"{argv} ended with {code}")
    return [(time.perf_counter_ns() - begun) / 1e6]


def _start_volplug(where: Place, number: int) -> float:
    socket = where.directory / f"s{number}.sock"
    state = where.directory / f"start-{number}"
    env = {"VOLPLUG_SOCKET": str(socket), "VOLPLUG_STATE_DIR": str(state)}
    return _until_activated(partial(where.spawn, SERVE, env), socket)


def _start_rclone(where: Place, number: int) -> float:
    rclone = Rclone(where, f"start-{number}")
    return _until_activated(partial(where.spawn, rclone.argv()), rclone.socket)


def _until_activated(start: Callable[[], subprocess.Popen[bytes]], socket: Path) -> float:
    begun = time.perf_counter_ns()
    process = start()
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _activates(socket):
            if process.poll() is not None or time.monotonic() > deadline:
                raise CallError("it ended or hung while starting")
            time.sleep(_LOOK_EVERY_S)
        return (time.perf_counter_ns() - begun) / 1e6
    finally:
        process.send_signal(signal.SIGTERM)
        settled(process, _START_TIMEOUT_S)


def _activates(socket: Path) -> bool:
    try:
        with PluginClient(socket) as client:
            client.call("Activate")
    except OSError:
        return False
    return True


def measure_memory(results: Results, measure: m.Measure, plugins: Mapping[str, Plugin]) -> None:
    """Measure the resident memory now."""
    for peer, plugin in plugins.items():
        status = Path(f"/proc/{plugin.pid}/status").read_text()
        kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
        results.add(measure, peer, [int(kib) / 1024])


@dataclass(frozen=True)
class Activity:
    """Counters of a process, which only grow."""

    cpu_ns: int
    switches: int
    calls: int
    children_faults: int


def activity(pid: int) -> Activity:
    """Read from /proc: processor time and switches of all threads, reads and writes, ended children."""
    process = Path(f"/proc/{pid}")
    tasks = list((process / "task").iterdir())
    cpu_ns = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    switches = sum(_number(task / "status", "voluntary_ctxt_switches") for task in tasks)
    calls = _number(process / "io", "syscr") + _number(process / "io", "syscw")
    faults = int((process / "stat").read_text().rpartition(")")[2].split()[_CHILD_FAULTS_FIELD])
    return Activity(cpu_ns, switches, calls, faults)


def _number(path: Path, key: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(f"{key}:"))


def measure_idle(results: Results, plan: Plan, volplug: Volplug, rclone: Rclone | None) -> None:
    """Measure the peers idle at the same time, each with one volume mounted and one open connection."""
    plugins: dict[str, Plugin] = {m.VOLPLUG: volplug}
    if rclone is not None:
        plugins[m.RCLONE] = rclone
    clients = [plugin.connect() for plugin in plugins.values()]
    for plugin in plugins.values():
        wait_until_quiet(plugin.pid)
    ledger = _ledger(volplug)
    before = {peer: activity(plugin.pid) for peer, plugin in plugins.items()}
    time.sleep(plan.idle_s)
    for peer, plugin in plugins.items():
        after, was = activity(plugin.pid), before[peer]
        scale = 60 / plan.idle_s
        results.add(m.IDLE_CPU, peer, [(after.cpu_ns - was.cpu_ns) / 1e6 * scale])
        results.add(m.IDLE_SWITCHES, peer, [(after.switches - was.switches) * scale])
        calls = after.calls - was.calls + (after.children_faults != was.children_faults)
        if peer == m.VOLPLUG:
            calls += _ledger(volplug) != ledger
        results.add(m.IDLE_CALLS, peer, [calls * scale])
    for client in clients:
        client.close()


def _ledger(volplug: Volplug) -> list[tuple[str, int, int]]:
    files = [path for path in volplug.process.state_dir.iterdir() if path.is_file()]
    return sorted((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files)


def wait_until_quiet(pid: int) -> None:
    """Wait until background work of earlier calls, such as a reading of the used space, has ended.

    A process that never becomes quiet is measured as it is.
    """
    before = activity(pid)
    for _ in range(_QUIET_LOOKS):
        time.sleep(_QUIET_S)
        now = activity(pid)
        if now.cpu_ns - before.cpu_ns < _ACTIVE_NS:
            return
        before = now
