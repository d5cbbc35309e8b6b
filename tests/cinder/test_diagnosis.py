"""What `diagnose` finds on a real OpenStack: for a member, a reader and an administrator."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from tests.cinder.sites import LIMITS, CinderSite, spec_of
from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.servers import Server
from tests.lab.openstack.shared import CINDER
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.findings import Finding, Level
from volplug.models import Volume
from volplug.testing.conformance.calls import problem_of

pytestmark = [*CINDER, pytest.mark.usefixtures("identified")]

_NUMBERS = count()
# No transition is young: Cinder's times are in whole seconds.
_AT_ONCE = dataclasses.replace(LIMITS, create_s=-1.0, attaching_s=-1.0, detach_s=-1.0, delete_s=-1.0)


@pytest.fixture
def cluster() -> str:
    return f"diagnosis-{next(_NUMBERS)}"


@pytest.fixture
async def volume(
    lab: OpenStackLab, sites: list[CinderSite], tmp_path: Path, cluster: str
) -> AsyncIterator[Volume]:
    driver = sites[0].driver(tmp_path, cluster)
    volume = await driver.create(spec_of())
    yield volume
    await asyncio.to_thread(lab.storage.set_status, volume.volume_id, "available")
    await driver.delete(volume)


async def diagnosed(
    site: CinderSite, place: Path, cluster: str, limits: CinderTimeouts = LIMITS
) -> dict[str, list[Finding]]:
    """Diagnose; return the findings by check."""
    found: dict[str, list[Finding]] = {}
    for each in await site.driver(place, cluster, limits).diagnose():
        assert problem_of(each) == ""
        found.setdefault(each.check, []).append(each)
    return found


@pytest.mark.parametrize(
    ("cloud", "credentials", "permissions", "services"),
    [
        (
            "demo",
            "user demo of project demo as ",
            "all reads are permitted",
            "is shown to administrators only",
        ),
        (
            "viewer",
            "user viewer of project demo as reader",
            "as reader, user viewer may change no volumes",
            "",
        ),
        (
            "operator",
            "of project demo as admin",
            "all reads are permitted",
            "all services of Cinder and Nova are up",
        ),
    ],
)
async def test_what_the_credentials_permit(
    *,
    lab: OpenStackLab,
    servers: tuple[Server, Server],
    tmp_path: Path,
    cluster: str,
    cloud: str,
    credentials: str,
    permissions: str,
    services: str,
) -> None:
    found = await diagnosed(CinderSite(lab, servers[0], cloud), tmp_path, cluster)
    assert credentials in found["credentials"][0].message
    assert permissions in found["permissions"][0].message
    assert services in found["services"][0].message
    yellow = {"permissions"} if cloud == "viewer" else set()
    assert {
        each.check for all_of in found.values() for each in all_of if each.level is not Level.GREEN
    } == yellow
    assert f"this host is {servers[0].id} in nova: Nova reports ACTIVE" in found["identity"][0].message


async def test_a_volume_that_is_stuck_is_usable_again_after_the_command(
    lab: OpenStackLab, sites: list[CinderSite], tmp_path: Path, cluster: str, volume: Volume
) -> None:
    for state in ("creating", "attaching", "detaching"):
        await asyncio.to_thread(lab.storage.set_status, volume.volume_id, state)
        (stuck,) = (await diagnosed(sites[0], tmp_path, cluster, _AT_ONCE))["transitions"]
        assert (stuck.level, stuck.subject) == (Level.RED, volume.name)
        assert stuck.message.startswith(f"{volume.volume_id} is {state}, for ")
        command = re.search(rf"openstack volume set --state (\S+) {volume.volume_id}", stuck.remedy)
        assert command is not None
        await asyncio.to_thread(lab.storage.set_status, volume.volume_id, command[1])
        found = await diagnosed(sites[0], tmp_path, cluster, _AT_ONCE)
        assert [each.level for each in found["transitions"]] == [Level.GREEN]


async def test_a_wrong_password_is_a_finding_and_nothing_else_is_tried(
    lab: OpenStackLab, servers: tuple[Server, Server], tmp_path: Path, cluster: str
) -> None:
    wrong = {"auth_url": lab.auth_url, "username": "demo", "password": "wrong-one", "project_name": "demo"}
    site = CinderSite(lab, servers[0], "", **wrong, max_retries=0)
    found = await diagnosed(site, tmp_path, cluster)
    red = [each for all_of in found.values() for each in all_of if each.level is Level.RED]
    assert [each.check for each in red] == ["credentials"]
    assert red[0].message.startswith("Keystone does not accept the credentials")
    assert site.line.counts.total() == 0
