"""schemathesis finds nothing in the served document: what is described is what is answered."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.api.serving import serving
from tests.api.tls_site import Site
from tests.volumes.world import World

pytestmark = pytest.mark.api

# What fits the document may be refused all the same: a tag or a key that is not the right one, an option that
# the driver does not have, a cursor of nowhere. And /v1/volumes/a/release is a volume of backend `a`, too.
_NOT_CHECKED = "positive_data_acceptance,allow_header_conformance"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("examples", [2, pytest.param(200, marks=pytest.mark.slow)])
async def test_schemathesis_finds_nothing(world: World, site: Site, tmp_path: Path, examples: int) -> None:
    await world.service.start()
    for name in ("db", "other"):
        await world.create(name)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{site.base}/v1/openapi.json"),
        *("--header", f"Authorization: Bearer {site.admin}"),
        *("--tls-verify", str(site.authority.pair.certificate)),
        *("--exclude-checks", _NOT_CHECKED),
        *("--max-examples", str(examples)),
        *("--generation-deterministic", "--no-color"),
    ]
    async with serving(world.service, site.settings):
        running = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await running.communicate()
    assert running.returncode == 0, output.decode()
    assert "32 selected / 32 total" in output.decode()
