import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.ebs.answering import Asked, Reply, Server, answering, metadata_of
from volplug.drivers.ebs.instance import HostIdentity, Identity
from volplug.drivers.ebs.settings import EbsSettings
from volplug.errors import ConfigurationError

INSTANCE = "i-0123456789abcdef0"


@pytest.fixture
def metadata() -> Iterator[Server]:
    known = metadata_of(
        instance_id=INSTANCE, placement__availability_zone="eu-central-1b", placement__region="eu-central-1"
    )
    with answering(known) as server:
        yield server


def settings_of(sys_root: Path, **values: str) -> EbsSettings:
    return EbsSettings.model_validate({"sys_root": sys_root, **values})


def write_asset_tag(sys_root: Path, text: str) -> None:
    directory = sys_root / "devices" / "virtual" / "dmi" / "id"
    directory.mkdir(parents=True)
    (directory / "board_asset_tag").write_text(text)


async def test_on_xen_the_metadata_service_says_it_all(metadata: Server, tmp_path: Path) -> None:
    host = HostIdentity(settings_of(tmp_path, imds_endpoint=metadata.url))
    assert await host.get() == Identity(INSTANCE, "eu-central-1b", "eu-central-1")
    assert host.known == await host.get()
    assert [asked.method for asked in metadata.asked] == ["PUT", "GET", "GET", "GET"]


async def test_on_nitro_the_firmware_says_who_and_settings_which_region(tmp_path: Path) -> None:
    """Without the metadata service the zone is not known; EC2 knows it, and settings that of new volumes."""
    write_asset_tag(tmp_path, f"{INSTANCE}\n")
    settings = settings_of(
        tmp_path, region="eu-central-1", availability_zone="eu-central-1a", imds_endpoint="http://127.0.0.1:1"
    )
    assert await HostIdentity(settings).get() == Identity(INSTANCE, "", "eu-central-1")


async def test_the_zone_of_new_volumes_is_not_that_of_the_instance(metadata: Server, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, availability_zone="eu-central-1a", imds_endpoint=metadata.url)
    assert (await HostIdentity(settings).get()).zone == "eu-central-1b"


async def test_without_any_zone_the_error_says_what_to_set(tmp_path: Path) -> None:
    write_asset_tag(tmp_path, f"{INSTANCE}\n")
    settings = settings_of(tmp_path, region="eu-central-1", imds_endpoint="http://127.0.0.1:1")
    with pytest.raises(ConfigurationError) as wrong:
        await HostIdentity(settings).get()
    assert str(wrong.value) == (
        "the instance metadata service at http://127.0.0.1:1 does not tell this host's "
        "placement/availability-zone: Connection refused. "
        "Enable the service, or set region and availability_zone."
    )


@pytest.mark.parametrize("tag", ["Not Specified", "", "i-xyz", "vol-0123456789abcdef0"])
async def test_an_asset_tag_that_is_no_instance_is_not_believed(
    metadata: Server, tmp_path: Path, tag: str
) -> None:
    write_asset_tag(tmp_path, tag)
    found = await HostIdentity(settings_of(tmp_path, imds_endpoint=metadata.url)).get()
    assert found.node_id == INSTANCE


async def test_many_who_ask_at_once_ask_once(metadata: Server, tmp_path: Path) -> None:
    host = HostIdentity(settings_of(tmp_path, imds_endpoint=metadata.url))
    answers = await asyncio.gather(*(host.get() for _ in range(20)))
    assert len(set(answers)) == 1
    assert len(metadata.asked) == 4


async def test_the_region_alone_needs_no_instance_where_it_is_set(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, region="eu-central-1", imds_endpoint="http://127.0.0.1:1")
    assert await HostIdentity(settings).region() == "eu-central-1"


async def test_outside_of_ec2_the_error_says_what_to_set(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, imds_endpoint="http://127.0.0.1:1")
    with pytest.raises(ConfigurationError) as wrong:
        await HostIdentity(settings).get()
    assert str(wrong.value) == (
        "the instance metadata service at http://127.0.0.1:1 does not tell this host's instance-id: "
        "Connection refused. Run volplug on an EC2 instance whose metadata service is enabled."
    )


async def test_an_answer_that_does_not_reach_a_container_names_the_hop_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's answer is dropped on its way through the container's network."""
    monkeypatch.setattr("volplug.drivers.cloud.identity.METADATA_TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConfigurationError) as wrong:
            await HostIdentity(settings_of(tmp_path, imds_endpoint=endpoint)).get()
    assert str(wrong.value) == (
        f"the instance metadata service at {endpoint} does not tell this host's instance-id: timed out. "
        "On EC2, in a container without host networking, set HttpPutResponseHopLimit to 2."
    )


async def test_a_service_that_is_disabled_says_so(tmp_path: Path) -> None:
    write_asset_tag(tmp_path, INSTANCE)
    with answering(lambda _: Reply("", 403)) as server, pytest.raises(ConfigurationError) as wrong:
        await HostIdentity(settings_of(tmp_path, imds_endpoint=server.url)).get()
    assert str(wrong.value) == (
        f"the instance metadata service at {server.url} does not tell this host's placement/region: "
        "Forbidden. Enable the service, or set region and availability_zone."
    )


async def test_a_failure_is_asked_again_the_next_time(tmp_path: Path) -> None:
    replies = iter([Reply("", 500)])
    known = metadata_of(
        instance_id=INSTANCE, placement__availability_zone="eu-central-1b", placement__region="eu-central-1"
    )

    def fails_first(asked: Asked) -> Reply:
        return next(replies, None) or known(asked)

    with answering(fails_first) as server:
        host = HostIdentity(settings_of(tmp_path, imds_endpoint=server.url))
        with pytest.raises(ConfigurationError):
            await host.get()
        assert host.known is None
        assert (await host.get()).node_id == INSTANCE


@pytest.mark.parametrize(
    ("says", "error"),
    [
        ("<html>Please log in</html>", "calls this host '<html>Please log in</html>'"),
        ("", "does not tell this host's instance-id: an empty answer"),
    ],
)
async def test_who_claims_to_be_the_service_and_is_not_is_not_believed(
    tmp_path: Path, says: str, error: str
) -> None:
    with answering(lambda _: Reply(says)) as portal:
        host = HostIdentity(settings_of(tmp_path, imds_endpoint=portal.url))
        with pytest.raises(ConfigurationError, match=error):
            await host.get()
