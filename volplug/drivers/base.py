"""The contract of a driver.

Rules for every call:

* Report facts and raise typed errors of `volplug.errors`; an unknown failure is a `BackendError`, raised
  `from` its cause, never swallowed. No retries of calls that may have had an effect.
* Tags (name, cluster, filesystem, spec) are part of the create call itself.
* Only volumes of the configured cluster are ever seen, found or changed.
* A name carried by two volumes raises `DuplicateVolumes` naming both ids; `list` returns both all the same.
* A volume is known by its id; the rest of a description passed in may be older than what the backend has.
* The cause of an error names the volume's id, and the holder where somebody else has the volume.
* A device is identified by its serial, never by "the new one", a link, its size or a path alone.
* The core holds a lock per volume: two calls that change one volume never overlap on one host.
  Other hosts do what they like.
* A cancelled call that changes something ends only when nothing of it goes on any more, because the lock ends
  with it. Whatever it has done by then, the same call can be made again.

`volplug.testing.conformance` tests all of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from volplug.errors import InvalidSize
from volplug.models import FilesystemTag, HolderState, MountSource, Volume, VolumeSpec
from volplug.sizes import GIB, MIB, format_size
from volplug.steps import OnStep, unannounced


class Scope(StrEnum):
    """Docker's word for who sees a volume: this host, or every host with the same backend."""

    LOCAL = "local"
    GLOBAL = "global"


