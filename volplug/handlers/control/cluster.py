"""What is done for the routes of the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel

from volplug.api import cluster_schemas as schemas
from volplug.errors import NotMember, TooManyWaiting
from volplug.handlers.control.call import ApiAnswer, ReadCall

if TYPE_CHECKING:
    from volplug.cluster.directory import ClusterNode
    from volplug.cluster.membership import Membership
    from volplug.cluster.signer import JoinLine

ClusterRouteHandler = Callable[[ReadCall], Awaitable[ApiAnswer]]
GetMembership = Callable[[], Awaitable["Membership"]]
_SIGNING: Final = 8  # at once: clients, some of them unknown, make this node ask etcd, and sign


class ClusterRoutes:
    """The handlers of the routes of the cluster.

    Args:
        membership: Returns this host's membership, built when it is first needed; None if there is none.
    """

    def __init__(self, membership: GetMembership | None) -> None:
        self._membership_of = membership
        self._signing = asyncio.Semaphore(_SIGNING)

    def handlers(self) -> Mapping[str, ClusterRouteHandler]:
        """Return the handler of each route by its operation id."""
        return {
            "getCluster": self._get,
            "initCluster": self._init,
            "leaveCluster": self._leave,
            "joinCluster": self._join,
            "createJoinToken": self._create_token,
            "issueCertificate": self._issue,
            "removeNode": self._remove,
            "getAuthority": self._get_authority,
            "admitNode": self._admit,
            "renewCertificate": self._renew,
        }

    async def _membership(self) -> Membership:
        if self._membership_of is None:
            raise NotMember("this volplug has no part in clusters")
        return await self._membership_of()

    async def _get(self, call: ReadCall) -> ApiAnswer:
        return ApiAnswer(_shown(await self._membership()))

    async def _init(self, call: ReadCall) -> ApiAnswer:
        membership = await self._membership()
        return ApiAnswer(_line_of(membership, await membership.init()))

    async def _leave(self, call: ReadCall) -> ApiAnswer:
        await (await self._membership()).leave()
        return ApiAnswer(None, HTTPStatus.NO_CONTENT)

    async def _join(self, call: ReadCall) -> ApiAnswer:
        sent, membership = call.body(schemas.JoinRequest), await self._membership()
        await membership.join(sent.address, sent.token, sent.authority.removeprefix("sha256:"))
        return ApiAnswer(_shown(membership))

    async def _create_token(self, call: ReadCall) -> ApiAnswer:
        membership = await self._membership()
        return ApiAnswer(_line_of(membership, await membership.signer.add_token()))

    async def _issue(self, call: ReadCall) -> ApiAnswer:
        issued = await (await self._membership()).signer.issue(call.body(schemas.CertificateRequest).name)
        return ApiAnswer(
            schemas.IssuedBody(name=issued.name, fingerprint=issued.fingerprint, files=dict(issued.files))
        )

    async def _remove(self, call: ReadCall) -> ApiAnswer:
        await (await self._membership()).remove(call.parameters["name"])
        return ApiAnswer(None, HTTPStatus.NO_CONTENT)

    # Of other nodes

    async def _get_authority(self, call: ReadCall) -> ApiAnswer:
        return ApiAnswer(schemas.AuthorityBody(certificate=(await self._membership()).identity.authority))

    async def _admit(self, call: ReadCall) -> ApiAnswer:
        signer = (await self._membership()).signer
        return await self._signed(signer.admit(call.body(schemas.AdmissionRequest)))

    async def _renew(self, call: ReadCall) -> ApiAnswer:
        signer, request = (await self._membership()).signer, call.body(schemas.RenewalRequest).request
        return await self._signed(signer.renew(call.client.name, call.client.fingerprint, request))

    async def _signed(self, signing: Coroutine[None, None, BaseModel]) -> ApiAnswer:
        if self._signing.locked():
            signing.close()
            raise TooManyWaiting("many nodes ask for certificates", "Try again")
        async with self._signing:
            return ApiAnswer(await signing)


def _line_of(membership: Membership, line: JoinLine | None) -> schemas.JoinLineBody:
    return schemas.JoinLineBody(
        token=line.token if line else None,
        address=line.address if line else None,
        authority=membership.authority_fingerprint,
        ends_at=line.ends_at if line else None,
    )


def _shown(membership: Membership) -> schemas.ClusterBody:
    record, directory = membership.identity.record, membership.directory
    return schemas.ClusterBody(
        name=record.cluster,
        node=record.name,
        authority=membership.authority_fingerprint,
        certificate_ends_at=membership.renewal.ends_at,
        has_etcd=record.etcd is not None,
        is_current=directory.is_current,
        nodes=[_shown_node(node) for node in directory.nodes()],
    )


def _shown_node(node: ClusterNode) -> schemas.ClusterNodeBody:
    return schemas.ClusterNodeBody(
        name=node.name,
        address=node.address,
        is_live=node.is_live,
        since=node.since,
        version=node.version or None,
        node_ids=dict(node.node_ids),
        fingerprints=sorted(node.fingerprints),
        is_signer=node.is_signer,
    )
