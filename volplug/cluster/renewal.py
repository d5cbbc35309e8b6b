"""Renews this node's certificate before it expires."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from volplug.api import cluster_schemas as schemas
from volplug.cluster import authority
from volplug.cluster.directory import NodeDirectory
from volplug.cluster.etcd_directory import EtcdDirectory
from volplug.cluster.identity import IdentityFiles, NodeIdentity
from volplug.cluster.peers import PeerCaller, trusting
from volplug.cluster.signer import Signer
from volplug.errors import NotSigner, VolplugError
from volplug.host.threads import Pool

_LOG = structlog.get_logger(__name__)
_RETRY_S: Final = 3600.0
_LONGEST_SLEEP_S: Final = 24 * 3600.0  # clocks are corrected
_BEFORE: Final = timedelta(days=30)


class Renewal:
    """Has this node's identity, and renews it; where the members are listed, it only warns.

    Args:
        identity: As it was read.
        directory: The members; one of them signs.
        files: Where the identity is kept.
        pool: Its threads make keys and write files.

    Attributes:
        identity: With the newest certificate.
        ends_at: When that expires; None until it has been read.
    """

    def __init__(
        self, identity: NodeIdentity, directory: NodeDirectory, files: IdentityFiles, pool: Pool
    ) -> None:
        self.identity = identity
        self.ends_at: datetime | None = None
        self._directory = directory
        self._files = files
        self._pool = pool
        self._is_agreed = isinstance(directory, EtcdDirectory)

    async def run(self) -> None:
        """Renew the certificate when it is time, for ever."""
        while True:
            try:
                pause_s = await self._renewed_if_due()
            except VolplugError as error:
                _LOG.error("certificate not renewed, will be retried", error=str(error))
                pause_s = _RETRY_S
            await asyncio.sleep(pause_s)

    async def _renewed_if_due(self) -> float:
        """Return how long to wait then."""
        self.ends_at = await self._pool.blocking(authority.ends_at, self.identity.node)
        due_s = (self.ends_at - _BEFORE - datetime.now(UTC)).total_seconds()
        if due_s > 0:
            return min(due_s, _LONGEST_SLEEP_S)
        if self._is_agreed:
            await self.renew_now()
            return _RETRY_S  # a certificate does not outlive the authority, and may end as soon
        _LOG.warning("certificate of this node expires", at=self.ends_at.isoformat())
        return _LONGEST_SLEEP_S

    async def renew_now(self) -> None:
        """Get a new certificate and use it.

        Raises:
            VolplugError: If no signer gives one.
        """
        identity = self.identity
        name = identity.record.name
        key, request = await self._pool.blocking(authority.make_request, name)
        if identity.authority_key:
            signer = Signer(identity, self._directory, None, self._pool)
            given = await signer.renew(name, identity.fingerprint, request, is_signer=True)
        else:
            given = await self._asked_signers(request)
        issued = given.certificate
        await self._pool.blocking(authority.check_issued, identity.authority, key, issued, name)
        await self._pool.to_the_end(self._files.renew, key + issued)
        self.identity = await self._pool.blocking(self._files.read)

    async def _asked_signers(self, request: str) -> schemas.CertificateBody:
        if isinstance(self._directory, EtcdDirectory):
            await self._directory.refresh()  # just started, it may not know the signers yet
        context = await self._pool.blocking(self._own_context)
        failure: VolplugError = NotSigner("no node with the key of the authority is known", "Check etcd")
        for node in self._directory.nodes():
            if node.is_signer:
                try:
                    signer = PeerCaller(node.address, context, authority.SIGNER)
                    asked = schemas.RenewalRequest(request=request)
                    given, _ = await signer.call(
                        schemas.CertificateBody, "POST", "/v1/cluster/renewal", asked
                    )
                except VolplugError as error:
                    failure = error
                else:
                    return given
        raise failure

    def _own_context(self) -> ssl.SSLContext:
        context = trusting(self.identity.authority)
        context.load_cert_chain(self._files.node, password="")
        return context
