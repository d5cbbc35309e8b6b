"""The contract of a driver.

Rules for every call:

* Report facts and raise typed errors of `volplug.errors`; an unknown failure is a `BackendError`, raised
  `from` its cause, never swallowed. No retries of calls that may have had an effect.
* Tags (name, cluster, filesystem, spec) are part of the create call itself.
* Only volumes of the configured cluster are ever listed, found or changed.
* A name of two volumes raises `DuplicateVolumes` with both ids; `list` returns both.
* A volume's `details` are what a call returns anyway; no call is made for them. Their keys are none of
  docs/inspect.md that the core shows.
* A volume is identified by its id; the rest of a description passed in may be older than the backend's.
* The cause of an error names the volume's id, and the holder if another node has it attached.
* A device is identified by its serial, never by "the new one", a link, its size or a path alone.
* A mount source without a device is a filesystem by name, such as a dataset. It is attached, located and
  detached like a device: what is attached stays so, whatever becomes of its mounts and of this process.
* The core holds a lock per volume: two calls that change one volume never overlap on one host. Other hosts
  are not serialised.
* A cancelled call that changes something ends only when all of its work has ended, because the lock ends with
  it. However far it came, the same call can be made again.

`volplug.testing.conformance` tests all of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

from volplug.drivers.copies import SendsCopies
from volplug.errors import ConfigurationError, InvalidSize, VolplugError, VolumeNotFound
from volplug.findings import Finding, Level
from volplug.metrics import OnTry, uncounted
from volplug.models import FilesystemTag, HolderState, MountSource, Volume, VolumeSpec
from volplug.sizes import GIB, MIB, format_size
from volplug.steps import OnStep, unannounced


class Scope(StrEnum):
    """Docker's scope of volumes: this host, or every host with the same backend."""

    LOCAL = "local"
    GLOBAL = "global"


_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
_NO_PROFILES: Mapping[str, Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """Constants of a driver, known without a call to its backend.

    Attributes:
        driver: Name in the registry.
        scope: LOCAL if volumes never leave this host.
        remote: Whether look-ups cross a network: their results are cached for some seconds, and a record that
            contradicts this host is read again. `get` of any other driver is exact: a volume that it shows as
            available has no device here.
        allocation_unit_bytes: Sizes are rounded up to a multiple of this.
        default_size_bytes: Used when no option, profile or setting gives a size.
        minimum_size_bytes: Smallest volume.
        maximum_size_bytes: Largest volume.
        default_linger_s: How long a volume stays attached after its last unmount.
        options: Driver-specific option name to one line of help; names in lower case with `-`.
        option_aliases: Other names of an option, folded (lower case, without `-` and `_`), to its own.
        profiles: Built-in profiles: name to option defaults.
        own_filesystem: The type of the filesystem that each volume is from its creation, one of
            `volplug.host.filesystems.NAMED`; empty if volumes are devices, on which a filesystem is made.
    """

    driver: str
    scope: Scope
    remote: bool
    allocation_unit_bytes: int = MIB
    default_size_bytes: int = GIB
    minimum_size_bytes: int = MIB
    maximum_size_bytes: int = 16 * 1024 * GIB
    default_linger_s: float = 0.0
    options: Mapping[str, str] = field(default_factory=lambda: _NO_OPTIONS)
    option_aliases: Mapping[str, str] = field(default_factory=lambda: _NO_OPTIONS)
    profiles: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: _NO_PROFILES)
    own_filesystem: str = ""

    def check_size(self, size_bytes: int) -> None:
        """Check a size against the limits; `create` calls it as the last line of defence.

        Raises:
            InvalidSize: If the size is outside of them.
        """
        least, most = self.minimum_size_bytes, self.maximum_size_bytes
        if not least <= size_bytes <= most:
            raise InvalidSize(
                f"size {format_size(size_bytes)} is not between {format_size(least)} and {format_size(most)}"
            )


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """The arguments of a driver's factory.

    Attributes:
        name: Name of the backend.
        node_id: The configured name of this host; drivers of clouds use the cloud's id instead.
        cluster: Name shared by the hosts that share volumes; may be empty for drivers of one host.
        state_dir: This host's state directory.
        settings: The rest of the backend's table in the configuration file; each driver checks its own.
        on_step: To be called after every change that the driver makes to this host within a call.
        file: The configuration file that has the table; empty without one.
        on_try: To be called after every try of a call of the backend, in the event loop.
    """

    name: str
    node_id: str
    cluster: str
    state_dir: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    on_step: OnStep = unannounced
    file: str = ""
    on_try: OnTry = uncounted

    def place(self, *location: object) -> str:
        """Return where a key of the table is, for errors."""
        key = ".".join(str(part) for part in ("backends", self.name, *location))
        return f"{key} in {self.file}" if self.file else key


