"""The protocol, byte for byte as dockerd sends it and reads it."""

import asyncio
import json
import os
from datetime import datetime

import pytest
from structlog.testing import capture_logs

from tests.contract.conftest import World
from tests.dockerd import ENGINE_20_10, ENGINE_26, Dockerd
from volplug.errors import BackendUnavailable
from volplug.handlers.answers import ready_bytes

pytestmark = pytest.mark.contract

ANSWERED_WITHOUT_BODY = [
    ("/Plugin.Activate", b'{"Implements":["VolumeDriver"]}'),
    ("/VolumeDriver.Capabilities", b'{"Capabilities":{"Scope":"global"}}'),
    ("/VolumeDriver.List", b'{"Volumes":[]}'),
]
NEEDS_BODY = ["Create", "Remove", "Mount", "Unmount", "Path", "Get"]


@pytest.mark.parametrize("host", [ENGINE_20_10, ENGINE_26])
@pytest.mark.parametrize(("path", "answer"), ANSWERED_WITHOUT_BODY)
@pytest.mark.parametrize("body", [b"", b"{}\n", b"null", b"garbage"])
async def test_calls_without_arguments_ignore_their_body(
    dockerd: Dockerd, host: str, path: str, answer: bytes, body: bytes
) -> None:
    reply = await dockerd.raw(path, body, host=host)
    assert reply is not None
    assert (reply.status, reply.body) == (200, answer)


@pytest.mark.parametrize("verb", NEEDS_BODY)
@pytest.mark.parametrize("body", [b"", b"\n", b"   "])
async def test_a_retry_whose_body_was_lost_gets_no_answer(dockerd: Dockerd, verb: str, body: bytes) -> None:
    assert await dockerd.raw(f"/VolumeDriver.{verb}", body) is None
    assert (await dockerd.ok("List")) == {"Volumes": []}


async def test_the_life_cycle_of_a_volume_has_exactly_these_answers(dockerd: Dockerd) -> None:
    assert (await dockerd.call("Create", Name="db", Opts=None)).body == b"{}"
    created = (await dockerd.ok("Get", Name="db"))["Volume"]
    assert datetime.fromisoformat(created.pop("CreatedAt")).tzinfo is not None
    status = created.pop("Status")
    assert status.pop("id").startswith("mem-")
    assert created == {"Name": "db", "Mountpoint": ""}
    assert status == {
        "backend": "memory",
        "driver": "memory",
        "size": "1GiB",
        "state": "available",
        "fs": "pending",
        "profile": "default",
        "mountCount": 0,
    }
    mounted = await dockerd.call("Mount", Name="db", ID="a" * 64)
    assert mounted.body == b'{"Mountpoint":"/mounts/db/data"}'
    assert (await dockerd.call("Path", Name="db")).body == b'{"Mountpoint":"/mounts/db/data"}'
    (listed,) = (await dockerd.ok("List"))["Volumes"]
    assert (listed["Name"], listed["Mountpoint"]) == ("db", "/mounts/db/data")
    assert (await dockerd.call("Unmount", Name="db", ID="a" * 64)).body == b"{}"
    assert (await dockerd.call("Path", Name="db")).body == b'{"Mountpoint":""}'
    assert (await dockerd.call("Remove", Name="db")).body == b"{}"
    assert (await dockerd.call("List")).body == b'{"Volumes":[]}'


async def test_get_of_an_unknown_volume_is_answered_because_no_backend_has_it(dockerd: Dockerd) -> None:
    assert await dockerd.error("Get", Name="nope") == 'no such volume [get "nope"].'


@pytest.mark.parametrize("name", ["", "../../etc", "a b", "x" * 300])
async def test_get_of_an_invalid_name_is_answered_with_no_such_volume(dockerd: Dockerd, name: str) -> None:
    assert (await dockerd.error("Get", Name=name)).startswith("no such volume [get")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"text"', b"null", b"[" * 100_000, b"x" * (10 * 1024**2), b'\xff{"Name":"x"}']
)
async def test_get_that_cannot_be_read_gets_no_answer(dockerd: Dockerd, body: bytes) -> None:
    assert await dockerd.raw("/VolumeDriver.Get", body) is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", "the request is not JSON."),
        (b"[" * 100_000, "the request is not JSON."),
        (b"[]", "the request is not a JSON object."),
        (b"null", "the request is not a JSON object."),
        (b"{}", "the request's Name is not a text."),
        (b'{"Name": 7}', "the request's Name is not a text."),
        (b'{"Name": "x", "Opts": [1]}', "the request's Opts are not an object of texts."),
        (b'{"Name": "x", "Opts": {"size": 1}}', "the request's Opts are not an object of texts."),
        (b" " * 10 + b"[0]" * (4 * 1024**2), "the request is larger than 128 KiB."),
    ],
)
async def test_create_that_cannot_be_read_is_an_error_and_creates_nothing(
    dockerd: Dockerd, world: World, body: bytes, error: str
) -> None:
    reply = await dockerd.raw("/VolumeDriver.Create", body)
    assert reply is not None
    assert (reply.status, reply.error) == (500, error)
    assert not world.cloud.volumes


async def test_options_that_a_user_asks_for_are_shown_and_are_no_failure(
    dockerd: Dockerd, world: World
) -> None:
    with capture_logs() as logs:
        shown = await dockerd.error("Create", Name="db", Opts={"help": ""})
    assert shown.startswith("options of driver memory: backend=NAME, fs=btrfs|ext4|xfs, ")
    lines = [line for line in logs if line["log_level"] != "debug"]
    assert lines == [{"event": "options listed", "log_level": "info", "call": "/VolumeDriver.Create"}]
    assert not world.cloud.volumes


