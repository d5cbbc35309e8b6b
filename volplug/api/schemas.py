"""The bodies and queries of the control API.

What clients send is strict: unknown keys and other types are refused. What they read may gain keys, so they
have to ignore those that they do not know. Every key is always there; null is what is not known or does not
apply.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from volplug.models import Detail, HolderState, TakeoverPolicy, VolumeState
from volplug.names import NAME_PATTERN

# The words of the core's enumerations, which this module does not import; a test compares them.
OperationWord = Literal["running", "succeeded", "failed", "cancelled"]
OriginWord = Literal["docker", "api", "volplug"]
EventWord = Literal["change", "operation", "error", "retry"]
DesiredWord = Literal["none", "present", "mounted", "detached", "absent"]
OutcomeWord = Literal["nothing to do", "take over", "stop the node, then take over", "refuse"]

VolumeName = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$")]
MAX_PAGE = 1000
_Limit = Annotated[int, Field(ge=1, le=MAX_PAGE, description="At most so many")]
_Cursor = Annotated[str, Field(max_length=300, description="`next_cursor` of the page before")]
_Text = Annotated[str, Field(max_length=300)]


class ShownBody(BaseModel):
    """What is answered."""

    model_config = ConfigDict(frozen=True)


class SentBody(BaseModel):
    """What clients send."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Query(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ErrorBody(ShownBody):
    """Every error."""

    code: str = Field(description="One of docs/errors.md")
    cause: str
    remedy: str = Field(description="What to do; may be empty")
    volume: str | None
    retryable: bool = Field(description="Whether the same request may succeed later without any other change")
    request_id: str = Field(description="As in the header X-Request-Id and in the log")


class FailureBody(ShownBody):
    """Why an operation failed."""

    operation: str = Field(description="Its kind")
    code: str = Field(description="One of docs/errors.md")
    cause: str
    remedy: str
    retryable: bool
    at: datetime


class UsageBody(ShownBody):
    """Space in a mounted filesystem."""

    used_bytes: int
    free_bytes: int
    used_inodes: int
    inodes: int = Field(description="0 where the filesystem has no fixed number of them")
    device: str
    age_s: float = Field(description="How old the numbers are")


class VolumeBody(ShownBody):
    """A volume, as this host knows it; docs/inspect.md describes the same facts."""

    name: str
    id: str = Field(description="The backend's id of it")
    backend: str
    driver: str
    state: VolumeState
    size_bytes: int = Field(description="0 where it is not known")
    filesystem: str
    profile: str
    created_at: datetime | None
    mountpoint: str | None = Field(description="Path on this host; null while it is not mounted here")
    mount_count: int
    holder: str | None = Field(description="The node that has it attached")
    desired: DesiredWord = Field(description="What is still to be reached on this host")
    holders_unknown: bool
    detail: str | None = Field(description="Why the state is `error`")
    size_difference: str | None
    usage: UsageBody | None
    failure: FailureBody | None = Field(description="Of the last operation, if it failed")
    details: dict[str, Detail] = Field(description="What the backend's driver adds")


class VolumePage(ShownBody):
    """Some volumes, by name."""

    volumes: list[VolumeBody]
    next_cursor: str | None = Field(description="For the next page; null on the last one")


class VolumeQuery(_Query):
    """Which volumes are listed."""

    backend: _Text | None = None
    name: _Text | None = Field(None, description="Any part of the name")
    state: VolumeState | None = None
    limit: _Limit = 100
    cursor: _Cursor | None = None


class VolumeCreation(SentBody):
    """A volume to create."""

    name: VolumeName
    backend: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")] | None = Field(
        None, description="Null for the default one"
    )
    size_bytes: Annotated[int, Field(ge=1, le=2**60)] | None = Field(
        None, description="At least; null for the profile's, else the default"
    )
    options: dict[str, str] = Field(
        default_factory=dict, description="All others, as of `docker volume create --opt`"
    )


class TakeoverRequest(SentBody):
    """Whether to take the volume over, or only to tell what would be done."""

    dry_run: bool = False


