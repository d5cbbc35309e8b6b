"""The routes of the control API, as its server, its document and its clients see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel

from volplug.api import cluster_schemas, schemas
from volplug.api.access import Role

EVENT_STREAM: Final = "text/event-stream"
JSON: Final = "application/json"
PROMETHEUS: Final = "text/plain"

_Answers = Mapping[int, type[BaseModel] | None]
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path.

    Attributes:
        operation_id: Its name in the document.
        method: Of HTTP.
        path: With parameters in braces, each one segment.
        summary: What it does, in one line.
        answers: Status of success to the body, None for none.
        role: What a client on TCP needs.
        is_for_nodes: Whether nodes of the cluster may call it as well.
        body: What is sent; None for nothing.
        query: Which parameters the query may have.
        headers: Headers that it reads, and what each is for.
        errors: Statuses of errors that are its own; others may occur on every route.
        streams: Whether it answers with an event stream where the client accepts one.
        text: The media type of its answer, if that is a text and no JSON.
    """

    operation_id: str
    method: str
    path: str
    summary: str
    answers: _Answers
    role: Role = Role.READ
    is_for_nodes: bool = False
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    errors: tuple[int, ...] = ()
    streams: bool = False
    text: str = ""

    def permits(self, role: Role) -> bool:
        """Tell whether a client of this role may call it."""
        return role.permits(self.role) or (self.is_for_nodes and role is Role.NODE)


_IF_MATCH: Final = {"If-Match": "ETag of the volume as the client knows it; another one is answered with 412"}
_IF_NONE_MATCH: Final = {"If-None-Match": "ETag that the client has; the same one is answered with 304"}
_KEY: Final = {
    "Idempotency-Key": "1 to 200 visible characters; a repeated request with its key starts nothing twice"
}
_LAST_EVENT: Final = {"Last-Event-ID": "Where an event stream goes on"}
_BOTH_SELECTORS: Final = (("", "{name}"), ("InBackend", "{backend}/{name}"))


def _routes_of_volume(suffix: str, selector: str) -> tuple[Route, ...]:
    """Return the routes of one volume by its name, or by its backend and name."""
    path = f"/v1/volumes/{selector}"
    started = {202: schemas.OperationBody}
    return (
        Route(
            operation_id=f"getVolume{suffix}",
            method="GET",
            path=path,
            summary="Show a volume",
            answers={200: schemas.VolumeBody, 304: None},
            headers=_IF_NONE_MATCH,
            errors=(404,),
        ),
        Route(
            operation_id=f"deleteVolume{suffix}",
            method="DELETE",
            path=path,
            summary="Delete a volume that is not in use",
            answers=started,
            role=Role.ADMIN,
            headers=_IF_MATCH | _KEY,
            errors=(404, 412, 422),
        ),
        Route(
            operation_id=f"takeOverVolume{suffix}",
            method="POST",
            path=f"{path}/takeover",
            summary="Take a volume from a node that is proven dead, or tell what that would do",
            answers={200: schemas.PlanBody, **started},
            role=Role.ADMIN,
            body=schemas.TakeoverRequest,
            headers=_IF_MATCH | _KEY,
            errors=(404, 412, 422),
        ),
        Route(
            operation_id=f"releaseVolume{suffix}",
            method="POST",
            path=f"{path}/release",
            summary="Detach a volume now that stays attached after its last unmount",
            answers=started,
            role=Role.ADMIN,
            headers=_IF_MATCH | _KEY,
            errors=(404, 412, 422),
        ),
    )