@dataclass(frozen=True, slots=True)
class Holder:
    """The state of the node that has a volume attached.

    Attributes:
        state: DEAD only with proof.
        evidence: For error messages: how that is known.
        host_name: What people call the node, for error messages; empty if the backend does not know it.
        remedy: For operators: how to make it proven dead, if that is possible.
        is_answered: Whether the backend answered; without an answer nothing is concluded and no node fenced.
    """

    state: HolderState
    evidence: str
    remedy: str = ""
    is_answered: bool = True
    host_name: str = ""


@dataclass(frozen=True, slots=True)
class BackendLimit:
    """One limit of a backend and how much of it is used.

    Attributes:
        name: What the backend calls it.
        used: By all that counts there, other clusters and programs included. It exceeds a maximum that was
            lowered meanwhile.
        maximum: None if it is unlimited.
        unit: `bytes`, or what is counted, such as `volumes`.
    """

    name: str
    used: int
    maximum: int | None
    unit: str


class Driver(Protocol):
    """One configured backend."""

    @property
    def info(self) -> DriverInfo:
        """Return the driver's constants."""
        ...

    @property
    def node_id(self) -> str:
        """Return the backend's id of this host."""
        ...

    def check_spec(self, spec: VolumeSpec) -> None:
        """Check the driver-specific options of a spec before anything is done. Does not block.

        Raises:
            InvalidOption: If a value is wrong or values contradict each other.
        """
        ...

    async def create(self, spec: VolumeSpec) -> Volume:
        """Create a blank volume, or finish an interrupted creation of the same spec.

        Returns once the volume is available, tagged `fs=pending`. A volume that is a filesystem from its
        creation is tagged as one whose format has only its end left, `formatting:TYPE:UUID`: its first Mount
        makes the data directory and finishes it.

        Raises:
            VolumeExists: If a volume of this name exists that is not INCOMPLETE, or has another spec.
            InvalidSize: If the size is outside of the limits in `info`.
            LimitExceeded: If a quota or the free space would be exceeded.
            DuplicateVolumes: If several volumes have the name already.
        """
        ...

    async def delete(self, volume: Volume) -> None:
        """Delete the volume, or finish a deletion; returns once it is gone.

        Raises:
            VolumeNotFound: If it is gone already.
            VolumeInUse: If it is attached anywhere. The last line of defence: the core has checked before.
        """
        ...

    async def get(self, name: str) -> Volume | None:
        """Return the volume of this name in any state, or None if the backend is sure there is none.

        Never waits. Where a backend serves stale reads, the driver makes existence exact for the volumes that
        this process created or deleted. Changes of other hosts, holders and filesystem tags may be stale; the
        core reads again, and never lets a tag go backwards.

        Raises:
            BackendUnavailable: If the backend does not answer.
            DuplicateVolumes: If several volumes have the name.
        """
        ...

    async def list(self) -> Sequence[Volume]:
        """Return all volumes of the cluster, in any order.

        A volume that is created or deleted meanwhile may be in it or not; every other one is. A driver may
        return the same tuple object as before if nothing has changed, which saves the core some work.

        Raises:
            BackendUnavailable: If the backend does not answer.
        """
        ...

    async def attach(self, volume: Volume) -> MountSource:
        """Attach to this host and wait for the device; attached here already returns the same source.

        The source has the size that the kernel reports. A size other than the volume's is no error here: the
        core decides whether that can be mounted, while release and detach work.

        Raises:
            VolumeNotFound: If it does not exist.
            VolumeInUse: If it is attached to another host; `holder` is its node id.
            DeviceNotFound: If the device does not appear.
            DeviceMismatch: If the volume's device cannot be identified.
        """
        ...

    def locate(self, volume: Volume) -> MountSource | None:
        """Return the mount source of the volume if it is attached here; asks this host, not the backend.

        It is no coroutine: it blocks, and the core calls it in threads, in several at once.

        Its size is reported as by `attach`, whatever size the volume passed in has.

        Raises:
            DeviceMismatch: If the volume's device cannot be identified, as when two have its serial.
        """
        ...

    async def detach(self, volume: Volume) -> None:
        """Detach from this host and return once the device has gone and the backend reports it, too.

        Called only after the core's release test has passed. A volume that is attached to another node, or to
        none, is not changed.

        Raises:
            VolumeNotFound: If the volume does not exist.
            VolumeInUse: If the device turns out to be in use. Nothing was changed then.
        """
        ...

    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        """Write the volume's filesystem tag, durably, and return its description with the tag.

        Raises:
            VolumeNotFound: If the volume does not exist.
        """
        ...

    async def holder_state(self, node_id: str) -> Holder:
        """Return whether a node is alive, with the evidence; DEAD only with proof."""
        ...

    async def health(self) -> None:
        """Check that the backend can be used, with one cheap call and without any change.

        Raises:
            VolplugError: If it cannot; the cause tells why.
        """
        ...


