"""A handle for a cloud in another process."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, Final

from tests.ec2sim.calls import Call
from tests.ec2sim.control import CONTROL_PATH
from tests.ec2sim.facts import Instance, NewVolume, VolumeFact
from tests.ec2sim.plan import plan_from_json, plan_to_json

_TIMEOUT_S: Final = 120.0


class RemoteEc2Cloud:
    """Holds a cloud that `python -m tests.ec2sim` serves. Calls block.

    Raises:
        ValueError: If the cloud says that a call cannot be done.
    """

    def __init__(self, endpoint: str) -> None:
        self._url = endpoint.rstrip("/") + CONTROL_PATH
        described = self._ask("describe")
        self.endpoint: str = endpoint.rstrip("/")
        self.imds_endpoint: str = described["imds_endpoint"]
        self.region: str = described["region"]
        self.calls = RemoteCalls(self._ask)

    def imds_endpoint_of(self, instance_id: str) -> str:
        """Return where the metadata service is for one instance."""
        return f"{self.imds_endpoint}/as/{instance_id}"

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
        added = self._ask(
            "add_instance",
            instance_id=instance_id,
            zone=zone,
            kind=kind,
            address=address,
            attachment_limit=attachment_limit,
        )
        return Instance(**added)

    def instances(self) -> list[Instance]:
        """Return all instances."""
        return [Instance(**each) for each in self._ask("instances")]

    def set_instance_state(self, instance_id: str, state: str) -> None:
        """Change an instance's state."""
        self._ask("set_instance_state", instance_id=instance_id, state=state)

    def remove_instance(self, instance_id: str) -> None:
        """Forget an instance."""
        self._ask("remove_instance", instance_id=instance_id)

    def volumes(self) -> list[VolumeFact]:
        """Return all volumes as they truly are."""
        return [VolumeFact.from_json(each) for each in self._ask("volumes")]

    def volume(self, volume_id: str) -> VolumeFact | None:
        """Return a volume as it truly is, or None."""
        return next((each for each in self.volumes() if each.volume_id == volume_id), None)

    def add_volumes(self, volumes: Iterable[NewVolume]) -> list[str]:
        """Put many volumes past the API and return their ids."""
        return list(self._ask("add_volumes", volumes=[asdict(each) for each in volumes]))

    def set_plan(self, **changes: Any) -> None:  # noqa: ANN401 - one type for each field
        """Change fields of the plan."""
        self._ask("set_plan", **plan_to_json(changes))

    def read_plan(self) -> dict[str, Any]:
        """Return the plan's fields."""
        return plan_from_json(self._ask("read_plan"))

    def end_faults(self) -> None:
        """Let everything go well from now on."""
        self._ask("end_faults")

    def settle(self, timeout_s: float = 30.0) -> None:
        """Wait until no state changes by itself any more."""
        self._ask("settle", timeout_s=timeout_s)

    def _ask(self, call: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON
        body = json.dumps({"call": call, "with": arguments}).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})  # noqa: S310 - http only
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - likewise
                return json.load(answer)["result"]
        except urllib.error.HTTPError as exc:
            with exc:
                text = exc.read().decode("utf-8", "replace")
            raise ValueError(f"the cloud refuses {call}: {text}") from exc


class RemoteCalls:
    """Which calls were made."""

    def __init__(self, ask: Callable[[str], Any]) -> None:
        self._ask = ask

    def log(self) -> list[Call]:
        """Return all calls in the order in which they ended."""
        return [Call(**each) for each in self._ask("calls")]

    def counts(self, caller: str | None = None) -> Counter[str]:
        """Return how often each action was called, by anybody or by one instance."""
        return Counter(each.action for each in self.log() if caller is None or each.caller == caller)

    def reset(self) -> None:
        """Forget all calls."""
        self._ask("reset_calls")
