"""The control API of a served process: on loop volumes, across a kill, and closed to other users."""

import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.api.serving import Api, unix_client
from tests.dockerd import Dockerd
from tests.lab.plugin import VolplugProcess
from tests.lab.serve import dying_at
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine
from tests.served.volumes import is_attached, is_mounted
from volplug.sizes import MIB
from volplug.steps import WorldStep

pytestmark = [pytest.mark.api, pytest.mark.loop]

_USER = 65534
_GROUP = 4242
_CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1]); print('connected')"
_DB = {"name": "db", "size_bytes": 8 * MIB}


@asynccontextmanager
async def control_of(volplug: VolplugProcess) -> AsyncIterator[Api]:
    path = volplug.state_dir / "control.sock"
    wait_until(lambda: _accepts(path), 10, "the control API is served")
    async with unix_client(path) as client:
        yield client


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


async def test_loop_volumes_are_managed_beside_docker(dockerd: Dockerd, volplug: VolplugProcess) -> None:
    async with control_of(volplug) as api:
        assert (await api.done("POST", "/v1/volumes", _DB))["failure"] is None
        path = Path((await dockerd.ok("Mount", Name="db", ID="a"))["Mountpoint"])
        shown = await api.ok("/v1/volumes/loop/db")
        assert (shown["mountpoint"], shown["state"]) == (str(path), "in-use")
        for method, end in (("DELETE", ""), ("POST", "/release")):
            refused = await api.done(method, f"/v1/volumes/db{end}")
            assert refused["failure"]["code"] == "volume-in-use"
        assert is_mounted(volplug, "db")
        assert (await api.done("POST", "/v1/volumes/db/takeover"))["failure"] is None  # it is here
        await dockerd.ok("Unmount", Name="db", ID="a")
        assert (await api.done("POST", "/v1/volumes/db/release"))["failure"] is None
        assert not is_attached(volplug, "db")
        kinds = [(each["kind"], each["origin"]) for each in (await api.ok("/v1/operations"))["operations"]]
        assert {("mount", "docker"), ("unmount", "docker"), ("detach", "volplug"), ("release", "api")} <= {
            *kinds
        }
        texts = [event["text"] for event in (await api.ok("/v1/events?volume=db&kind=change"))["events"]]
        assert {"volume created", "volume attached", "volume detached"} <= {*texts}
        (backend,) = (await api.ok("/v1/backends"))["backends"]
        assert (backend["name"], backend["problem"], backend["volume_count"]) == ("loop", None, 1)
        assert (await api.done("DELETE", "/v1/volumes/db"))["failure"] is None
    assert await dockerd.ok("List") == {"Volumes": []}


async def test_this_node_has_its_configured_name(machine: LocalMachine) -> None:
    with VolplugProcess(machine, env={"VOLPLUG_NODE_ID": "node1"}) as volplug:
        async with control_of(volplug) as api:
            (node,) = (await api.ok("/v1/nodes"))["nodes"]
            assert (node["id"], node["node_ids"]) == ("node1", {"loop": "node1"})


async def test_what_was_answered_is_known_after_a_kill(volplug: VolplugProcess) -> None:
    async with control_of(volplug) as api:
        started = await api.call("POST", "/v1/volumes", _DB, {"Idempotency-Key": "key-1"})
    volplug.kill()
    volplug.start()
    async with control_of(volplug) as api:
        ended = await api.ok(f"{started.headers['Location']}?wait_s=20")
        assert ended["state"] in {"succeeded", "failed"}
        exists = (await api.get("/v1/volumes/db")).status == 200
        assert exists == (ended["state"] == "succeeded")
        again = await api.call("POST", "/v1/volumes", _DB, {"Idempotency-Key": "key-1"})
        assert again.headers["Location"] == started.headers["Location"]
        assert (await api.done("POST", "/v1/volumes", _DB))["failure"] is None


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize(("row", "state"), [(1, "failed"), (2, "succeeded")], ids=["begin", "end"])
async def test_killed_at_a_row_of_an_operation_it_says_what_became_of_it(
    machine: LocalMachine, method: str, row: int, state: str
) -> None:
    """The first row is written before the work, the second one after it."""
    called: tuple[str, str, object] = (
        ("POST", "/v1/volumes", _DB) if method == "POST" else ("DELETE", "/v1/volumes/db", None)
    )
    volplug = VolplugProcess(machine)
    with volplug:
        if method == "DELETE":
            async with Dockerd(machine.directory / "p.sock") as dockerd:
                await dockerd.ok("Create", Name="db", Opts={"size": "8MiB"})
    volplug.start(argv=dying_at(WorldStep.OPERATION_WRITTEN, row))
    async with control_of(volplug) as api:
        with contextlib.suppress(aiohttp.ClientError):  # the answer may be lost
            await api.call(*called, {"Idempotency-Key": "key-1"})
        wait_until(lambda: not volplug.running, 10, "it is dead")
    volplug.kill()
    with volplug:
        async with control_of(volplug) as api:
            (known,) = (
                each for each in (await api.ok("/v1/operations"))["operations"] if each["origin"] == "api"
            )
            ended = await api.ok(f"/v1/operations/{known['id']}?wait_s=20")
            assert (ended["kind"], ended["state"]) == ("create" if method == "POST" else "delete", state)
            assert (ended["failure"] or {}).get("code") == ("interrupted" if row == 1 else None)
            exists = (await api.get("/v1/volumes/db")).status == 200
            assert exists == ((method == "POST") == (state == "succeeded"))
            again = await api.call(*called, {"Idempotency-Key": "key-1"})
            assert (again.status, again.json["id"]) == (202, known["id"])
            if state == "failed":
                assert (await api.done(*called))["failure"] is None


def _connected(path: Path, groups: Sequence[int]) -> bool:
    done = subprocess.run(
        ["python3", "-c", _CONNECT, str(path)],
        check=False,
        capture_output=True,
        text=True,
        user=_USER,
        group=_USER,
        extra_groups=groups,
    )
    assert done.stdout == "connected\n" or "PermissionError" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize(("group", "mode"), [("", 0o600), (str(_GROUP), 0o660)])
def test_only_root_or_the_group_may_connect(machine: LocalMachine, group: str, mode: int) -> None:
    machine.directory.chmod(0o755)  # nothing above closes the way
    path = machine.directory / "control" / "c.sock"
    env = {"VOLPLUG_CONTROL_SOCKET": str(path), "VOLPLUG_CONTROL_GROUP": group}
    with VolplugProcess(machine, env=env):
        wait_until(path.exists, 10, "the control API is served")
        assert path.stat().st_mode & 0o777 == mode
        assert not _connected(path, [])
        assert _connected(path, [_GROUP]) == bool(group)
    assert not path.exists()


async def test_docker_is_served_where_the_control_api_cannot_be(machine: LocalMachine) -> None:
    (machine.directory / "c.sock").write_text("a file")
    for env in (
        {"VOLPLUG_CONTROL_SOCKET": str(machine.directory / "c.sock")},
        {"VOLPLUG_CONTROL_SOCKET": str(machine.directory / ("x" * 100))},
        {"VOLPLUG_CONTROL_GROUP": "no-such-group"},
    ):
        with VolplugProcess(machine, env=env) as volplug:
            async with Dockerd(machine.directory / "p.sock") as dockerd:
                assert await dockerd.ok("List") == {"Volumes": []}
            wait_until(lambda: "control API not served" in volplug.log_text, 10, "the reason is logged")
        volplug.log.unlink()
    assert (machine.directory / "c.sock").read_text() == "a file"
