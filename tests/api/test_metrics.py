"""What Prometheus is told: by the page docs/metrics.md, and of what was done and is."""

import asyncio
import re
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.api.serving import Api, serving
from tests.api.tls_site import Site
from tests.volumes.world import Gate, World
from volplug.handlers.control.prometheus import rendered
from volplug.host.threads import PoolLoad
from volplug.metrics import BOUNDS_S, Metrics, TryResult
from volplug.models import Usage
from volplug.volumes.monitor import MAX_VOLUMES, MountedUsage, NodeGauges
from volplug.volumes.usage_sampler import UsageSample

pytestmark = pytest.mark.api

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
EVERYTHING = NodeGauges(
    running={"mount": 1},
    attached={"loop": 2},
    mounted={"loop": 1},
    mounts={"loop": 3},
    unreached={("loop", "detached", True): 1},
    usages=[MountedUsage("loop", "db", UsageSample(Usage(1, 2, used_inodes=3, inodes=4), 0.5))],
    without_usage=0,
)


def everything() -> bytes:
    """All metrics, each with a sample."""
    metrics = Metrics()
    metrics.operations["mount", "docker", "succeeded"].add(0.2)
    metrics.steps["loop", "attach"].add(0.1)
    metrics.tries_of("ebs")("AttachVolume", TryResult.THROTTLED, True)
    metrics.loop_lag.add(0.001)
    return rendered(metrics, EVERYTHING, [PoolLoad("loop", 64, 1)])


def read(text: bytes) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def values(families: dict[str, Metric], sample: str) -> dict[tuple[str, ...], float]:
    """The samples of one name, by the values of their labels in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(each.labels.items())): each.value
        for family in families.values()
        for each in family.samples
        if each.name == sample
    }


async def scraped(api: Api) -> dict[str, Metric]:
    answer = await api.get("/metrics")
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    return read(answer.body)


def test_the_page_lists_every_metric_with_its_type_and_labels() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    written = {name: (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels in rows}
    shown = {}
    for family in read(everything()).values():
        if not family.name.startswith("volplug_"):
            continue
        labels = [each for each in family.samples[0].labels if each != "le"]
        suffix = "_total" if family.type == "counter" else ""
        shown[family.name + suffix] = (family.type, labels)
    assert written == shown


async def test_operations_steps_and_volumes_are_counted(world: World, api: Api) -> None:
    assert values(await scraped(api), "volplug_mounts") == {("memory",): 0}
    await world.create("db")
    await world.mount("db", "a")
    await world.mount("db", "b")
    with pytest.raises(Exception, match="not unmounted"):
        await world.service.remove("db")
    families = await scraped(api)
    counts = values(families, "volplug_operation_duration_seconds_count")
    assert counts["create", "docker", "succeeded"] == 1
    assert counts["mount", "docker", "succeeded"] == 2
    assert counts["remove", "docker", "failed"] == 1
    steps = values(families, "volplug_step_duration_seconds_count")
    assert (steps["memory", "attach"], steps["memory", "mount"]) == (1, 1)
    assert values(families, "volplug_mounts") == {("memory",): 2}
    assert values(families, "volplug_volumes_mounted") == {("memory",): 1}
    assert values(families, "volplug_volumes_not_as_desired") == {}
    assert [*values(families, "volplug_volume_used_bytes")] == [("memory", "db")]
    assert values(families, "volplug_volumes_without_usage") == {(): 0}


async def test_a_desired_state_that_is_not_reached_shows_whether_a_try_failed(world: World, api: Api) -> None:
    await world.create("db")
    await world.mount("db", "a")
    gate = world.driver.hold("detach")
    await world.service.unmount("db", "a")
    await asyncio.wait_for(gate.reached.wait(), 10)
    families = await scraped(api)
    assert values(families, "volplug_volumes_not_as_desired") == {("memory", "detached", "false"): 1}
    assert values(families, "volplug_operations_running") == {("detach",): 1}
    gate.opened.set()


async def test_a_device_that_hangs_does_not_hold_the_scrape_up(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.create("db")
    await world.mount("db", "a")
    gate = Gate()

    async def hangs(target: str, last: Usage | None) -> Usage:
        await gate.pass_through()
        raise OSError

    monkeypatch.setattr(world.host, "usage", hangs)
    async with asyncio.timeout(10):
        families = await scraped(api)
        await scraped(api)
    assert values(families, "volplug_volume_used_bytes") == {}
    assert values(families, "volplug_volumes_without_usage") == {(): 1}
    gate.opened.set()


async def test_of_many_mounted_volumes_some_are_shown(world: World, api: Api) -> None:
    names = [f"v{number:03}" for number in range(MAX_VOLUMES + 1)]
    for name in names:
        await world.create(name)
        await world.mount(name, "a")
    families = await scraped(api)
    assert [volume for _, volume in values(families, "volplug_volume_free_bytes")] == names[:-1]
    assert values(families, "volplug_volumes_without_usage") == {(): 1}


async def test_what_runs_on_its_own_is_shown(api: Api) -> None:
    families = await scraped(api)
    assert values(families, "volplug_build_info") != {}
    assert values(families, "process_resident_memory_bytes")[()] > 0
    assert ("control",) in values(families, "volplug_pool_threads")


async def test_on_tcp_a_reader_may_scrape_and_others_may_not(world: World, site: Site) -> None:
    async with serving(world.service, site.settings), site.client() as client:
        token = {"Authorization": f"Bearer {site.reader}"}
        assert (await client.call("GET", "/metrics", headers=token)).status == 200
        assert (await client.call("GET", "/metrics")).status == 401


def test_the_buckets_of_durations_are_cumulative() -> None:
    metrics = Metrics()
    for duration_s in (-1.0, BOUNDS_S[0], BOUNDS_S[1], 1e9):
        metrics.loop_lag.add(duration_s)
    buckets = metrics.loop_lag.buckets()
    assert [count for _, count in buckets[:3]] == [2, 3, 3]
    assert (buckets[-2][1], buckets[-1]) == (3, ("+Inf", 4))


def test_tries_are_counted_by_how_they_ended() -> None:
    families = read(everything())
    calls = values(families, "volplug_backend_calls_total")
    assert calls == {("AttachVolume", "ebs", "throttled"): 1}
    assert values(families, "volplug_backend_retries_total") == {("AttachVolume", "ebs"): 1}
