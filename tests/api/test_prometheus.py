"""A real Prometheus scrapes the control API as docs/operations.md tells, and answers every query."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.api.serving import serving
from tests.api.tls_site import Site, free_port
from tests.packaging.test_monitoring import RULES, needs_prometheus, queries, rules
from tests.volumes.world import World
from volplug.metrics import TryResult

pytestmark = [pytest.mark.api, needs_prometheus]

_EMPTY_HERE = {"Inodes used in mounted volumes"}  # a host in memory does not number them


@pytest.fixture
def prometheus(directory: Path, site: Site) -> Iterator[str]:
    """The URL of a Prometheus that scrapes the site's control API, which is not served yet."""
    scraping = {
        "job_name": "volplug",
        "scheme": "https",
        "authorization": {"credentials": site.reader},
        "tls_config": {"ca_file": str(site.authority.pair.certificate)},
        "static_configs": [{"targets": [site.base.removeprefix("https://")]}],
    }
    config = {
        "global": {"scrape_interval": "500ms"},
        "rule_files": [str(RULES)],
        "scrape_configs": [scraping],
    }
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    listening = f"--web.listen-address={address}"
    data = f"--storage.tsdb.path={directory / 'data'}"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={file}", data, listening], stdout=log, stderr=log
        )
    yield f"http://{address}"
    process.kill()
    process.wait()


async def _answer(session: aiohttp.ClientSession, url: str, query: str) -> list[Any]:
    query = query.replace("$instance", ".*").replace("$__rate_interval", "1m")
    async with session.get(f"{url}/api/v1/query", params={"query": query}) as answer:
        assert answer.status == 200, await answer.text()
        result: list[Any] = (await answer.json())["data"]["result"]
        return result


async def _has_scraped(session: aiohttp.ClientSession, url: str) -> bool:
    """Tell whether there are enough samples for rates; not while Prometheus starts."""
    try:
        async with session.get(f"{url}/-/ready") as ready:
            is_ready = ready.status == 200
    except aiohttp.ClientError:
        return False
    return is_ready and bool(await _answer(session, url, "count_over_time(volplug_build_info[1m]) >= 4"))


async def test_a_real_prometheus_scrapes_it_and_answers_every_query(
    world: World, site: Site, prometheus: str
) -> None:
    await world.service.start()
    gate = world.driver.hold("detach")
    world.node.metrics.tries_of("memory")("AttachVolume", TryResult.OK, True)
    for name in ("db", "other"):
        await world.create(name)
        await world.mount(name)
    await world.service.unmount("other", "c1")
    async with serving(world.service, site.settings), aiohttp.ClientSession() as session, asyncio.timeout(60):
        while not await _has_scraped(session, prometheus):  # noqa: ASYNC110  # no event tells it
            await asyncio.sleep(0.1)
        empty = {
            title
            for title, texts in queries().items()
            for text in texts
            if not await _answer(session, prometheus, text)
        }
        assert empty == _EMPTY_HERE
        assert [name for name, text in rules().items() if await _answer(session, prometheus, text)] == []
    gate.opened.set()
