"""The directory of nodes on etcd: members, the certificates that they may show, join tokens, and who is live.

Below the prefix of the cluster: `members/NAME` for as long as a node is a member, `live/NAME` with the node's
lease, `tokens/HASH`. Nothing else is kept in etcd.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import structlog

from volplug.cluster.directory import ClusterNode
from volplug.cluster.etcd import Change, Compare, Delete, EtcdClient, LeaseGone, Put, Stored, WatchEnded
from volplug.cluster.records import (
    AllowedCertificate,
    LifeRecord,
    MemberRecord,
    TokenRecord,
    digest_of,
    proof_of,
    read_record,
)
from volplug.errors import AlreadyMember, JoinRefused, NodeExists, NodeNotFound, VolplugError
from volplug.names import is_node_name

_LOG = structlog.get_logger(__name__)
_R = TypeVar("_R", LifeRecord, MemberRecord)
_MEMBERS, _LIVE, _TOKENS = "members/", "live/", "tokens/"


@dataclass(frozen=True, slots=True)
class Beat:
    """How often a node tells that it is live.

    Attributes:
        lease_s: After which silence it counts as gone.
        every_s: How often it prolongs its lease: two may be lost.
        retry_s: The pause after a failure.
    """

    lease_s: int = 15
    every_s: float = 5.0
    retry_s: float = 1.0


_BEAT: Final = Beat()


class EtcdDirectory:
    """What etcd has of one cluster; a `NodeDirectory`.

    Args:
        client: Of etcd.
        cluster: Its name.
        name: Of this node.
        describe: Returns what this node tells of itself.
        beat: How often.

    Attributes:
        is_current: See `NodeDirectory`.
        lease: Of this node; 0 if it has none.
    """

    def __init__(
        self,
        client: EtcdClient,
        cluster: str,
        name: str,
        describe: Callable[[], LifeRecord],
        beat: Beat = _BEAT,
    ) -> None:
        self._client = client
        self._prefix = f"/volplug/{cluster}/"
        self._name = name
        self._describe = describe
        self._beat = beat
        self._members: dict[str, MemberRecord] = {}
        self._live: dict[str, LifeRecord] = {}
        self.lease = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._used: set[str] = set()  # keys of join tokens, at a signer
        self._is_missing = False  # from the members, which is logged once
        self.is_current = False

    # Reading

    def nodes(self) -> Sequence[ClusterNode]:
        """Return the members by name."""
        return tuple(self._node(name) for name in sorted(self._members))

    def node(self, name: str) -> ClusterNode | None:
        """Return one member."""
        return self._node(name) if name in self._members else None

    def _node(self, name: str) -> ClusterNode:
        member, life = self._members[name], self._live.get(name)
        return ClusterNode(
            name=name,
            address=member.address,
            fingerprints=frozenset(each.fingerprint for each in member.certificates),
            is_signer=member.is_signer,
            node_ids=life.node_ids if life else {},
            version=life.version if life else "",
            is_live=life is not None if self.is_current else None,
            since=life.since if life else None,
        )

    async def refresh(self) -> None:
        """Read all now.

        Raises:
            VolplugError: If etcd does not answer.
        """
        found, _ = await self._client.read(self._prefix)
        self._replace(found)

    # Living

    def start(self) -> None:
        """Begin to follow what etcd has, and to tell that this node is live."""
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._tell())]
        for task in self._tasks:
            task.add_done_callback(_log_bug)

    async def stop(self) -> None:
        """End, and tell that this node goes; if that cannot be told at once, its lease ends."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self.lease:
            with contextlib.suppress(VolplugError, LeaseGone, TimeoutError):
                async with asyncio.timeout(self._beat.retry_s):
                    await self._client.revoke(self.lease)
        await self._client.close()

    async def _follow(self) -> None:
        """Read all, then follow the changes; again from the beginning whenever the watch ends."""
        while True:
            try:
                found, revision = await self._client.read(self._prefix)
                self._replace(found)
                async for changes in self._client.watch(self._prefix, revision):
                    self.is_current = True
                    for change in changes:
                        self._apply(change)
            except WatchEnded as ended:
                _LOG.info("directory of nodes is read again", reason=str(ended))
            except VolplugError as error:
                if self.is_current:
                    _LOG.warning("directory of nodes does not answer", error=str(error))
                self.is_current = False
            await asyncio.sleep(self._beat.retry_s)

    def _replace(self, found: Mapping[str, Stored]) -> None:
        for gone in [*self._members, *self._live]:
            for kind in (_MEMBERS, _LIVE):
                if f"{self._prefix}{kind}{gone}" not in found:
                    self._apply(Change(f"{self._prefix}{kind}{gone}", None))
        for key, stored in found.items():
            self._apply(Change(key, stored.value))

    def _apply(self, change: Change) -> None:
        kind, _, name = change.key.removeprefix(self._prefix).partition("/")
        if f"{kind}/" in (_MEMBERS, _LIVE) and not is_node_name(name):
            reason = "not the name of a node"
            _LOG.warning("record of the cluster ignored", key=change.key[:200], error=reason)
            return
        if f"{kind}/" == _MEMBERS:
            member = read_record(MemberRecord, change.key, change.value) if change.value is not None else None
            _set(self._members, name, member, "node is a member of the cluster", "node is no member any more")
        elif f"{kind}/" == _LIVE:
            life = read_record(LifeRecord, change.key, change.value) if change.value is not None else None
            _set(self._live, name, life, "node is live", "node is not live any more")

    async def _tell(self) -> None:
        """Keep this node's lease, and what it tells with it."""
        told: LifeRecord | None = None
        while True:
            pause = self._beat.every_s
            try:
                if not self.lease:
                    self.lease, told = await self._client.grant(self._beat.lease_s), None
                else:
                    await self._client.keep_alive(self.lease)
                if (life := self._describe()) != told and await self._told(life):
                    told = life
            except LeaseGone:
                self.lease, pause = 0, 0
            except VolplugError:
                pause = self._beat.retry_s  # `_follow` has logged it
            await asyncio.sleep(pause)

    async def _told(self, life: LifeRecord) -> bool:
        """Write what this node tells, if it is a member."""
        member = await self._client.get(self._member_key(self._name))
        was_missing, self._is_missing = self._is_missing, member is None
        if member is None:
            if not was_missing:
                _LOG.error("this node is no member of the cluster", node=self._name)
            return False
        return await self._client.change(
            [Compare(self._member_key(self._name), member.revision)],
            [Put(f"{self._prefix}{_LIVE}{self._name}", life.model_dump_json(), self.lease)],
        )

    # Changing

    async def found(self, member: MemberRecord) -> None:
        """Make this node the first member; again is success.

        Raises:
            AlreadyMember: If the cluster has members.
        """
        await self.check_new(member)
        key = self._member_key(self._name)
        if not await self._client.change(
            [Compare(f"{self._prefix}{_MEMBERS}", is_prefix=True)], [Put(key, member.model_dump_json())]
        ):
            await self.check_new(member)

    async def check_new(self, member: MemberRecord | None = None) -> None:
        """Check that the cluster has no member, or only this one as it is to be.

        Raises:
            AlreadyMember: If it has others.
        """
        found, _ = await self._client.read(f"{self._prefix}{_MEMBERS}")
        own = found.get(self._member_key(self._name))
        if found and (member is None or own is None or not _is_same(own, member)):
            raise AlreadyMember(
                f"etcd has a cluster at {self._prefix}", "Join it, or set another cluster by VOLPLUG_CLUSTER"
            )

    async def add_token(self, token: str, lasts: timedelta, authority_key: str) -> datetime:
        """Permit one node to join with a token, of which only the hash is kept; return when that ends."""
        lease = await self._client.grant(int(lasts.total_seconds()))
        ends_at = datetime.now(UTC) + lasts
        record = TokenRecord(ends_at=ends_at, proof=proof_of(authority_key, token, ends_at))
        await self._client.change([], [Put(self._token_key(token), record.model_dump_json(), lease)])
        return ends_at

    async def check_token(self, token: str, authority_key: str) -> int:
        """Return the revision of a token that may be used: a signer has made it, and it has not expired.

        Raises:
            JoinRefused: If it may not.
        """
        stored = await self._client.get(self._token_key(token))
        record = read_record(TokenRecord, _TOKENS, stored.value) if stored else None
        if (
            stored is None
            or record is None
            or record.ends_at <= datetime.now(UTC)
            or not hmac.compare_digest(record.proof, proof_of(authority_key, token, record.ends_at))
        ):
            raise JoinRefused(
                "the join token is unknown, was used, or has expired",
                "volplug cluster token prints a new one",
            )
        return stored.revision

    async def admit(self, token: str, revision: int, name: str, member: MemberRecord) -> None:
        """Use up a token and make a node a member, both or neither.

        Args:
            token: The token.
            revision: As `check_token` has returned it.
            name: Of the node.
            member: What etcd is to have of it.

        Raises:
            JoinRefused: If the token was used or has expired meanwhile.
            NodeExists: If the name or the address is taken; the token remains.
        """
        found, _ = await self._client.read(f"{self._prefix}{_MEMBERS}")
        key = self._member_key(name)
        for other, stored in found.items():
            record = read_record(MemberRecord, other, stored.value)
            taken = (
                "name" if other == key else "address" if record and record.address == member.address else ""
            )
            if taken:
                raise NodeExists(
                    f"the cluster has a node of this {taken}: {other.rpartition('/')[2]}",
                    "Set another VOLPLUG_NODE_ID; if that node is gone for good, volplug node rm on a member",
                )
        permit = self._token_key(token)
        is_new, own = permit not in self._used, None
        self._used.add(permit)  # a member can write its own token back
        if is_new:
            if await self._client.change(
                [Compare(permit, revision), Compare(key)],
                [Delete(permit), Put(key, member.model_dump_json())],
            ):
                return
            own = await self._client.get(key)
        if own is None or not _is_same(own, member):  # else the first sending of this call took effect
            raise JoinRefused(
                "the join token was used or has expired meanwhile", "volplug cluster token prints a new one"
            )

    async def allow(self, name: str, shown: str, certificate: AllowedCertificate) -> None:
        """Permit a new certificate of a member beside the one that it has shown; others go.

        The new one may never reach it, so the one that it has stays.

        Raises:
            NodeNotFound: If it is no member, or was changed meanwhile.
        """
        key = self._member_key(name)
        stored = await self._client.get(key)
        member = read_record(MemberRecord, key, stored.value) if stored else None
        if stored is None or member is None:
            raise NodeNotFound(f"the cluster has no node {name}", "volplug cluster show lists them")
        kept = [each for each in member.certificates if each.fingerprint == shown]
        changed = member.model_copy(update={"certificates": (*kept, certificate)})
        if not await self._client.change(
            [Compare(key, stored.revision)], [Put(key, changed.model_dump_json())]
        ):
            again = await self._client.get(key)
            if again is None or not _is_same(again, changed):
                raise NodeNotFound(f"node {name} was changed meanwhile", "Try again")

    async def remove(self, name: str) -> None:
        """End a node's membership: none of its certificates is accepted any more.

        Raises:
            NodeNotFound: If it is no member.
        """
        if await self._client.get(self._member_key(name)) is None:
            raise NodeNotFound(f"the cluster has no node {name}", "volplug cluster show lists them")
        await self._client.change(
            [], [Delete(self._member_key(name)), Delete(f"{self._prefix}{_LIVE}{name}")]
        )
        # Not only by the watch: it is revoked here before the caller has its answer.
        self._apply(Change(self._member_key(name), None))

    def _member_key(self, name: str) -> str:
        return f"{self._prefix}{_MEMBERS}{name}"

    def _token_key(self, token: str) -> str:
        return f"{self._prefix}{_TOKENS}{digest_of(token)}"


def _is_same(stored: Stored, member: MemberRecord) -> bool:
    """Tell whether a record is of a member that may show its newest certificate."""
    record = read_record(MemberRecord, _MEMBERS, stored.value)
    return record is not None and member.certificates[-1] in record.certificates


def _set(known: dict[str, _R], name: str, value: _R | None, came: str, went: str) -> None:
    """Keep a record under its name, and log what is new or gone."""
    if value is not None:
        if name not in known:
            _LOG.info(came, node=name)
        known[name] = value
    elif known.pop(name, None) is not None:
        _LOG.warning(went, node=name)


def _log_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOG.error("internal error", exc_info=error)
