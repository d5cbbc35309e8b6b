"""What tests hold of a cloud, be it in this process or in another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from tests.ec2sim.calls import Call
from tests.ec2sim.facts import Instance, NewVolume, VolumeFact


class CallLog(Protocol):
    """Which calls were made, see `tests.ec2sim.calls.Calls`."""

    def log(self) -> list[Call]:
        """Return all calls in the order in which they ended."""

    def counts(self, caller: str | None = None) -> Counter[str]:
        """Return how often each action was called, by anybody or by one instance."""

    def reset(self) -> None:
        """Forget all calls."""


class CloudHandle(Protocol):
    """A served EC2, see `tests.ec2sim.cloud.Ec2Cloud`."""

    @property
    def endpoint(self) -> str:
        """Return where the API is."""

    @property
    def imds_endpoint(self) -> str:
        """Return where the metadata service is, for callers with an IP address of their own."""

    @property
    def calls(self) -> CallLog:
        """Return which calls were made."""

    def imds_endpoint_of(self, instance_id: str) -> str:
        """Return where the metadata service is for one instance."""

    def add_instance(
        self,
        instance_id: str,
        *,
        zone: str = "",
        kind: str = "nitro",
        address: str = "",
        attachment_limit: int = 27,
    ) -> Instance:
        """Start an instance."""

    def instances(self) -> list[Instance]:
        """Return all instances."""

    def set_instance_state(self, instance_id: str, state: str) -> None:
        """Change an instance's state."""

    def remove_instance(self, instance_id: str) -> None:
        """Forget an instance."""

    def volumes(self) -> list[VolumeFact]:
        """Return all volumes as they truly are."""

    def volume(self, volume_id: str) -> VolumeFact | None:
        """Return a volume as it truly is, or None."""

    def add_volumes(self, volumes: Iterable[NewVolume]) -> Sequence[str]:
        """Put many volumes past the API and return their ids."""

    def set_plan(self, **changes: Any) -> None:  # noqa: ANN401 - one type for each field
        """Change fields of the plan."""

    def end_faults(self) -> None:
        """Let everything go well from now on."""

    def settle(self, timeout_s: float = 30.0) -> None:
        """Wait until no state changes by itself any more."""