_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
_NO_PROFILES: Mapping[str, Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """Constants of a driver, known without asking its backend.

    Attributes:
        driver: Name in the registry.
        scope: LOCAL if volumes never leave this host.
        remote: Whether look-ups cross a network, so that answers are cached for some seconds.
        allocation_unit_bytes: Sizes are rounded up to a multiple of this.
        default_size_bytes: Used when neither option, profile nor setting says more.
        minimum_size_bytes: Smallest volume.
        maximum_size_bytes: Largest volume.
        default_linger_s: How long a volume stays attached after its last unmount.
        options: Driver-specific option name to one line of help; names in lower case with `-`.
        option_aliases: Other names that users know for an option: folded (lower case, without `-` and `_`)
            to the option's own.
        profiles: Built-in profiles: name to option defaults.
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
    """What a driver is built from.

    Attributes:
        name: Name of the backend.
        node_id: How this host calls itself; drivers of clouds ask the cloud instead.
        cluster: Name shared by the hosts that share volumes; may be empty for drivers of one host.
        state_dir: This host's state directory.
        settings: The rest of the backend's table in the configuration file; each driver checks its own.
        on_step: To be told of every change that the driver makes to this host between two answers.
    """

    name: str
    node_id: str
    cluster: str
    state_dir: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    on_step: OnStep = unannounced


@dataclass(frozen=True, slots=True)
class Holder:
    """What is known of the node that has a volume attached.

    Attributes:
        state: DEAD only with proof.
        evidence: For people: how that is known.
        remedy: For operators: what makes it proven dead, if that can be done.
        is_answered: Whether the backend answered at all; nothing is concluded, and nobody fenced, without an
            answer.
    """

    state: HolderState
    evidence: str
    remedy: str = ""
    is_answered: bool = True


class Driver(Protocol):
    """One configured backend."""

    @property
    def info(self) -> DriverInfo:
        """Return the driver's constants."""
        ...

    @property
    def node_id(self) -> str:
        """Return how the backend knows this host."""
        ...

    def check_spec(self, spec: VolumeSpec) -> None:
        """Check the driver-specific options of a spec before anything is done. Does not block.

        Raises:
            InvalidOption: If a value is wrong or values contradict each other.
        """
        ...

    async def create(self, spec: VolumeSpec) -> Volume:
        """Create a blank volume, or finish the creation that an earlier call of the same spec began.

        Returns once the volume is available, tagged `fs=pending`.

        Raises:
            VolumeExists: If a volume of this name exists that is not INCOMPLETE, or of another spec.
            InvalidSize: If the size is outside of the limits in `info`.
            LimitExceeded: If there is no room for it.
            DuplicateVolumes: If several carry the name already.
        """
        ...

    async def delete(self, volume: Volume) -> None:
        """Delete the volume, or finish a deletion; returns once it is gone.

        Raises:
            VolumeNotFound: If it is gone already.
            VolumeInUse: If it is attached anywhere. The last line of defence: the core has looked before.
        """
        ...

    async def get(self, name: str) -> Volume | None:
        """Return the volume of this name in whatever state, or None if the backend is sure there is none.

        Never waits. Backends may answer with stale reads, and this is what a driver makes of them: that a
        volume exists is exact as far as this process created or deleted it. Changes of other hosts, holders
        and filesystem tags may be late; the core asks again, and never lets a tag go backwards.

        Raises:
            BackendUnavailable: If the backend cannot say.
            DuplicateVolumes: If several carry the name.
        """
        ...

    async def list(self) -> Sequence[Volume]:
        """Return all volumes of the cluster, in any order.

        A volume that comes or goes meanwhile may be in it or not; every other one is. A driver that returns
        the very tuple of the call before says that nothing has changed, which spares the core some work.

        Raises:
            BackendUnavailable: If the backend cannot say.
        """
        ...

    async def attach(self, volume: Volume) -> MountSource:
        """Attach to this host and wait for the device; attached here already returns the same source.

        The source has the size that the kernel reports. If the volume has another, that is for the core to
        judge: it refuses the Mount, while release and detach work.

        Raises:
            VolumeNotFound: If it does not exist.
            VolumeInUse: If another host holds it; `holder` is its node id.
            DeviceNotFound: If the device does not come.
            DeviceMismatch: If it cannot be told which device is the volume's.
        """
        ...

    async def locate(self, volume: Volume) -> MountSource | None:
        """Return the device by which this host has the volume now; asks this host, not the backend.

        Its size is reported as with `attach`, whatever the description that is passed in says.

        Raises:
            DeviceMismatch: If it cannot be told which device is the volume's, as when two have its serial.
        """
        ...

    async def detach(self, volume: Volume) -> None:
        """Detach from this host and return once the device has gone and the backend says so, too.

        Called only after the core's release test has passed.

        A volume that this host does not have is left as it is, whoever has it.

        Raises:
            VolumeNotFound: If the volume does not exist.
            VolumeInUse: If the device turns out to be used. Nothing was changed then.
        """
        ...

    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        """Record the filesystem tag with the volume, durably, and return its description with the tag.

        Raises:
            VolumeNotFound: If the volume does not exist.
        """
        ...

    async def holder_state(self, node_id: str) -> Holder:
        """Tell whether a node is alive, with the evidence; never guesses DEAD."""
        ...

    async def health(self) -> None:
        """Return if the backend can be used.

        Raises:
            VolplugError: Why it cannot.
        """
        ...


@runtime_checkable
class Settles(Protocol):
    """A capability of drivers whose backend takes its time: waiting for a transition that others began.

    Of drivers without it the core asks again and again.
    """

    async def wait_settled(self, volume: Volume, timeout_s: float) -> Volume | None:
        """Wait until the volume is in no transition, and return it as it is then.

        Returns:
            The volume, which may be stale; None if the wait timed out or the volume does not show any more.
        """
        ...


@runtime_checkable
class TakesOver(Protocol):
    """A capability of drivers whose backend can prove that a node is dead: taking its volumes from it."""

    async def take_from(self, volume: Volume, node_id: str) -> None:
        """Detach the volume from a dead node and return once it is available.

        Asks for the proof itself, right before the change: what was proven a moment ago may be over. One look
        proves nothing where it may be a stale read; two, some seconds apart, have to agree.
        A volume that the node does not have any more is left as it is.

        Raises:
            VolumeInUse: If the node is not proven dead; the cause gives the evidence.
            VolumeNotFound: If the volume does not exist.
        """
        ...

    async def fence(self, node_id: str) -> None:
        """Stop a node through its cloud and return once it is proven dead.

        Raises:
            BackendDenied: If the credentials do not allow it.
            OperationTimeout: If the proof does not come.
        """
        ...
