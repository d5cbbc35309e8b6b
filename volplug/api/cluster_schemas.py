"""The bodies of the control API's routes of the cluster; strict where nodes read what others answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from volplug.api.schemas import SentBody, ShownBody

_NodeWord = Annotated[str, Field(min_length=1, max_length=100)]
_Fingerprint = Annotated[str, StringConstraints(pattern="^(sha256:)?[0-9a-f]{64}$")]
_Token = Annotated[str, Field(min_length=1, max_length=200)]
_Pem = Annotated[str, Field(min_length=1, max_length=8192)]


class ClusterNodeBody(ShownBody):
    """A member of the cluster, as the node that is asked knows it."""

    name: str
    address: str = Field(description="HOST:PORT at which it serves other nodes")
    is_live: bool | None = Field(description="Null if that is not known")
    since: datetime | None = Field(description="When it came, if it is live")
    version: str | None = Field(description="Of its volplug")
    node_ids: dict[str, str] = Field(description="Its id at each backend")
    fingerprints: list[str] = Field(description="SHA-256 of the certificates that it may show; empty for any")
    is_signer: bool = Field(description="Whether it has the key of the authority")


class ClusterBody(ShownBody):
    """The cluster of this node."""

    name: str
    node: str = Field(description="This one")
    authority: str = Field(description="SHA-256 of the authority's certificate")
    certificate_ends_at: datetime | None = Field(description="Of this node's certificate")
    has_etcd: bool = Field(description="Else the configuration file lists the members")
    is_current: bool = Field(description="Whether etcd answers; if not, the members are those read last")
    nodes: list[ClusterNodeBody]


class JoinLineBody(ShownBody):
    """What one more node needs to join; null where the configuration file lists the members."""

    token: str | None
    address: str | None = Field(description="Of the node that admits it")
    authority: str = Field(description="SHA-256 of the authority's certificate")
    ends_at: datetime | None


class JoinRequest(SentBody):
    """Where to join."""

    address: Annotated[str, Field(min_length=3, max_length=260)] = Field(description="HOST:PORT of a signer")
    token: _Token
    authority: _Fingerprint = Field(description="SHA-256 of the authority's certificate")


class CertificateRequest(SentBody):
    """Whose certificate is to be made."""

    name: _NodeWord


class IssuedBody(ShownBody):
    """The files of a node: its directory STATE_DIR/cluster."""

    name: str
    fingerprint: str
    files: dict[str, str] = Field(description="Their contents, by name; node.pem has the key")


class AuthorityBody(ShownBody):
    """The authority of the cluster."""

    certificate: _Pem


class AdmissionRequest(SentBody):
    """A node that has a join token."""

    name: _NodeWord
    address: Annotated[str, Field(max_length=260)] = Field(
        description="HOST:PORT at which it will serve others"
    )
    token: _Token
    request: _Pem = Field(description="For its certificate, as PEM")
    cluster: Annotated[str, Field(max_length=128)] = Field(default="", description="Its VOLPLUG_CLUSTER")


class EtcdBody(ShownBody):
    """Where etcd is, and how members log in."""

    endpoints: Annotated[list[Annotated[str, Field(max_length=300)]], Field(min_length=1, max_length=16)]
    user: Annotated[str, Field(max_length=200)]
    password: Annotated[str, Field(max_length=1000, repr=False)]
    authority: Annotated[str, Field(max_length=65536)]


class AdmissionBody(ShownBody):
    """What makes a node a member."""

    certificate: _Pem
    cluster: Annotated[str, Field(min_length=1, max_length=128)]
    etcd: EtcdBody


class RenewalRequest(SentBody):
    """A member that needs a new certificate."""

    request: _Pem = Field(description="For its certificate, as PEM")


class CertificateBody(ShownBody):
    """A certificate."""

    certificate: _Pem