class PlanBody(ShownBody):
    """What a takeover would do, and why."""

    volume: str
    volume_id: str
    holder: str | None = Field(description="The other node that has it")
    state: HolderState = Field(description="Whether that node is alive")
    evidence: str
    policy: TakeoverPolicy
    outcome: OutcomeWord
    remedy: str = Field(description="What an operator can do where it would be refused")


class OperationBody(ShownBody):
    """One piece of work on one volume."""

    id: str
    kind: str
    volume: str
    origin: OriginWord
    state: OperationWord
    phase: str = Field(description="The step that it is at, or ended at")
    started_at: datetime
    ended_at: datetime | None
    failure: FailureBody | None
    request_id: str | None = Field(description="Of the request of this API that started it")


class OperationPage(ShownBody):
    """Some operations, the newest first."""

    operations: list[OperationBody]
    next_cursor: str | None = Field(description="For the next page; null on the last one")


class OperationQuery(_Query):
    """Which operations are listed."""

    volume: _Text | None = None
    state: OperationWord | None = None
    limit: _Limit = 100
    cursor: _Cursor | None = None


class WaitQuery(_Query):
    """How long to wait for the end of an operation."""

    wait_s: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 0


class EventBody(ShownBody):
    """Something that happened to a volume."""

    id: str
    at: datetime
    kind: EventWord
    text: str
    volume: str | None
    backend: str | None
    operation: str | None = Field(description="Id of the operation that it is part of")
    fields: dict[str, str] = Field(description="What the log's line shows besides")


class EventPage(ShownBody):
    """Some events, the oldest first."""

    events: list[EventBody]
    cursor: str = Field(description="For `after` of the next request")
    is_lost: bool = Field(description="Whether events before these are no longer known: list anew")


class EventQuery(_Query):
    """Which events are shown."""

    after: _Cursor | None = Field(None, description="The `cursor` of a page, or the id of an event")
    volume: _Text | None = None
    backend: _Text | None = None
    operation: _Text | None = None
    kind: EventWord | None = None
    limit: _Limit = 100


class SizesBody(ShownBody):
    """Which sizes a driver makes."""

    allocation_unit_bytes: int
    default_size_bytes: int
    minimum_size_bytes: int
    maximum_size_bytes: int


class LimitBody(ShownBody):
    """A limit of a backend and how much of it is used."""

    name: str = Field(description="What the backend calls it")
    used: int = Field(description="Also by others than volplug")
    maximum: int | None = Field(description="Null if there is none")
    unit: str = Field(description="`bytes`, or what is counted")


class ProblemBody(ShownBody):
    """Why a backend cannot be used."""

    code: str = Field(description="One of docs/errors.md")
    cause: str
    remedy: str
    retryable: bool


class BackendBody(ShownBody):
    """A backend, as it is now."""

    name: str
    driver: str
    scope: Literal["local", "global"]
    is_default: bool
    node_id: str | None = Field(description="This host's id there")
    problem: ProblemBody | None = Field(description="Why it cannot be used; null if it can")
    volume_count: int | None = Field(description="Null if it cannot be listed")
    sizes: SizesBody
    limits: list[LimitBody] | None = Field(
        description="Null if they cannot be read, empty if the driver knows none"
    )
    options: dict[str, str] = Field(description="The driver's own options, and what each is or may be")


class BackendList(ShownBody):
    """All backends, the default one first."""

    backends: list[BackendBody]


class NodeBody(ShownBody):
    """A node."""

    id: str = Field(description="Its name, VOLPLUG_NODE_ID")
    version: str = Field(description="Of volplug")
    node_ids: dict[str, str] = Field(description="Its id at each backend")
    has_engine: bool = Field(description="Whether a Docker engine has connected")
    volumes_in_use: int
    volumes_attached: int
    operations_running: int


class NodeList(ShownBody):
    """All nodes that are known here: this one."""

    nodes: list[NodeBody]


class VersionBody(ShownBody):
    """Which volplug this is."""

    version: str
    api: Literal["v1"] = "v1"


class HealthBody(ShownBody):
    """That this process answers."""

    status: Literal["ok"]


class ReadinessBody(ShownBody):
    """Whether this node can do its work, and what keeps it from that."""

    ready: bool
    problems: list[str]
