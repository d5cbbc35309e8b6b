"""This host's membership in a cluster: beginning one, joining, removing others, leaving.

What is changed for good is changed in one place at a time: the identity's directory gets its name once it is
complete, and etcd takes a token, a name and a certificate in one transaction. So a kill in between leaves
either a member or none, or a name without its node, which `volplug node rm` frees.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from volplug.api import cluster_schemas as schemas
from volplug.cluster import authority
from volplug.cluster.directory import ClusterNode, NodeDirectory, StaticNodes, split_address
from volplug.cluster.etcd import EtcdClient
from volplug.cluster.etcd_directory import EtcdDirectory
from volplug.cluster.identity import IdentityFiles, NodeIdentity
from volplug.cluster.peers import PeerCaller, trusting, unverified
from volplug.cluster.records import EtcdAccess, IdentityRecord, LifeRecord, MemberRecord
from volplug.cluster.renewal import Renewal
from volplug.cluster.signer import JoinLine, Signer, agreed, allowed
from volplug.errors import (
    AlreadyMember,
    Conflict,
    DirectoryDenied,
    InvalidRequest,
    NodeNotFound,
    NotMember,
    PeerInvalid,
)
from volplug.host.threads import Pool, run_to_completion
from volplug.masking import keep_secret
from volplug.names import is_node_name

_LOG = structlog.get_logger(__name__)

_ADMISSION_S: Final = 60.0  # with an etcd that is slow: the host may be a member though no answer comes
# Whether a node, by its name, may show a certificate, by its fingerprint.
MayShow = Callable[[str, str], bool]


class ClusterListener(Protocol):
    """Serves other nodes."""

    async def open_cluster(
        self, address: tuple[str, int], node: Path, authority: Path, may_show: MayShow
    ) -> None:
        """Listen, with the files of key and certificates."""
        ...

    async def close_cluster(self) -> None:
        """Stop listening."""
        ...


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What the settings say.

    Attributes:
        name: Of this node.
        cluster: Name of the cluster, empty if it has none.
        address: HOST:PORT at which this node serves others; empty if it is not set.
        etcd: Where etcd is; None if it is not set.
        nodes: The members that the configuration file lists.
        state_dir: Where the identity is kept.
    """

    name: str
    cluster: str
    address: str
    etcd: EtcdAccess | None
    nodes: Sequence[ClusterNode]
    state_dir: Path


