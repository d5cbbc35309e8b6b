"""etcd fails: members killed, cut off and slow, compaction, forgotten logins, answers of nonsense."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from tests.api.certificates import Authority
from tests.cluster.nodes import Node, eventually, running
from tests.lab.etcd import ETCD, Etcd, EtcdTls, etcd
from volplug.cluster.etcd import EtcdClient, LeaseGone, Put, WatchEnded
from volplug.cluster.etcd_directory import Beat, EtcdDirectory
from volplug.cluster.records import AllowedCertificate, EtcdAccess, LifeRecord, MemberRecord
from volplug.errors import DirectoryDenied, DirectoryUnavailable
from volplug.host.threads import Pool

pytestmark = ETCD

_PASSWORD = "a long password"  # noqa: S105  # of the lab
_WRONG = "wrong password"
_QUICK = Beat(lease_s=2, every_s=0.2, retry_s=0.1)
_CALL_S = 1.0
_MEMBER = MemberRecord(
    address="127.0.0.1:7443",
    certificates=(AllowedCertificate(fingerprint="0" * 64, ends_at=datetime(2030, 1, 1, tzinfo=UTC)),),
)


@pytest.fixture(scope="module")
def three() -> Iterator[Etcd]:
    """An etcd of three members. Each test leaves it whole."""
    with etcd(3) as made:
        yield made


@asynccontextmanager
async def _client(access: EtcdAccess, call_s: float = _CALL_S) -> AsyncIterator[EtcdClient]:
    client = EtcdClient(access, Pool("test", 1), call_s)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def _directory(of: Etcd, cluster: str) -> AsyncIterator[EtcdDirectory]:
    """The directory of a node that is a member, and live."""
    life = LifeRecord(version="1", node_ids={}, since=datetime.now(UTC))
    client = EtcdClient(_access(of), Pool("test", 1), _CALL_S)
    directory = EtcdDirectory(client, cluster, "n", lambda: life, _QUICK)
    await directory.found(_MEMBER)
    directory.start()
    try:
        await eventually(lambda: _is_live(directory), "the node is live")
        yield directory
    finally:
        await directory.stop()


def _access(of: Etcd) -> EtcdAccess:
    return EtcdAccess(endpoints=tuple(of.urls.split(",")))


async def _is_live(directory: EtcdDirectory) -> bool:
    node = directory.node("n")
    return node is not None and node.is_live is True


async def _learns(directory: EtcdDirectory, of: Etcd, cluster: str, name: str, *, by: int) -> None:
    """A member that was written by way of another process is known soon."""
    key = f"/volplug/{cluster}/members/{name}"
    await asyncio.to_thread(of.put, key, _MEMBER.model_dump_json(), member=by)

    async def is_known() -> bool:
        return directory.node(name) is not None

    await eventually(is_known, f"{name} is known")


async def test_one_of_three_is_killed_or_cut_off_and_nothing_is_missed(three: Etcd, cluster: str) -> None:
    async with _directory(three, cluster) as directory:
        first = three.members[0]  # where it is connected
        await asyncio.to_thread(first.kill)
        await _learns(directory, three, cluster, "a", by=1)
        await eventually(lambda: _is_live(directory), "it is live")
        first.start()
        second = three.members[1]  # where it has gone on
        with second.paused():
            await _learns(directory, three, cluster, "b", by=2)
            await eventually(lambda: _is_live(directory), "it is live")
        await _learns(directory, three, cluster, "c", by=1)


async def test_all_three_are_killed_and_come_back(three: Etcd, cluster: str) -> None:
    async with _directory(three, cluster) as directory:
        with capture_logs() as logs:
            for member in three.members:
                await asyncio.to_thread(member.kill)
            await eventually(lambda: _is_current(directory, False), "that it is not current is known")
            node = directory.node("n")
            assert node is not None
            assert (node.is_live, node.may_show("0" * 64)) == (None, True)
            with pytest.raises(DirectoryUnavailable):
                await directory.add_token("token", timedelta(minutes=1), "key")
            for member in three.members:
                member.start()
            await eventually(lambda: _is_current(directory, True), "it is current")
            await eventually(lambda: _is_live(directory), "it is live")
        assert len([line for line in logs if line["event"] == "directory of nodes does not answer"]) == 1
        await _learns(directory, three, cluster, "a", by=0)


async def test_a_lease_that_ended_meanwhile_is_made_anew(three: Etcd, cluster: str) -> None:
    async with _directory(three, cluster) as directory, _client(_access(three)) as client:
        await client.revoke(directory.lease)
        await eventually(lambda: _is_gone(three, cluster), "it is not live")
        await eventually(lambda: _is_live(directory), "it is live again")
        lease = await client.grant(60)
        await client.keep_alive(lease)
        await client.revoke(lease)
        with pytest.raises(LeaseGone):
            await client.keep_alive(lease)
        with pytest.raises(LeaseGone):
            await client.change([], [Put(f"/volplug/{cluster}/x", "x", lease)])


async def test_what_was_compacted_away_is_read_again(three: Etcd, cluster: str) -> None:
    async with _client(_access(three)) as client:
        _, revision = await client.read(f"/volplug/{cluster}/")
        last = [three.put(f"/volplug/{cluster}/x", str(number)) for number in range(5)][-1]
        three.compact(last)
        with pytest.raises(WatchEnded, match=f"compacted up to {last}"):
            async for _ in client.watch(f"/volplug/{cluster}/", revision):
                pass
    async with _directory(three, cluster) as directory:
        # It misses changes while its members are paused, and those are compacted away.
        with three.members[0].paused():
            last = three.put(f"/volplug/{cluster}/members/a", _MEMBER.model_dump_json(), member=1)
            three.compact(last, member=1)
            await _learns(directory, three, cluster, "b", by=2)
        assert directory.node("a") is not None


async def test_users_log_in_again_when_etcd_has_forgotten_them_and_the_password_is_masked(
    directory: Path, cluster: str
) -> None:
    authority = Authority(directory)
    tls = EtcdTls(authority.issue("etcd"), authority.pair.certificate)
    password = directory / "password"
    password.write_text(f"{_PASSWORD}\n")
    with etcd(1, tls, "--bcrypt-cost", "4") as of:
        of.protect("volplug", _PASSWORD)
        settings = {
            "cluster": cluster,
            "cluster_etcd": of.urls,
            "cluster_etcd_user": "volplug",
            "cluster_etcd_password_file": password,
            "cluster_etcd_ca": tls.authority,
        }
        signer, second = await Node.made(directory, "node1", **settings), await Node.made(directory, "node2")
        async with running(signer, second):
            # What the second one needs for etcd comes with its certificate.
            await second.join(await signer.init())
            await asyncio.to_thread(of.members[0].kill)  # tokens are in memory only
            of.members[0].start()
            await eventually(lambda: asyncio.to_thread(of.answers), "etcd answers")
            await signer.token()
            await second.stop()
            await second.start()
            await eventually(lambda: _sees(signer, {"node1", "node2"}), "both are live")
        wrong = of.urls.replace("https", "http")
        accesses = [
            (EtcdAccess(endpoints=(of.urls,), authority=tls.authority.read_text()), DirectoryDenied),
            (EtcdAccess(endpoints=(of.urls,), user="volplug", password=_WRONG), DirectoryUnavailable),
            (EtcdAccess(endpoints=(wrong,), user="volplug", password=_PASSWORD), DirectoryUnavailable),
            (
                EtcdAccess(
                    endpoints=(of.urls,),
                    user="volplug",
                    password=_WRONG,
                    authority=tls.authority.read_text(),
                ),
                DirectoryDenied,
            ),
        ]
        for access, error in accesses:
            async with _client(access) as client:
                with pytest.raises(error) as raised:
                    await client.read("/volplug/")
                assert _PASSWORD not in str(raised.value)


@pytest.mark.parametrize("kind", ["nonsense", "list", "endless", "never", "redirect", "broken"])
async def test_what_etcd_cannot_have_answered_is_an_error_that_takes_neither_time_nor_memory(
    kind: str,
) -> None:
    sent = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        if kind == "never":
            await asyncio.sleep(3600)
        if kind == "redirect":
            return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/"})
        if kind != "endless":
            return web.Response(text={"nonsense": "<html>", "list": "[]", "broken": '{"kvs": [{}]}'}[kind])
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)
            sent += 65536

    server = web.Server(answer)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    try:
        async with _client(EtcdAccess(endpoints=(f"http://{host}:{port}",)), 2.0) as client:
            with pytest.raises(DirectoryUnavailable):
                await client.read("/volplug/")
    finally:
        await runner.cleanup()
    assert sent < 64 * 1024 * 1024


@pytest.mark.parametrize("line", ['{"result": []}', "[" * 100_000, '{"result": {"events": [{"kv": 1}]}}'])
async def test_a_watch_of_nonsense_ends(line: str) -> None:
    """Else the members would stay for ever what they were, those that are revoked as well."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=f"{line}\n")

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    try:
        async with _client(EtcdAccess(endpoints=(f"http://{host}:{port}",)), 2.0) as client:
            with pytest.raises(WatchEnded):
                await anext(client.watch("/volplug/", 1))
    finally:
        await runner.cleanup()


async def _is_current(directory: EtcdDirectory, expected: bool) -> bool:
    return directory.is_current is expected


async def _is_gone(of: Etcd, cluster: str) -> bool:
    return await asyncio.to_thread(of.values, f"/volplug/{cluster}/live/") == {}


async def _sees(node: Node, names: set[str]) -> bool:
    return await node.live() == names
