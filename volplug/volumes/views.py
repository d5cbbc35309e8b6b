"""What is shown of a volume. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from volplug.descriptions import unusable
from volplug.drivers.base import BackendLimit, DriverInfo
from volplug.errors import DeviceMismatch, DuplicateVolumes, FilesystemMismatch, VolplugError
from volplug.models import Detail, FilesystemTag, Volume, VolumeSpec, VolumeState
from volplug.volumes.capacity import describe_difference
from volplug.volumes.ledger import Desired, Entry, Failure
from volplug.volumes.usage_sampler import UsageSample

# Failures that stay until an operator repairs something.
_STAYING: Final = frozenset({DeviceMismatch.code, FilesystemMismatch.code})


@dataclass(frozen=True, slots=True)
class VolumeView:
    """One volume as this host knows it.

    Attributes:
        name: Docker's name.
        volume_id: The backend's id of it.
        backend: Name of the backend that has it.
        driver: Name of the backend's driver.
        mountpoint: Path on this host; empty while unmounted.
        created_at: With time zone, or None.
        size_bytes: As the backend reports it.
        state: As the backend reports it.
        filesystem: Its filesystem tag.
        profile: The profile that it was created with.
        mount_count: Mounts that were answered and not unmounted.
        sample: Usage of the mounted filesystem; None if there is none.
        size_difference: What is smaller than what of volume, device and filesystem; empty if nothing is.
        holder: Node that has it attached, or None.
        detail: Why the state is `error`; empty otherwise.
        desired: What is still to be reached on this host.
        holders_unknown: Whether it was found mounted with no memory of the containers that use it.
        failure: Of the last operation, if it failed.
        details: What else its driver shows.
    """

    name: str
    volume_id: str
    backend: str
    driver: str
    mountpoint: str
    created_at: datetime | None
    size_bytes: int
    state: VolumeState
    filesystem: FilesystemTag
    profile: str
    mount_count: int = 0
    sample: UsageSample | None = None
    size_difference: str = ""
    holder: str | None = None
    detail: str = ""
    desired: Desired = Desired.NONE
    holders_unknown: bool = False
    failure: Failure | None = None
    details: tuple[tuple[str, Detail], ...] = ()


@dataclass(frozen=True, slots=True)
class BackendView:
    """One backend, as it is now.

    Attributes:
        name: Of the backend.
        info: What is constant of its driver: its name, scope, and limits of sizes.
        node_id: This host's id at the backend; empty if the backend has not told it.
        is_default: Whether volumes are created here without `backend`.
        problem: Why it cannot be used; None if it can.
        volume_count: How many volumes it has; None if it cannot be listed.
        limits: Its limits and how much of them is used; None if they cannot be read.
    """

    name: str
    info: DriverInfo
    node_id: str
    is_default: bool
    problem: VolplugError | None
    volume_count: int | None
    limits: Sequence[BackendLimit] | None


@dataclass(frozen=True, slots=True)
class NodeView:
    """This node.

    Attributes:
        name: As configured.
        version: Of volplug.
        node_ids: This host's id at each backend, by the backends' names.
        has_engine: Whether a Docker engine has connected.
        volumes_in_use: How many volumes are mounted for containers.
        volumes_attached: How many volumes this host has, or may have, attached; those in use included.
        operations_running: How many operations run.
    """

    name: str
    version: str
    node_ids: Mapping[str, str]
    has_engine: bool
    volumes_in_use: int
    volumes_attached: int
    operations_running: int


def view_volume(
    volume: Volume, entry: Entry | None, mountpoint: str, driver: str, sample: UsageSample | None
) -> VolumeView:
    """Put together what is known of a volume.

    Args:
        volume: As its backend last described it.
        entry: What this host remembers, if anything.
        mountpoint: Where it is mounted, or would be.
        driver: Name of the backend's driver.
        sample: The usage of the mounted filesystem.
    """
    entry = entry or Entry(volume.name, volume.backend)
    sample = sample if entry.is_claimed else None
    state, detail = _state(volume, entry)
    return VolumeView(
        name=volume.name,
        volume_id=volume.volume_id,
        backend=volume.backend,
        driver=driver,
        mountpoint=mountpoint if entry.is_claimed else "",
        created_at=volume.created_at,
        size_bytes=volume.size_bytes,
        state=state,
        filesystem=volume.filesystem,
        profile=volume.spec.profile,
        mount_count=entry.mount_count,
        sample=sample,
        size_difference=_size_difference(volume, sample),
        holder=volume.holder,
        detail=detail,
        desired=entry.desired,
        holders_unknown=entry.holders_unknown,
        failure=entry.failure,
        details=volume.details,
    )


def view_duplicates(error: DuplicateVolumes, name: str, backend: str, driver: str) -> VolumeView:
    """Return what is shown of a name that several volumes have: that it exists, and cannot be used."""
    several = Volume(name, ", ".join(error.volume_ids), backend, 0, VolumeState.ERROR, VolumeSpec(name, 0))
    return view_volume(unusable(several, error.cause), None, "", driver, None)


def _state(volume: Volume, entry: Entry) -> tuple[VolumeState, str]:
    """Return the state, and why it is `error`, also where only this host knows that it is one."""
    failure = entry.failure
    is_ours = volume.state is VolumeState.AVAILABLE or entry.is_busy
    if failure is not None and failure.code in _STAYING and is_ours:
        return VolumeState.ERROR, volume.detail or failure.cause
    return volume.state, volume.detail


def _size_difference(volume: Volume, sample: UsageSample | None) -> str:
    if sample is None or not sample.usage.device_bytes:
        return ""
    usage = sample.usage
    return describe_difference(volume.size_bytes, usage.device_bytes, usage.filesystem_bytes)
