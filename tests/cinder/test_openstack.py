"""Credentials, tokens and endpoints on a real OpenStack."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cinder.sites import CinderSite
from tests.lab.openstack import shared
from tests.lab.openstack.lab import OpenStackLab
from volplug.drivers.base import BackendConfig
from volplug.drivers.cinder.openstack import CINDER, NOVA, Call, OpenStack
from volplug.drivers.cinder.settings import load_settings
from volplug.errors import BackendDenied, BackendUnavailable, ConfigurationError
from volplug.masking import MASK, masked

pytestmark = shared.CINDER

LIST = Call(CINDER, "GET", "/volumes/detail", {"limit": "1"}, expects="volumes")
SERVERS = Call(NOVA, "GET", "/servers", expects="servers")
_SECRET = "of-an-application"  # noqa: S105  # of the test


def openstack(environment: dict[str, str] | None = None, **table: object) -> OpenStack:
    config = BackendConfig("cloud", "", "", Path(), {"max_retries": 0, **table})
    return OpenStack(load_settings(config, environment or {}))


@pytest.fixture(scope="module")
def application(lab: OpenStackLab) -> Iterator[str]:
    """The id of an application credential of demo."""
    cloud = lab.connection("demo")
    identity: Any = cloud.identity  # its type has the calls of version 2, too
    user = str(cloud.current_user_id)
    made = identity.create_application_credential(user=user, name="of-the-test", secret=_SECRET)
    yield str(made.id)
    identity.delete_application_credential(user, made.id)


@pytest.mark.parametrize("suffix", ["", "/", "/v3", "/v3/"])
async def test_an_application_credential_is_enough(lab: OpenStackLab, application: str, suffix: str) -> None:
    cloud = openstack(
        auth_url=lab.auth_url.removesuffix("/v3") + suffix,
        application_credential_id=application,
        application_credential_secret=_SECRET,
        region_name="RegionOne",
    )
    assert "volumes" in await cloud.call(LIST)
    assert "servers" in await cloud.call(SERVERS)


async def test_a_user_with_a_password_is_enough_and_rexrays_variables_are_read(lab: OpenStackLab) -> None:
    user = lab.connection("demo").config.get_auth_args()
    cloud = openstack(
        {
            "CINDER_AUTHURL": lab.auth_url,
            "CINDER_USERNAME": user["username"],
            "CINDER_PASSWORD": user["password"],
            "CINDER_TENANTNAME": user["project_name"],
            "CINDER_DOMAINNAME": "Default",
            "CINDER_REGIONNAME": "RegionOne",
        }
    )
    assert "volumes" in await cloud.call(LIST)


async def test_a_wrong_password_is_no_outage(lab: OpenStackLab) -> None:
    cloud = openstack(auth_url=lab.auth_url, username="demo", password="wrong-one", project_name="demo")  # noqa: S106  # it is wrong
    with pytest.raises(BackendDenied, match="Keystone does not accept the credentials"):
        await cloud.call(LIST)


async def test_a_region_that_does_not_exist_is_named(lab: OpenStackLab, application: str) -> None:
    cloud = openstack(
        auth_url=lab.auth_url,
        application_credential_id=application,
        application_credential_secret=_SECRET,
        region_name="Nowhere",
    )
    with pytest.raises(ConfigurationError, match="Nowhere") as refused:
        await cloud.call(LIST)
    assert "region" in refused.value.remedy


async def test_a_cloud_that_does_not_exist_is_named(lab: OpenStackLab) -> None:
    cloud = openstack(cloud="nosuch", clouds_file=str(lab.clouds_yaml))
    with pytest.raises(ConfigurationError, match="nosuch"):
        await cloud.call(LIST)


async def test_a_keystone_that_is_out_is_an_outage_and_asked_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nothing listens
        cloud = openstack(
            auth_url=f"http://127.0.0.1:{taken.getsockname()[1]}/v3",
            username="demo",
            password="some-password",  # noqa: S106  # of the test
            project_name="demo",
        )
        for _ in range(2):
            with pytest.raises(BackendUnavailable, match="Cinder did not answer GET /volumes/detail"):
                await cloud.call(LIST)


async def test_a_token_that_is_not_accepted_is_renewed_and_every_token_is_masked(lab: OpenStackLab) -> None:
    cloud = openstack(cloud="demo", clouds_file=str(lab.clouds_yaml))
    await cloud.call(LIST)
    auth = cloud._adapters[CINDER].session.auth
    first = str(auth.auth_ref.auth_token)
    auth.auth_ref._auth_token = "an-expired-token"  # noqa: S105  # as it is after its time
    await cloud.call(LIST)
    second = str(auth.auth_ref.auth_token)
    assert second not in {first, "an-expired-token"}
    assert [masked(first), masked(second)] == [MASK, MASK]


async def test_a_reader_may_not_attach_and_the_policy_is_named(
    lab: OpenStackLab, sites: list[CinderSite]
) -> None:
    cloud = openstack(cloud="viewer", clouds_file=str(lab.clouds_yaml))
    path = f"/servers/{sites[0].server.id}/os-volume_attachments"
    body = {"volumeAttachment": {"volumeId": "00000000-0000-0000-0000-000000000000"}}
    with pytest.raises(BackendDenied, match="os_compute_api:os-volumes-attachments:create"):
        await cloud.call(Call(NOVA, "POST", path, body=body))
