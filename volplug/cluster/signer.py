"""What a node with the authority's key does for others: join tokens, admission, certificates, renewal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from volplug.api import cluster_schemas as schemas
from volplug.api.access import new_token
from volplug.cluster import authority
from volplug.cluster.directory import NodeDirectory, is_address
from volplug.cluster.etcd_directory import EtcdDirectory
from volplug.cluster.identity import NodeIdentity
from volplug.cluster.records import AllowedCertificate, EtcdAccess, IdentityRecord, MemberRecord
from volplug.errors import Conflict, InvalidRequest, NeedsEtcd, NotSigner
from volplug.host.threads import Pool
from volplug.names import is_node_name

_LOG = structlog.get_logger(__name__)
_TOKEN_LASTS: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class JoinLine:
    """What a new node needs: a token for one node, where to go with it, and whom to trust there."""

    token: str
    address: str
    authority: str
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Issued:
    """What people carry to a node: the files of its directory STATE_DIR/cluster."""

    name: str
    fingerprint: str
    files: Mapping[str, str]


class Signer:
    """Signs for others, if this node has the authority's key.

    Args:
        identity: Of this node.
        directory: The members.
        access: What others need for etcd; None if the members are listed.
        pool: Its threads make keys.
    """

    def __init__(
        self, identity: NodeIdentity, directory: NodeDirectory, access: EtcdAccess | None, pool: Pool
    ) -> None:
        self._own = identity
        self._directory = directory
        self._access = access
        self._pool = pool

    def _checked(self) -> NodeIdentity:
        if not self._own.authority_key:
            signers = [node.name for node in self._directory.nodes() if node.is_signer]
            where = f"Run it on {', '.join(signers)}" if signers else "Run it where the cluster began"
            raise NotSigner("this node does not have the key of the authority", where)
        return self._own

    async def add_token(self) -> JoinLine:
        """Return what one more node needs to join.

        Raises:
            VolplugError: If this node does not sign, or the cluster has no etcd.
        """
        identity = self._checked()
        directory = agreed(
            self._directory, "volplug cluster certificate NODE makes a certificate; list the node"
        )
        token = new_token()
        ends_at = await directory.add_token(token, _TOKEN_LASTS, identity.authority_key)
        fingerprint = authority.fingerprint_of(identity.authority)
        return JoinLine(token, identity.record.address, fingerprint, ends_at)

    async def admit(self, asked: schemas.AdmissionRequest) -> schemas.AdmissionBody:
        """Make another node a member, which has a token for that.

        Raises:
            VolplugError: If it may not be one.
        """
        identity = self._checked()
        directory = agreed(self._directory, "List the node in the configuration file")
        record = identity.record
        revision = await directory.check_token(asked.token, identity.authority_key)  # strangers ask, too
        if not is_node_name(asked.name) or not is_address(asked.address):
            raise InvalidRequest("the name or the address of the node is not allowed", "Set VOLPLUG_NODE_ID")
        if asked.cluster and asked.cluster != record.cluster:
            raise Conflict(
                f"the node's VOLPLUG_CLUSTER is {asked.cluster!r}, and this is cluster {record.cluster!r}"
            )
        issued = await self._issued(identity, asked.request, asked.name)
        member = MemberRecord(address=asked.address, certificates=(allowed(issued),))
        await directory.admit(asked.token, revision, asked.name, member)
        _LOG.info("node admitted to the cluster", node=asked.name, address=asked.address)
        etcd = self._access
        assert etcd is not None  # noqa: S101  # a directory on etcd has it
        return schemas.AdmissionBody(
            certificate=issued,
            cluster=record.cluster,
            etcd=schemas.EtcdBody(
                endpoints=list(etcd.endpoints),
                user=etcd.user,
                password=etcd.password,
                authority=etcd.authority,
            ),
        )

    async def issue(self, name: str) -> Issued:
        """Make key and certificate of a node, for a cluster whose nodes are listed.

        Raises:
            VolplugError: If this node does not sign, or the cluster has etcd.
        """
        identity = self._checked()
        if self._access is not None:
            raise Conflict(
                "nodes of this cluster get their certificates when they join", "volplug cluster token"
            )
        if not is_node_name(name):
            raise InvalidRequest(f"the name {name!r} is not allowed", "Use a-z 0-9 _ - and dots between")
        listed = self._directory.node(name)
        if listed is None:
            raise InvalidRequest(f"node {name} is not listed", "Add [nodes.NAME] with its address first")
        key, request = await self._pool.blocking(authority.make_request, name)
        lasts = authority.LISTED_CERTIFICATE_LASTS
        issued = await self._issued(
            identity, request, name, lasts, is_signer=listed.name == identity.record.name
        )
        record = IdentityRecord(name=name, address=listed.address, cluster=identity.record.cluster)
        _LOG.info("certificate issued", node=name)
        made = NodeIdentity(record, identity.authority, key + issued)
        return Issued(name, authority.fingerprint_of(issued), made.files)

    async def renew(
        self, name: str, shown: str, request: str, *, is_signer: bool = False
    ) -> schemas.CertificateBody:
        """Return a new certificate for a member, which has shown one with this fingerprint.

        A signer renews its own here. Who else is one is not believed: every member can write that to etcd.

        Raises:
            VolplugError: If it cannot be given.
        """
        identity = self._checked()
        directory = agreed(self._directory, "volplug cluster certificate NODE makes one")
        issued = await self._issued(identity, request, name, is_signer=is_signer)
        await directory.allow(name, shown, allowed(issued))
        _LOG.info("certificate renewed", node=name)
        return schemas.CertificateBody(certificate=issued)

    async def _issued(
        self,
        identity: NodeIdentity,
        request: str,
        name: str,
        lasts: timedelta = authority.NODE_CERTIFICATE_LASTS,
        *,
        is_signer: bool = False,
    ) -> str:
        def signed() -> str:
            return authority.sign(
                identity.authority, identity.authority_key, request, name, lasts=lasts, is_signer=is_signer
            )

        return await self._pool.blocking(signed)


def allowed(certificate: str) -> AllowedCertificate:
    """Return a certificate as etcd is to have it."""
    return AllowedCertificate(
        fingerprint=authority.fingerprint_of(certificate), ends_at=authority.ends_at(certificate)
    )


def agreed(directory: NodeDirectory, instead: str) -> EtcdDirectory:
    """Return the directory on which nodes agree.

    Raises:
        NeedsEtcd: If the cluster has none; `instead` is what to do.
    """
    if not isinstance(directory, EtcdDirectory):
        raise NeedsEtcd("nodes have to agree on it, and this cluster has no etcd", instead)
    return directory