@pytest.mark.parametrize("path", ["/", "/VolumeDriver.Destroy", "/VolumeDriver.Get/", "/nope?x=1"])
async def test_unknown_calls_are_404_in_json(dockerd: Dockerd, path: str) -> None:
    reply = await dockerd.raw(path, b"{}")
    assert reply is not None
    assert (reply.status, reply.error) == (404, f"unknown call {path.partition('?')[0]!r}")


@pytest.mark.parametrize(
    ("version", "header", "stays_open"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close\r\n", False),
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive\r\n", True),
    ],
)
async def test_the_connection_stays_open_as_the_client_requests(
    dockerd: Dockerd, world: World, version: str, header: str, stays_open: bool
) -> None:
    await dockerd.ok("List")
    reader, writer = await asyncio.open_unix_connection(str(world.socket))
    for _ in range(2 if stays_open else 1):
        head = f"POST /VolumeDriver.List HTTP/{version}\r\nHost: x\r\n{header}Content-Length: 2\r\n\r\n"
        writer.write(head.encode() + b"{}")
        answered = await reader.readuntil(b"]}")
        assert answered.startswith(b"HTTP/1.1 200 OK\r\n")
    if not stays_open:
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


def test_a_text_that_is_not_unicode_is_answered() -> None:
    answer = {"Err": f"the image {os.fsdecode(b'/srv/' + bytes([255]))} is missing"}
    head, _, body = ready_bytes(answer).partition(b"\r\n\r\n")
    assert json.loads(body) == answer
    assert f"Content-Length: {len(body)}".encode() in head


async def test_list_returns_what_docker_reads_of_it_and_no_more(dockerd: Dockerd) -> None:
    for name in ("db", "cache"):
        await dockerd.ok("Create", Name=name)
    await dockerd.ok("Mount", Name="db", ID="a")
    assert await dockerd.ok("List") == {
        "Volumes": [{"Name": "cache", "Mountpoint": ""}, {"Name": "db", "Mountpoint": "/mounts/db/data"}]
    }
    await dockerd.ok("Unmount", Name="db", ID="a")


async def test_other_methods_are_405_in_json(dockerd: Dockerd) -> None:
    reply = await dockerd.raw("/VolumeDriver.List", b"", method="GET")
    assert reply is not None
    assert (reply.status, reply.error) == (405, "method GET is not POST")


async def test_a_request_without_host_is_refused_and_the_next_served(dockerd: Dockerd) -> None:
    reply = await dockerd.raw("/VolumeDriver.List", b"{}", host="")
    assert reply is not None
    assert reply.status == 400
    await dockerd.hang_up()
    assert await dockerd.ok("List") == {"Volumes": []}


async def test_a_bare_connect_and_close_disturbs_no_other_client(dockerd: Dockerd, world: World) -> None:
    for _ in range(20):
        await dockerd.send("/VolumeDriver.List", b"")
        await dockerd.hang_up()
    assert await dockerd.ok("List") == {"Volumes": []}


async def test_an_outage_is_never_answered_as_not_found(dockerd: Dockerd, world: World) -> None:
    world.cloud.outage = BackendUnavailable("the cloud is down")
    assert await dockerd.raw("/VolumeDriver.Get", b'{"Name":"db"}') is None
    assert await dockerd.error("Mount", Name="db", ID="x") == (
        'the cloud is down [mount "db", memory, node node-a].'
    )


async def test_known_volumes_are_described_from_memory_during_an_outage(
    dockerd: Dockerd, world: World
) -> None:
    await dockerd.ok("Create", Name="db")
    await dockerd.ok("Get", Name="db")
    world.cloud.outage = BackendUnavailable("the cloud is down")
    assert (await dockerd.ok("Get", Name="db"))["Volume"]["Name"] == "db"
    assert [each["Name"] for each in (await dockerd.ok("List"))["Volumes"]] == ["db"]
    assert (await dockerd.error("Remove", Name="db")).startswith("the cloud is down [")


async def test_a_list_of_which_nothing_is_known_is_an_error_and_not_empty(
    dockerd: Dockerd, world: World
) -> None:
    world.cloud.outage = BackendUnavailable("the cloud is down")
    assert await dockerd.error("List") == "backend memory cannot be listed: the cloud is down."


@pytest.mark.parametrize("id_field", [{}, {"ID": ""}, {"ID": None}])
async def test_mount_and_unmount_work_without_an_id(
    dockerd: Dockerd, world: World, id_field: dict[str, object]
) -> None:
    await dockerd.ok("Create", Name="db")
    await dockerd.ok("Mount", Name="db", **id_field)
    await dockerd.ok("Unmount", Name="db", **id_field)
    assert world.host.mounts == {}


async def test_a_mount_whose_client_has_left_is_not_counted(dockerd: Dockerd, world: World) -> None:
    await dockerd.ok("Create", Name="db")
    async with Dockerd(world.socket) as other:
        await other.send("/VolumeDriver.Mount", json.dumps({"Name": "db", "ID": "lost"}).encode())
    answer = await dockerd.ok("Mount", Name="db", ID="kept")
    assert answer == {"Mountpoint": "/mounts/db/data"}
    await dockerd.ok("Unmount", Name="db", ID="kept")
    assert (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]["mountCount"] == 0


async def test_an_internal_error_is_answered_and_the_next_call_served(dockerd: Dockerd, world: World) -> None:
    await dockerd.ok("Create", Name="db")
    world.host.disks = None  # type: ignore[assignment]  # makes the machine fail as no machine should
    error = await dockerd.error("Mount", Name="db", ID="a")
    assert error.startswith("internal error: ")
    assert error.endswith("See the log of volplug.")
    assert (await dockerd.ok("List"))["Volumes"]
