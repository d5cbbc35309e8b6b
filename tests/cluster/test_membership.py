"""Beginning a cluster, joining it, removing nodes and leaving, on a real etcd."""

import asyncio
import json
import shutil
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.api.serving import ApiReply
from tests.cluster.nodes import Node, eventually, running
from tests.lab.etcd import ETCD, Etcd, encoded
from volplug.cluster.records import TokenRecord, digest_of, proof_of

pytestmark = ETCD


def _refused(reply: ApiReply, status: int, code: str) -> None:
    assert (reply.status, reply.json["code"]) == (status, code), reply


async def test_a_line_makes_another_host_a_member(pair: tuple[Node, Node], cluster: str) -> None:
    signer, second = pair
    for node in pair:
        shown = await node.api.ok("/v1/cluster")
        assert (shown["name"], shown["node"], shown["has_etcd"]) == (cluster, node.name, True)
        members = await node.members()
        assert {name: each["is_signer"] for name, each in members.items()} == {"node1": True, "node2": False}
        assert members["node2"]["address"] == second.address
    assert "ca.key" in signer.files()
    assert "ca.key" not in second.files()


async def test_keys_are_for_root_alone_and_etcd_has_no_secret(
    pair: tuple[Node, Node], one_etcd: Etcd, cluster: str
) -> None:
    line = await pair[0].token()
    for node in pair:
        directory = node.state_dir / "cluster"
        assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    kept = one_etcd.values(f"/volplug/{cluster}/")
    assert {key.split("/")[3] for key in kept} == {"members", "live", "tokens"}
    assert line["token"] not in str(kept)
    assert "PRIVATE" not in str(kept)
    assert f"/volplug/{cluster}/tokens/{digest_of(line['token'])}" in kept


async def test_to_begin_again_is_success_and_completes_what_a_kill_has_left(
    signer: Node, one_etcd: Etcd, cluster: str
) -> None:
    first = await signer.init()
    files, key = signer.files(), f"/volplug/{cluster}/members/node1"
    kept = one_etcd.values(key)
    assert (await signer.init())["authority"] == first["authority"]
    # Killed before etcd was told.
    await signer.stop()
    one_etcd.call("kv/deleterange", {"key": encoded(key)})
    await signer.start()
    assert (await signer.init())["authority"] == first["authority"]
    assert signer.files() == files
    assert one_etcd.values(key) == kept


async def test_half_an_identity_is_none(directory: Path, signer: Node) -> None:
    left = signer.state_dir / ".cluster.new"
    left.mkdir()
    (left / "ca.key").write_text("half")
    _refused(await signer.api.get("/v1/cluster"), 409, "not-a-member")
    await signer.init()
    assert not left.exists()


async def test_keys_that_a_killed_volplug_has_not_removed_are_gone_after_its_next_start(signer: Node) -> None:
    await signer.init()
    await signer.stop()
    (signer.state_dir / "cluster").rename(signer.state_dir / ".cluster.old")  # as in `leave`
    await signer.start()
    assert not list(signer.state_dir.glob("*cluster*"))
    _refused(await signer.api.get("/v1/cluster"), 409, "not-a-member")


async def test_a_cluster_that_exists_is_not_begun_by_another_host(
    directory: Path, signer: Node, one_etcd: Etcd, cluster: str
) -> None:
    await signer.init()
    other = await Node.made(directory, "other", cluster=cluster, cluster_etcd=one_etcd.urls)
    async with running(other):
        _refused(await other.api.call("POST", "/v1/cluster"), 409, "already-a-member")
    assert other.files() == {}


async def test_a_token_is_for_one_node_and_of_several_that_use_it_at_once_one_joins(
    directory: Path, signer: Node
) -> None:
    line = await signer.init()
    nodes = [await Node.made(directory, f"n{number}") for number in range(3)]
    async with running(*nodes):
        replies = await asyncio.gather(*(node.tries_to_join(line) for node in nodes))
        assert sorted(reply.status for reply in replies) == [200, 403, 403]
        assert {reply.json["code"] for reply in replies if reply.status != 200} == {"join-refused"}
        assert [bool(node.files()) for node in nodes] == [reply.status == 200 for reply in replies]
    assert len(await signer.members()) == 2


async def test_a_token_that_a_member_writes_back_to_etcd_admits_no_second_node(
    directory: Path, signer: Node, one_etcd: Etcd, cluster: str
) -> None:
    line = await signer.init()
    key = f"/volplug/{cluster}/tokens/{digest_of(line['token'])}"
    kept = one_etcd.values(key)[key]
    second, third = await Node.made(directory, "node2"), await Node.made(directory, "node3")
    async with running(second, third):
        await second.join(line)
        one_etcd.put(key, kept)
        _refused(await third.tries_to_join(line), 403, "join-refused")
    assert third.files() == {}


@pytest.mark.parametrize(("ends_in_s", "has_key"), [(-1, True), (60, False)])
async def test_an_expired_token_is_refused_although_it_is_there_and_so_is_one_that_no_signer_has_made(
    directory: Path, signer: Node, one_etcd: Etcd, cluster: str, ends_in_s: int, has_key: bool
) -> None:
    """Every member can write to etcd, and then begin a life under the name of another."""
    line = await signer.init()
    key = signer.files()["ca.key"].decode() if has_key else "of another cluster"
    ends_at = datetime.now(UTC) + timedelta(seconds=ends_in_s)
    written = TokenRecord(ends_at=ends_at, proof=proof_of(key, line["token"], ends_at))
    one_etcd.put(f"/volplug/{cluster}/tokens/{digest_of(line['token'])}", written.model_dump_json())
    second = await Node.made(directory, "node2")
    async with running(second):
        _refused(await second.tries_to_join(line), 403, "join-refused")
    assert second.files() == {}
    assert set(await signer.members()) == {"node1"}


