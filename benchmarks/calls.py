"""Calls that change nothing: Capabilities, Get, Path, List."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import measures as m
from benchmarks.client import CallError, PluginClient, decoded, request
from benchmarks.measures import Measure, Results, measure_interleaved
from benchmarks.peers import Rclone, Volplug
from benchmarks.place import Place
from benchmarks.plan import Plan
from tests.lab.waiting import WaitTimeoutError, wait_until

_SPARSE_BYTES = 1 << 30
_CONNECTIONS = 8
_CREATING = {m.LIST_10.key: m.CREATE_10, m.LIST_1000.key: m.CREATE_1000}


@contextmanager
def echo(where: Place) -> Iterator[Path]:
    """Run a server that only echoes; yields its socket."""
    socket = where.directory / "echo.sock"
    socket.unlink(missing_ok=True)
    process = where.spawn([sys.executable, "-m", "benchmarks.echo", str(socket)])
    try:
        wait_until(lambda: _accepts(socket), 10, "the echo server accepts connections")
        yield socket
    finally:
        process.kill()
        process.wait()


def _accepts(socket: Path) -> bool:
    try:
        PluginClient(socket).close()
    except OSError:
        return False
    return True


def measure_small(
    results: Results, plan: Plan, echo_socket: Path, volplug: Volplug, rclone: Rclone | None
) -> None:
    """Measure Capabilities, Get and Path; `mounted` is mounted, `detached` is not."""
    with ExitStack() as stack:
        clients = {m.VOLPLUG: stack.enter_context(volplug.connect())}
        if rclone is not None:
            clients[m.RCLONE] = stack.enter_context(rclone.connect())
        verbs: Sequence[tuple[Measure, str, dict[str, str]]] = (
            (m.CONSTANT, "Capabilities", {}),
            (m.GET_MOUNTED, "Get", {"Name": "mounted"}),
            (m.GET_DETACHED, "Get", {"Name": "detached"}),
            (m.PATH, "Path", {"Name": "mounted"}),
        )
        for measure, verb, body in verbs:
            actions: dict[str, Callable[[], Sequence[float]]] = {
                peer: partial(client.timed, request(verb, body), plan.calls)
                for peer, client in clients.items()
            }
            for client in clients.values():
                client.call(verb, **body)  # an error would be fast, too
            with PluginClient(echo_socket) as bare:
                actions[m.ECHO] = partial(bare.timed, request(verb, 128), plan.calls)
                measure_interleaved(results, measure, plan.rounds, actions)
    _measure_at_once(results, plan, volplug, request("Get", {"Name": "mounted"}))


def _measure_at_once(results: Results, plan: Plan, volplug: Volplug, ready: bytes) -> None:
    """One call over each of 8 connections, then their answers."""
    with ExitStack() as stack:
        clients = [stack.enter_context(volplug.connect()) for _ in range(_CONNECTIONS)]
        samples: list[float] = []
        for _ in range(plan.rounds * plan.calls // _CONNECTIONS):
            begun = time.perf_counter_ns()
            for client in clients:
                client.send(ready)
            for client in clients:
                client.receive()
            samples.append((time.perf_counter_ns() - begun) / 1e6 / _CONNECTIONS)
    results.add(m.GET_8, m.VOLPLUG, samples)


def measure_list(
    results: Results, plan: Plan, where: Place, measure: Measure, with_rclone: bool, echo_socket: Path
) -> None:
    """Measure List of a number of volumes, of a process that has exactly these."""
    number, count = plan.lists[measure.key].volumes, plan.lists[measure.key].calls
    with ExitStack() as stack:
        volplug = stack.enter_context(Volplug(where, measure.key))
        clients = {m.VOLPLUG: stack.enter_context(volplug.connect()).with_room()}
        populate_volplug(volplug, clients[m.VOLPLUG], number)
        if with_rclone:
            rclone = Rclone(where, f"rclone-{measure.key}")
            _populate_rclone(rclone, number)
            try:
                stack.enter_context(rclone)
                clients[m.RCLONE] = stack.enter_context(rclone.connect()).with_room()
            except WaitTimeoutError as error:
                results.lack(measure, m.RCLONE, str(error))
        time.sleep(plan.settled_s)
        ready = request("List", {})
        for peer, client in clients.items():
            client.send(ready)
            _check_list(peer, client.receive(), number)
        clients[m.VOLPLUG].send(ready)
        size_bytes = len(clients[m.VOLPLUG].receive())
        actions: dict[str, Callable[[], Sequence[float]]] = {
            peer: partial(client.timed, ready, count) for peer, client in clients.items()
        }
        bare = stack.enter_context(PluginClient(echo_socket)).with_room()
        actions[m.ECHO] = partial(bare.timed, request("List", size_bytes), count)
        measure_interleaved(results, measure, plan.list_rounds, actions)
        if (creating := _CREATING.get(measure.key)) is not None:
            results.add(creating, m.VOLPLUG, _creations(clients[m.VOLPLUG], plan.pairs))


def _creations(client: PluginClient, count: int) -> Sequence[float]:
    """Create volumes and return the milliseconds of each."""
    samples = []
    for number in range(count):
        begun = time.perf_counter_ns()
        client.call("Create", Name=f"new{number}", Opts={"size": "1GiB", "allocation": "sparse"})
        samples.append((time.perf_counter_ns() - begun) / 1e6)
    for number in range(count):
        client.call("Remove", Name=f"new{number}")
    return samples


def _check_list(peer: str, answer: memoryview, number: int) -> None:
    listed = {volume["Name"] for volume in decoded(answer)["Volumes"]}
    if len(listed) != number:
        raise CallError(f"{peer} lists {len(listed)} volumes instead of {number}")


def populate_volplug(volplug: Volplug, client: PluginClient, number: int) -> None:
    """Create one volume; the others get copies of its record and sparse images of its size.

    So every record is what the driver writes, without the two disk flushes of each.
    """
    client.call("Create", Name="v00000", Opts={"size": "1GiB", "allocation": "sparse"})
    first = (volplug.images / "v00000.json").read_text()
    volume_id = json.loads(first)["volume"]["volume_id"]
    for each in range(1, number):
        name = f"v{each:05}"
        record = first.replace("v00000", name).replace(volume_id, f"loop-{each:012x}")
        (volplug.images / f"{name}.json").write_text(record)
        descriptor = os.open(volplug.image(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.ftruncate(descriptor, _SPARSE_BYTES)
        os.close(descriptor)


def _populate_rclone(rclone: Rclone, number: int) -> None:
    """Create one volume; the others are copies of it in the state file, read at the next start."""
    with rclone, rclone.connect() as client:
        rclone.create(client, "v00000")
    state = rclone.cache / rclone.STATE
    first = json.loads(state.read_text())[0]
    names = [f"v{each:05}" for each in range(number)]
    volumes = [first | {"name": name, "mountpoint": str(rclone.base / name)} for name in names]
    for name in names:
        (rclone.base / name).mkdir(exist_ok=True)
    state.write_text(json.dumps(volumes))