@runtime_checkable
class HasRequirements(Protocol):
    """A capability of drivers that need more than their table: a cluster, say, or a package."""

    def unmet_requirements(self) -> Sequence[ConfigurationError]:
        """Return what is not configured or not installed, without a call to the backend."""
        ...


@runtime_checkable
class Settles(Protocol):
    """A capability of drivers of slow backends: waiting for transitions, whichever party began them.

    For drivers without it the core polls.
    """

    async def wait_settled(self, volume: Volume, timeout_s: float) -> Volume | None:
        """Wait until the volume is in no transition, and return it.

        Returns:
            The volume, which may be stale; None if the wait timed out or the volume is missing.
        """
        ...


@runtime_checkable
class ExplainsAbsence(Protocol):
    """A capability of drivers that can tell why a user may miss a volume that the backend does not have."""

    async def absence(self, name: str) -> VolumeNotFound:
        """Return the error for a Mount of a volume that `get` did not find; asks nothing remote."""
        ...


@runtime_checkable
class ReportsLimits(Protocol):
    """A capability of drivers whose backend tells its limits, such as quotas or the space of a disk."""

    async def limits(self) -> Sequence[BackendLimit]:
        """Return the backend's limits as they are now, with one cheap call and without any change.

        Raises:
            VolplugError: If they cannot be read; the backend may be usable all the same.
        """
        ...


@runtime_checkable
class Diagnoses(Protocol):
    """A capability of drivers that can check more than their health, for `volplug doctor`."""

    async def diagnose(self) -> Sequence[Finding]:
        """Check what can keep the backend from working, and what is left over in it; changes nothing.

        Credentials and each permission, services, clocks, volumes in a transition for too long, duplicates.
        What cannot be checked is a finding, too. Raises nothing of its own.
        """
        ...


@runtime_checkable
class TakesOver(Protocol):
    """A capability of drivers whose backend can prove a node dead: detaching volumes from it."""

    async def take_from(self, volume: Volume, node_id: str) -> None:
        """Detach the volume from a dead node and return once it is available.

        Obtains the proof itself, immediately before the change: an earlier one may be outdated. One read
        proves nothing if it may be stale; two, some seconds apart, have to agree. A volume that is not
        attached to the node any more is not changed.

        Raises:
            VolumeInUse: If the node is not proven dead; the cause has the evidence.
            VolumeNotFound: If the volume does not exist.
        """
        ...

    async def fence(self, node_id: str) -> None:
        """Stop a node through its cloud and return once it is proven dead.

        Raises:
            BackendDenied: If the credentials do not allow it.
            OperationTimeout: If it is not proven dead in time.
        """
        ...


CAPABILITIES: Final[tuple[type, ...]] = (
    HasRequirements,
    Settles,
    ExplainsAbsence,
    ReportsLimits,
    Diagnoses,
    TakesOver,
    SendsCopies,
)
"""What a driver may implement besides `Driver`."""


def failed_check(check: str, subject: str, error: VolplugError, level: Level = Level.RED) -> Finding:
    """Return the finding of a check that an error ended; see `Finding` for the arguments."""
    remedy = error.remedy or "See the log of volplug, and run volplug doctor again"
    return Finding(check, level, subject, " ".join(error.cause.split()), remedy)