CLUSTER_ROUTES: Final[tuple[Route, ...]] = (
    Route(
        operation_id="getCluster",
        method="GET",
        path="/v1/cluster",
        summary="Show the cluster of this node, and its members",
        answers={200: cluster_schemas.ClusterBody},
        errors=(409,),
    ),
    Route(
        operation_id="initCluster",
        method="POST",
        path="/v1/cluster",
        summary="Begin a cluster with this node; again is success",
        answers={200: cluster_schemas.JoinLineBody},
        role=Role.ADMIN,
        errors=(409, 503),
    ),
    Route(
        operation_id="leaveCluster",
        method="DELETE",
        path="/v1/cluster",
        summary="End the membership of this node",
        answers={204: None},
        role=Role.ADMIN,
        errors=(409, 503),
    ),
    Route(
        operation_id="joinCluster",
        method="POST",
        path="/v1/cluster/join",
        summary="Make this node a member of another node's cluster",
        answers={200: cluster_schemas.ClusterBody},
        role=Role.ADMIN,
        body=cluster_schemas.JoinRequest,
        errors=(403, 409, 502, 503),
    ),
    Route(
        operation_id="createJoinToken",
        method="POST",
        path="/v1/cluster/tokens",
        summary="Make a token with which one node may join within 15 minutes",
        answers={200: cluster_schemas.JoinLineBody},
        role=Role.ADMIN,
        errors=(409, 501, 503),
    ),
    Route(
        operation_id="issueCertificate",
        method="POST",
        path="/v1/cluster/certificates",
        summary="Make key and certificate of a node that the configuration file lists",
        answers={200: cluster_schemas.IssuedBody},
        role=Role.ADMIN,
        body=cluster_schemas.CertificateRequest,
        errors=(409,),
    ),
    Route(
        operation_id="removeNode",
        method="DELETE",
        path="/v1/cluster/nodes/{name}",
        summary="End the membership of another node",
        answers={204: None},
        role=Role.ADMIN,
        errors=(404, 409, 501, 503),
    ),
    Route(
        operation_id="getAuthority",
        method="GET",
        path="/v1/cluster/authority",
        summary="Show the certificate of the cluster's authority",
        answers={200: cluster_schemas.AuthorityBody},
        role=Role.ANY,
        errors=(409,),
    ),
    Route(
        operation_id="admitNode",
        method="POST",
        path="/v1/cluster/nodes",
        summary="Make a node with a join token a member",
        answers={200: cluster_schemas.AdmissionBody},
        role=Role.ANY,
        body=cluster_schemas.AdmissionRequest,
        errors=(403, 409, 501, 503),
    ),
    Route(
        operation_id="renewCertificate",
        method="POST",
        path="/v1/cluster/renewal",
        summary="Sign a new certificate of the node that asks",
        answers={200: cluster_schemas.CertificateBody},
        role=Role.NODE,
        body=cluster_schemas.RenewalRequest,
        errors=(404, 409, 501, 503),
    ),
)

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        operation_id="getVersion",
        method="GET",
        path="/v1/version",
        summary="Show the version",
        is_for_nodes=True,
        answers={200: schemas.VersionBody},
    ),
    Route(
        operation_id="getDocument",
        method="GET",
        path="/v1/openapi.json",
        summary="Show this document",
        answers={200: None},
    ),
    Route(
        operation_id="listVolumes",
        method="GET",
        path="/v1/volumes",
        summary="List volumes",
        answers={200: schemas.VolumePage},
        query=schemas.VolumeQuery,
    ),
    Route(
        operation_id="createVolume",
        method="POST",
        path="/v1/volumes",
        summary="Create a volume; one that exists and is the same is success",
        answers={202: schemas.OperationBody},
        role=Role.ADMIN,
        body=schemas.VolumeCreation,
        headers=_KEY,
        errors=(422,),
    ),
    *(route for suffix, selector in _BOTH_SELECTORS for route in _routes_of_volume(suffix, selector)),
    Route(
        operation_id="listBackends",
        method="GET",
        path="/v1/backends",
        summary="List backends, each asked for its health and limits",
        answers={200: schemas.BackendList},
    ),
    Route(
        operation_id="getBackend",
        method="GET",
        path="/v1/backends/{name}",
        summary="Show a backend",
        answers={200: schemas.BackendBody},
        errors=(404,),
    ),
    Route(
        operation_id="listNodes",
        method="GET",
        path="/v1/nodes",
        summary="List nodes: this one",
        is_for_nodes=True,
        answers={200: schemas.NodeList},
    ),
    Route(
        operation_id="getNode",
        method="GET",
        path="/v1/nodes/{id}",
        summary="Show a node",
        is_for_nodes=True,
        answers={200: schemas.NodeBody},
        errors=(404,),
    ),
    Route(
        operation_id="listOperations",
        method="GET",
        path="/v1/operations",
        summary="List operations that run, and those that have ended lately",
        answers={200: schemas.OperationPage},
        query=schemas.OperationQuery,
    ),
    Route(
        operation_id="getOperation",
        method="GET",
        path="/v1/operations/{id}",
        summary="Show an operation, or wait for its end",
        answers={200: schemas.OperationBody},
        query=schemas.WaitQuery,
        errors=(404,),
    ),
    Route(
        operation_id="cancelOperation",
        method="POST",
        path="/v1/operations/{id}/cancel",
        summary="End an operation of this API before its next step",
        answers={202: schemas.OperationBody},
        role=Role.ADMIN,
        errors=(404, 409),
    ),
    Route(
        operation_id="listEvents",
        method="GET",
        path="/v1/events",
        summary="List events, or stream them to a client that accepts text/event-stream",
        answers={200: schemas.EventPage},
        query=schemas.EventQuery,
        headers=_LAST_EVENT,
        streams=True,
    ),
    Route(
        operation_id="getMetrics",
        method="GET",
        path="/metrics",
        summary="Show metrics for Prometheus",
        answers={200: None},
        text=PROMETHEUS,
    ),
    Route(
        operation_id="getHealth",
        method="GET",
        path="/healthz",
        summary="Tell that volplug answers",
        is_for_nodes=True,
        answers={200: schemas.HealthBody},
    ),
    Route(
        operation_id="getReadiness",
        method="GET",
        path="/readyz",
        summary="Tell whether volplug can do its work, and what keeps it from that",
        answers={200: schemas.ReadinessBody, 503: schemas.ReadinessBody},
    ),
    *CLUSTER_ROUTES,
)