async def test_what_does_not_fit_is_refused_and_the_token_remains(
    directory: Path, pair: tuple[Node, Node], cluster: str
) -> None:
    signer, second = pair
    line, before = await signer.token(), await signer.members()
    cases = [
        ({"node_id": "NODE2"}, {}, 409, "node-exists"),
        ({"node_id": "n3", "cluster_address": second.address}, {}, 409, "node-exists"),
        ({"node_id": "n3", "cluster": "another"}, {}, 409, "conflict"),
        ({"node_id": "n3"}, {"authority": "sha256:" + "0" * 64}, 502, "peer-invalid"),
        ({"node_id": "n3"}, {"token": "volplug_" + "A" * 43}, 403, "join-refused"),
        ({"node_id": "-no name-"}, {}, 400, "invalid-request"),
    ]
    for number, (settings, other, status, code) in enumerate(cases):
        node = await Node.made(directory, f"case{number}", **settings)
        async with running(node):
            with capture_logs() as logs:
                _refused(await node.tries_to_join(line, **other), status, code)
            assert line["token"] not in str(logs)
            assert node.files() == {}
    assert await signer.members() == before
    third = await Node.made(directory, "node3")
    async with running(third):
        await third.join(line)


async def test_only_a_signer_admits(pair: tuple[Node, Node]) -> None:
    reply = await pair[1].api.call("POST", "/v1/cluster/tokens")
    _refused(reply, 409, "not-a-signer")
    assert reply.json["remedy"] == "Run it on node1"


async def test_a_member_joins_no_other_cluster(pair: tuple[Node, Node]) -> None:
    line = await pair[0].token()
    _refused(await pair[1].tries_to_join(line), 409, "already-a-member")


async def test_a_node_that_leaves_is_forgotten_and_may_come_again(pair: tuple[Node, Node]) -> None:
    signer, second = pair
    _refused(await signer.api.call("DELETE", "/v1/cluster"), 409, "conflict")
    assert (await second.api.call("DELETE", "/v1/cluster")).status == 204
    assert second.files() == {}
    await eventually(lambda: _knows(signer, {"node1"}), "node1 has forgotten node2")
    await second.join(await signer.token())
    await eventually(lambda: _knows(signer, {"node1", "node2"}), "node1 knows node2")
    assert (await second.api.call("DELETE", "/v1/cluster")).status == 204
    assert (await signer.api.call("DELETE", "/v1/cluster")).status == 204


async def test_a_node_that_was_removed_may_leave_and_join_again(pair: tuple[Node, Node]) -> None:
    signer, second = pair
    _refused(await signer.api.call("DELETE", "/v1/cluster/nodes/none"), 404, "node-not-found")
    _refused(await signer.api.call("DELETE", "/v1/cluster/nodes/node1"), 409, "conflict")
    assert (await signer.api.call("DELETE", "/v1/cluster/nodes/node2")).status == 204
    assert set(await signer.members()) == {"node1"}
    assert (await second.api.call("DELETE", "/v1/cluster")).status == 204
    await second.join(await signer.token())


async def test_nodes_that_stop_are_not_live_and_are_again_after_a_restart(pair: tuple[Node, Node]) -> None:
    signer, second = pair
    since = (await signer.members())["node2"]["since"]
    await second.stop()
    await eventually(lambda: _lives(signer, {"node1"}), "node2 is not live")
    assert set(await signer.members()) == {"node1", "node2"}
    await second.start()
    await eventually(lambda: _lives(signer, {"node1", "node2"}), "node2 is live")
    assert (await signer.members())["node2"]["since"] > since


async def test_records_that_are_nonsense_are_ignored_and_logged(
    signer: Node, one_etcd: Etcd, cluster: str
) -> None:
    await signer.init()
    await eventually(lambda: _lives(signer, {"node1"}), "node1 is live")
    good = one_etcd.values(f"/volplug/{cluster}/members/node1")[f"/volplug/{cluster}/members/node1"]
    with capture_logs() as logs:
        for key, value in {
            "members/x": "[]",
            "members/y": json.dumps({**json.loads(good), "address": "\x1b[2J"}),
            "members/z": json.dumps({**json.loads(good), "more": "x" * 1_000_000}),
            "live/node1": "\x00",
            "live/node9": '{"version": "1", "node_ids": {}, "since": "2026-01-01T00:00:00"}',
            "odd": good,
            "members/NODE1": good,
            "members/a/b": good,
            "members/node9": good,
        }.items():
            one_etcd.put(f"/volplug/{cluster}/{key}", value)
        await eventually(lambda: _knows(signer, {"node1", "node9"}), "the good one is known")
    assert len([line for line in logs if line["event"] == "record of the cluster ignored"]) == 7


async def test_an_identity_that_is_damaged_is_an_error_and_volplug_serves(signer: Node) -> None:
    await signer.init()
    await signer.stop()
    shutil.copy(signer.state_dir / "cluster" / "ca.key", signer.state_dir / "cluster" / "node.pem")
    with capture_logs() as logs:
        await signer.start()
    errors = [str(line["error"]) for line in logs if line["event"] == "no part in the cluster"]
    assert len(errors) == 1
    assert "the identity in" in errors[0]
    assert (await signer.api.ok("/v1/version"))["version"]


async def _knows(node: Node, names: set[str]) -> bool:
    return set(await node.members()) == names


async def _lives(node: Node, names: set[str]) -> bool:
    return await node.live() == names
