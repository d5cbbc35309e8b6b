"""What the core has, as bodies of the control API. Pure."""

from __future__ import annotations

import hashlib

from volplug.api import schemas
from volplug.drivers.base import BackendLimit
from volplug.errors import VolplugError
from volplug.volumes.events import Event
from volplug.volumes.ledger import Failure
from volplug.volumes.operations import Operation
from volplug.volumes.takeover import TakeoverPlan
from volplug.volumes.usage_sampler import UsageSample
from volplug.volumes.views import BackendView, NodeView, VolumeView

_NOT_IN_ETAG = {"usage", "size_difference"}  # they change without a change of the volume


def volume_body(view: VolumeView) -> schemas.VolumeBody:
    """Return a volume."""
    return schemas.VolumeBody(
        name=view.name,
        id=view.volume_id,
        backend=view.backend,
        driver=view.driver,
        state=view.state,
        size_bytes=view.size_bytes,
        filesystem=view.filesystem.to_text(),
        profile=view.profile,
        created_at=view.created_at,
        mountpoint=view.mountpoint or None,
        mount_count=view.mount_count,
        holder=view.holder,
        desired=view.desired.value,
        holders_unknown=view.holders_unknown,
        detail=view.detail or None,
        size_difference=view.size_difference or None,
        usage=_usage_body(view.sample) if view.sample else None,
        failure=_failure_body(view.failure) if view.failure else None,
        details=dict(view.details),
    )


def etag_of(body: schemas.VolumeBody) -> str:
    """Return the tag of what is shown of a volume, in its quotes."""
    shown = body.model_dump_json(exclude=_NOT_IN_ETAG)
    return f'"{hashlib.sha256(shown.encode()).hexdigest()[:32]}"'


def _usage_body(sample: UsageSample) -> schemas.UsageBody:
    usage = sample.usage
    return schemas.UsageBody(
        used_bytes=usage.used_bytes,
        free_bytes=usage.free_bytes,
        used_inodes=usage.used_inodes,
        inodes=usage.inodes,
        device=usage.device,
        age_s=round(sample.age_s, 1),
    )


def _failure_body(failure: Failure) -> schemas.FailureBody:
    return schemas.FailureBody(
        operation=failure.operation,
        code=failure.code,
        cause=failure.cause,
        remedy=failure.remedy,
        retryable=failure.retryable,
        at=failure.at,
    )


def operation_body(operation: Operation) -> schemas.OperationBody:
    """Return an operation."""
    return schemas.OperationBody(
        id=operation.operation_id,
        kind=operation.kind,
        volume=operation.volume,
        origin=operation.origin.value,
        state=operation.state.value,
        phase=operation.phase,
        started_at=operation.started_at,
        ended_at=operation.ended_at,
        failure=_failure_body(operation.failure) if operation.failure else None,
        request_id=operation.request_id or None,
    )


def event_body(event: Event) -> schemas.EventBody:
    """Return an event."""
    return schemas.EventBody(
        id=event.event_id,
        at=event.at,
        kind=event.kind.value,
        text=event.text,
        volume=event.volume or None,
        backend=event.backend or None,
        operation=event.operation_id or None,
        fields=dict(event.fields),
    )


def plan_body(plan: TakeoverPlan) -> schemas.PlanBody:
    """Return the dry run of a takeover."""
    return schemas.PlanBody(
        volume=plan.volume,
        volume_id=plan.volume_id,
        holder=plan.holder or None,
        state=plan.state,
        evidence=plan.evidence,
        policy=plan.policy,
        outcome=plan.outcome.value,
        remedy=plan.remedy,
    )


def backend_body(view: BackendView) -> schemas.BackendBody:
    """Return a backend."""
    info = view.info
    return schemas.BackendBody(
        name=view.name,
        driver=info.driver,
        scope=info.scope.value,
        is_default=view.is_default,
        node_id=view.node_id or None,
        problem=_problem_body(view.problem) if view.problem else None,
        volume_count=view.volume_count,
        sizes=schemas.SizesBody(
            allocation_unit_bytes=info.allocation_unit_bytes,
            default_size_bytes=info.default_size_bytes,
            minimum_size_bytes=info.minimum_size_bytes,
            maximum_size_bytes=info.maximum_size_bytes,
        ),
        limits=None if view.limits is None else [_limit_body(limit) for limit in view.limits],
        options=dict(info.options),
    )


def _limit_body(limit: BackendLimit) -> schemas.LimitBody:
    return schemas.LimitBody(name=limit.name, used=limit.used, maximum=limit.maximum, unit=limit.unit)


def _problem_body(problem: VolplugError) -> schemas.ProblemBody:
    return schemas.ProblemBody(
        code=problem.code, cause=problem.cause, remedy=problem.remedy, retryable=problem.retryable
    )


def node_body(view: NodeView) -> schemas.NodeBody:
    """Return a node."""
    return schemas.NodeBody(
        id=view.name,
        version=view.version,
        node_ids=dict(view.node_ids),
        has_engine=view.has_engine,
        volumes_in_use=view.volumes_in_use,
        volumes_attached=view.volumes_attached,
        operations_running=view.operations_running,
    )
