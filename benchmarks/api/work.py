"""The control API: everything that is measured, in its order."""

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from typing import Final

from benchmarks import measures as m
from benchmarks import processes
from benchmarks.api import measures as a
from benchmarks.calls import populate_volplug
from benchmarks.client import CallError, PluginClient, decoded
from benchmarks.measures import Measure, Results
from benchmarks.peers import Volplug
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.report import show

_CONNECTIONS: Final = 8
_PAGE: Final = 100
_PAGE_MAX: Final = 1000
_NEW: Final = {"name": "new", "options": {"size": "1GiB", "allocation": "sparse"}}


def measure_api(results: Results, plan: Plan, where: Place) -> None:
    """Measure everything."""
    number = plan.lists[m.LIST_10000.key].volumes
    with ExitStack() as stack:
        volplug = stack.enter_context(Volplug(where, "volplug-api"))
        docker = stack.enter_context(volplug.connect()).with_room()
        populate_volplug(volplug, docker, number)
        docker.call("List")
        time.sleep(plan.settled_s)
        _measure_memory(results, a.RSS_BEFORE, volplug)
        clients = [stack.enter_context(_connected(volplug)) for _ in range(_CONNECTIONS)]
        api = clients[0]
        results.add(a.FIRST, m.VOLPLUG, api.timed(_request("GET", "/v1/version"), 1))
        show("volumes and pages")
        _measure_reads(results, plan, api, number)
        show("operations")
        _measure_operations(results, plan, api)
        time.sleep(plan.settled_s)
        _list_ms(api, number)  # which is read anew after the changes
        used_mib = _measure_memory(results, a.RSS_USED, volplug)
        show(f"{plan.sustained_s:g} s of requests")
        _measure_sustained(results, plan, clients)
        after_mib = _measure_memory(results, a.RSS_AFTER, volplug)
        results.add(a.GROWTH, m.VOLPLUG, [after_mib - used_mib])


def _connected(volplug: Volplug) -> PluginClient:
    return PluginClient(volplug.process.state_dir / "control.sock").with_room()


def _request(method: str, path: str, body: object = None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def _measure_memory(results: Results, measure: Measure, volplug: Volplug) -> float:
    processes.measure_memory(results, measure, {m.VOLPLUG: volplug})
    return results.p50(measure) or 0


def _measure_reads(results: Results, plan: Plan, api: PluginClient, number: int) -> None:
    calls = plan.rounds * plan.calls
    results.add(a.GET, m.VOLPLUG, api.timed(_request("GET", "/v1/volumes/v00000"), calls))
    for measure, limit in ((a.PAGE_100, _PAGE), (a.PAGE_1000, _PAGE_MAX)):
        page = _request("GET", f"/v1/volumes?limit={limit}")
        results.add(measure, m.VOLPLUG, api.timed(page, calls // limit + 1))
    results.add(a.LIST, m.VOLPLUG, [_list_ms(api, number) for _ in range(plan.list_rounds)])


def _list_ms(api: PluginClient, number: int) -> float:
    """Follow the cursors of all pages and return the milliseconds; what is decoded does not count."""
    cursor, listed, taken_ms = "", 0, 0.0
    while True:
        ready = _request("GET", f"/v1/volumes?limit={_PAGE_MAX}{cursor}")
        begun = time.perf_counter_ns()
        api.send(ready)
        answer = api.receive()
        taken_ms += (time.perf_counter_ns() - begun) / 1e6
        page = decoded(answer)
        listed += len(page["volumes"])
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    if listed != number:
        raise CallError(f"{listed} volumes are listed instead of {number}")
    return taken_ms


def _measure_operations(results: Results, plan: Plan, api: PluginClient) -> None:
    samples: dict[Measure, list[float]] = {a.CREATE: [], a.DELETE: []}
    for _ in range(plan.rounds * plan.pairs):
        samples[a.CREATE].append(_operation_ms(api, _request("POST", "/v1/volumes", _NEW)))
        samples[a.DELETE].append(_operation_ms(api, _request("DELETE", "/v1/volumes/new")))
    for measure, taken in samples.items():
        results.add(measure, m.VOLPLUG, taken)


def _operation_ms(api: PluginClient, ready: bytes) -> float:
    begun = time.perf_counter_ns()
    api.send(ready)
    started = decoded(api.receive())
    api.send(_request("GET", f"/v1/operations/{started['id']}?wait_s=60"))
    ended = decoded(api.receive())
    taken_ms = (time.perf_counter_ns() - begun) / 1e6
    if ended["state"] != "succeeded":
        raise CallError(f"the operation has {ended['state']}: {ended['failure']}")
    return taken_ms


def _measure_sustained(results: Results, plan: Plan, clients: Sequence[PluginClient]) -> None:
    """Send one request over each connection, then wait for all answers, again and again."""
    mix = [
        _request("GET", f"/v1/volumes?limit={_PAGE}"),
        _request("GET", f"/v1/operations?limit={_PAGE}"),
        *[_request("GET", "/v1/volumes/v00000")] * (len(clients) - 2),
    ]
    samples: list[float] = []
    begun_s = time.monotonic()
    for turn in count():
        begun = time.perf_counter_ns()
        for number, client in enumerate(clients):
            client.send(mix[(number + turn) % len(mix)])
        for client in clients:
            client.receive()
        samples.append((time.perf_counter_ns() - begun) / 1e6 / len(clients))
        if (lasted_s := time.monotonic() - begun_s) >= plan.sustained_s:
            break
    results.add(a.MIXED, m.VOLPLUG, samples)
    results.add(a.RATE, m.VOLPLUG, [len(samples) * len(clients) / lasted_s])