class Membership:
    """This host's membership, or that it has none.

    Args:
        options: Of the settings.
        describe: Returns what this node tells of itself.
        listener: Serves other nodes.
        pool: Its threads make keys and write files.
    """

    def __init__(
        self,
        options: ClusterOptions,
        describe: Callable[[], LifeRecord],
        listener: ClusterListener,
        pool: Pool,
    ) -> None:
        self._options = options
        self._describe = describe
        self._listener = listener
        self._pool = pool
        self._files = IdentityFiles(options.state_dir)
        self._renewal: Renewal | None = None  # has the identity, which it renews
        self._directory: NodeDirectory | None = None
        self._etcd: EtcdDirectory | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()  # of the identity

    # Living

    async def start(self) -> None:
        """Take part, if this host is a member.

        Raises:
            VolplugError: If the identity cannot be used, or the address not be listened on.
        """
        await self._pool.blocking(self._files.clear)
        if self._renewal is None and await self._pool.blocking(lambda: self._files.exist):
            await self._begin(await self._pool.blocking(self._files.read))

    async def stop(self) -> None:
        """Take part no more until the next start."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        if self._etcd is not None:
            await self._etcd.stop()
        self._renewal = self._directory = self._etcd = self._renewing = None

    async def _begin(self, identity: NodeIdentity, *, is_first: bool = False) -> None:
        """Take part: all of it, or nothing if one part fails.

        Args:
            identity: Who this node is.
            is_first: Whether etcd may have to be told that this node begins the cluster.
        """
        record, etcd = identity.record, None
        if record.etcd is not None:
            etcd = self._directory_of(record.cluster, record.name, self._options.etcd or record.etcd)
        try:
            if etcd is not None and is_first:
                await etcd.found(await self._pool.blocking(_member, identity))
            await self._listener.open_cluster(
                split_address(record.address), self._files.node, self._files.authority, self.may_show
            )
        except BaseException:
            if etcd is not None:
                await etcd.stop()
            raise
        if etcd is not None:
            etcd.start()
        self._etcd, self._directory = etcd, etcd or StaticNodes(self._options.nodes)
        self._renewal = Renewal(identity, self._directory, self._files, self._pool)
        self._renewing = asyncio.create_task(self._renewal.run())

    def _directory_of(self, cluster: str, name: str, access: EtcdAccess) -> EtcdDirectory:
        keep_secret(access.password)
        return EtcdDirectory(EtcdClient(access, self._pool), cluster, name, self._describe)

    # Reading

    @property
    def identity(self) -> NodeIdentity:
        """Return who this node is.

        Raises:
            NotMember: If it is a member of no cluster.
        """
        return self.renewal.identity

    @property
    def renewal(self) -> Renewal:
        """Return what renews this node's certificate.

        Raises:
            NotMember: If this host is a member of no cluster.
        """
        if self._renewal is None:
            raise NotMember("this host is a member of no cluster", "volplug cluster init, or join")
        return self._renewal

    @property
    def directory(self) -> NodeDirectory:
        """Return the members.

        Raises:
            NotMember: If this host is a member of no cluster.
        """
        if self._directory is None:
            raise NotMember("this host is a member of no cluster", "volplug cluster init, or join")
        return self._directory

    @property
    def authority_fingerprint(self) -> str:
        """Return the SHA-256 of the authority's certificate."""
        return authority.fingerprint_of(self.identity.authority)

    @property
    def signer(self) -> Signer:
        """Return what this node does for others as a signer, which it may not be.

        Raises:
            NotMember: If it is a member of no cluster.
        """
        access = self._options.etcd or self.identity.record.etcd if self._etcd is not None else None
        return Signer(self.identity, self.directory, access, self._pool)

    def may_show(self, name: str, fingerprint: str) -> bool:
        """Tell whether a certificate, which the authority has signed for this name, is a member's."""
        node = self._directory.node(name) if self._directory is not None else None
        return node is not None and node.may_show(fingerprint)

    # Beginning and joining

    async def init(self) -> JoinLine | None:
        """Begin a cluster; again is success. Returns what the next node needs, None without etcd.

        Raises:
            VolplugError: If it cannot be begun.
        """
        return await run_to_completion(asyncio.ensure_future(self._init()))

    async def _init(self) -> JoinLine | None:
        async with self._changing:
            if self._renewal is None:
                exists = await self._pool.blocking(lambda: self._files.exist)
                identity = await (self._pool.blocking(self._files.read) if exists else self._new())
                _check_signs(identity)
                await self._begin(identity, is_first=True)
            elif self._etcd is not None:
                _check_signs(self.identity)
                await self._etcd.found(await self._pool.blocking(_member, self.identity))
        return await self.signer.add_token() if self._etcd is not None else None

    async def _new(self) -> NodeIdentity:
        """Make a new authority and this node's identity, and keep them."""
        options = self._options
        self._check_name()
        if not options.address:
            raise InvalidRequest(
                "it is not set at which address other nodes reach this one", "Set cluster_address"
            )
        cluster = options.cluster or "default"
        await self._pool.blocking(authority.check_installed)
        if options.etcd is not None:
            await self._asked(cluster, options.etcd)
        record = IdentityRecord(
            name=options.name, address=options.address, cluster=cluster, etcd=options.etcd
        )
        identity = await self._pool.blocking(_made, record)
        await self._pool.blocking(self._files.write, identity)
        return identity

    async def _asked(self, cluster: str, access: EtcdAccess) -> None:
        """Check that etcd answers and has no such cluster, before anything is made."""
        directory = self._directory_of(cluster, self._options.name, access)
        try:
            await directory.check_new()
        finally:
            await directory.stop()

    async def join(self, address: str, token: str, fingerprint: str) -> None:
        """Become a member of the cluster of another node.

        Raises:
            VolplugError: If that node refuses, or is not one of that cluster.
        """
        await run_to_completion(asyncio.ensure_future(self._join(address, token, fingerprint)))

    async def _join(self, address: str, token: str, fingerprint: str) -> None:
        async with self._changing:
            if await self._pool.blocking(lambda: self._files.exist):
                raise AlreadyMember("this host is a member of a cluster", "volplug cluster leave ends that")
            self._check_name()
            await self._pool.blocking(authority.check_installed)
            found, own_host = await PeerCaller(address, unverified()).call(
                schemas.AuthorityBody, "GET", "/v1/cluster/authority"
            )
            trusted = authority.only_certificate(found.certificate)
            if authority.fingerprint_of(trusted) != fingerprint:
                raise PeerInvalid(
                    f"{address} is of another cluster: its authority has another fingerprint",
                    "Compare the line that volplug cluster init or token has printed",
                )
            context = await self._pool.blocking(trusting, trusted)
            key, request = await self._pool.blocking(authority.make_request, self._options.name)
            own = self._options.address or f"{_bracketed(own_host)}:{address.rpartition(':')[2]}"
            asked = schemas.AdmissionRequest(
                name=self._options.name,
                address=own,
                token=token,
                request=request,
                cluster=self._options.cluster,
            )
            signer = PeerCaller(address, context, authority.SIGNER, _ADMISSION_S)
            given, _ = await signer.call(schemas.AdmissionBody, "POST", "/v1/cluster/nodes", asked)
            await self._pool.blocking(authority.check_issued, trusted, key, given.certificate, asked.name)
            record = IdentityRecord(
                name=asked.name,
                address=own,
                cluster=given.cluster,
                etcd=EtcdAccess(**given.etcd.model_dump()),
            )
            identity = NodeIdentity(record, trusted, key + given.certificate)
            await self._pool.blocking(self._files.write, identity)
            await self._begin(identity)

    def _check_name(self) -> None:
        if not is_node_name(self._options.name):
            raise InvalidRequest(
                f"the name {self._options.name!r} is not allowed in a cluster",
                "Set VOLPLUG_NODE_ID: a-z 0-9 _ - and dots between",
            )

    async def remove(self, name: str) -> None:
        """End the membership of another node, at once.

        Raises:
            VolplugError: If there is none, or it is this one.
        """
        identity = self.identity
        directory = agreed(
            self.directory, "Remove [nodes.NAME] from the configuration of all nodes and restart volplug"
        )
        if name == identity.record.name:
            raise Conflict("this is the node itself", "volplug cluster leave")
        await directory.remove(name)
        _LOG.warning("node removed from the cluster", node=name)

    async def leave(self) -> None:
        """End this host's membership.

        Raises:
            VolplugError: If etcd does not answer, or only this node can sign for others.
        """
        await run_to_completion(asyncio.ensure_future(self._leave()))

    async def _leave(self) -> None:
        async with self._changing:
            record = self.identity.record
            if self._etcd is not None and self.identity.authority_key:
                await self._etcd.refresh()
            others = [node for node in self.directory.nodes() if node.name != record.name]
            if self.identity.authority_key and others:
                raise Conflict(
                    "this node has the key of the authority, and the cluster has other nodes",
                    "Remove those first by volplug node rm",
                )
            if self._etcd is not None:
                with contextlib.suppress(NodeNotFound, DirectoryDenied):  # another node has removed it
                    await self._etcd.remove(record.name)
            await self._listener.close_cluster()
            await self.stop()
            await self._pool.blocking(self._files.forget)


def _check_signs(identity: NodeIdentity) -> None:
    if not identity.authority_key:
        raise AlreadyMember("this host is a member of a cluster", "volplug cluster leave ends that")


def _made(record: IdentityRecord) -> NodeIdentity:
    """Return the identity of the first node, with a new authority."""
    certificate, authority_key = authority.make_authority(record.cluster)
    key, request = authority.make_request(record.name)
    lasts = authority.NODE_CERTIFICATE_LASTS if record.etcd else authority.LISTED_CERTIFICATE_LASTS
    node = authority.sign(certificate, authority_key, request, record.name, lasts=lasts, is_signer=True)
    return NodeIdentity(record, certificate, key + node, authority_key)


def _member(identity: NodeIdentity) -> MemberRecord:
    """Return what etcd is to have of the first node."""
    return MemberRecord(
        address=identity.record.address, certificates=(allowed(identity.node),), is_signer=True
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
