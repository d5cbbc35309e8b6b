"""A cluster without etcd, whose nodes the configuration file lists."""

from pathlib import Path

import pytest

from tests.api.tls_site import free_port
from tests.cluster.nodes import Node, peer_client, running
from tests.lab.etcd import ETCD

pytestmark = ETCD

_REFUSED = [
    ("POST", "/v1/cluster/tokens", 501, "needs-etcd"),
    ("DELETE", "/v1/cluster/nodes/node2", 501, "needs-etcd"),
    ("DELETE", "/v1/cluster", 409, "conflict"),
]


async def _made(directory: Path, name: str, fingerprint: str = "") -> tuple[Node, dict[str, object]]:
    addresses = {each: f"127.0.0.1:{free_port()}" for each in ("node1", "node2")}
    nodes: dict[str, object] = {
        each: {
            "address": address,
            "is_signer": each == "node1",
            "fingerprint": fingerprint if each == "node2" else "",
        }
        for each, address in addresses.items()
    }
    return await Node.made(directory, name, cluster_address=addresses["node1"], nodes=nodes), nodes


def _address(nodes: dict[str, object], name: str) -> str:
    entry = nodes[name]
    assert isinstance(entry, dict)
    return str(entry["address"])


async def _issued(signer: Node, name: str) -> dict[str, object]:
    reply = await signer.api.call("POST", "/v1/cluster/certificates", {"name": name})
    assert reply.status == 200, reply
    body: dict[str, object] = reply.json
    return body


def _carried(issued: dict[str, object], directory: Path) -> None:
    directory.mkdir(mode=0o700)
    files = issued["files"]
    assert isinstance(files, dict)
    for name, text in files.items():
        (directory / name).write_text(text)


async def test_nodes_that_are_listed_trust_each_other_by_certificates_that_people_carry(
    directory: Path,
) -> None:
    signer, nodes = await _made(directory, "node1")
    async with running(signer):
        line = await signer.init()
        assert line["token"] is None
        second = await Node.made(directory, "node2", nodes=nodes, cluster_address=_address(nodes, "node2"))
        _carried(await _issued(signer, "node2"), second.state_dir / "cluster")
        assert "ca.key" not in second.files()
        async with running(second):
            for node, other in ((signer, second), (second, signer)):
                members = await node.members()
                assert {name: each["is_live"] for name, each in members.items()} == dict.fromkeys(nodes)
                shown = await node.api.ok("/v1/cluster")
                assert (shown["has_etcd"], shown["authority"]) == (False, line["authority"])
                async with peer_client(node, other.identity) as client:
                    assert (await client.get("/healthz")).status == 200
            for method, path, status, code in _REFUSED:
                reply = await signer.api.call(method, path)
                assert (reply.status, reply.json["code"]) == (status, code)
        reply = await signer.api.call("POST", "/v1/cluster/certificates", {"name": "node3"})
        assert (reply.status, reply.json["code"]) == (400, "invalid-request")


async def test_a_fingerprint_that_is_listed_permits_that_certificate_only(directory: Path) -> None:
    signer, nodes = await _made(directory, "node1")
    async with running(signer):
        await signer.init()
        issued = [await _issued(signer, "node2") for _ in range(2)]
        await signer.stop()
        listed = f"sha256:{issued[1]['fingerprint']}"
        entry = nodes["node2"]
        assert isinstance(entry, dict)
        pinned = nodes | {"node2": entry | {"fingerprint": listed}}
        again = await Node.made(
            directory / "node1", "x", node_id="node1", cluster_address=signer.address, nodes=pinned
        )
        (signer.state_dir / "cluster").rename(again.state_dir / "cluster")
        async with running(again):
            for number, status in ((0, 401), (1, 200)):
                _carried(issued[number], directory / str(number))
                async with peer_client(again, directory / str(number) / "node.pem") as client:
                    assert (await client.get("/healthz")).status == status


@pytest.mark.parametrize("name", ["UPPER", "-x", "a..b", "a/b", "x" * 65, ""])
async def test_a_name_that_cannot_be_in_a_certificate_is_refused(directory: Path, name: str) -> None:
    signer, _ = await _made(directory, "node1")
    async with running(signer):
        await signer.init()
        reply = await signer.api.call("POST", "/v1/cluster/certificates", {"name": name})
        assert (reply.status, reply.json["code"]) == (400, "invalid-request")
