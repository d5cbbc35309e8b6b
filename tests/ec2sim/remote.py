"""A cloud in another process: its handle, and what it is asked through.

POST /control with {"call": NAME, "with": [ARGUMENTS, KEYWORDS]} is answered with {"result": ...}, or with 400
and {"error": TEXT}. Values of this package are {"!": TYPE, ...FIELDS}.
"""

import functools
import json
import operator
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.ec2sim.facts import Attachment, Instance, NewVolume, VolumeFact
from tests.ec2sim.listening import HttpAnswer, HttpRequest
from tests.ec2sim.plan import FaultPlan, Slow
from tests.ec2sim.refusals import Refusal, Refused
from tests.ec2sim.service import Call, Calls

if TYPE_CHECKING:
    from tests.ec2sim.cloud import Ec2Cloud

CONTROL_PATH: Final = "/control"
_TIMEOUT_S: Final = 120.0
_VALUES: Final = (Attachment, Call, FaultPlan, Instance, NewVolume, Refusal, Slow, VolumeFact)
_KINDS: Final = {each.__name__: each for each in _VALUES}
_CALLS: Final = (
    *("endpoint", "imds_endpoint", "region", "plan", "calls.log", "calls.reset", "add_instance", "instances"),
    *("set_instance_state", "remove_instance", "volumes", "volume", "add_volumes", "set_plan", "end_faults"),
    "settle",
)
_ASKED: Final = {each: operator.attrgetter(each) for each in _CALLS}


class RemoteEc2Cloud:
    """Holds a cloud that `python -m tests.ec2sim` serves: what is declared here is as `Ec2Cloud` has it.

    Raises:
        ValueError: If the cloud says that a call cannot be done.
    """

    add_instance: Callable[..., Instance]
    instances: Callable[[], list[Instance]]
    set_instance_state: Callable[[str, str], None]
    remove_instance: Callable[[str], None]
    volumes: Callable[[], list[VolumeFact]]
    volume: Callable[[str], VolumeFact | None]
    add_volumes: Callable[[Iterable[NewVolume]], list[str]]
    set_plan: Callable[..., None]
    end_faults: Callable[[], None]
    settle: Callable[..., None]

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.imds_endpoint: str = self._ask("imds_endpoint")
        self.region: str = self._ask("region")
        self.calls = _RemoteCalls(self._ask)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - each call has its own type
        return functools.partial(self._ask, name)

    def imds_endpoint_of(self, instance_id: str) -> str:
        """Return where the metadata service is for one instance."""
        return f"{self.imds_endpoint}/as/{instance_id}"

    def read_plan(self) -> dict[str, Any]:
        """Return the plan's fields."""
        plan = FaultPlan()
        plan.set(**vars(self._ask("plan")))
        return vars(plan)

    def _ask(self, call: str, *arguments: object, **keywords: object) -> Any:  # noqa: ANN401 - any value
        body = _written({"call": call, "with": [arguments, keywords]})
        request = urllib.request.Request(self.endpoint + CONTROL_PATH, body)  # noqa: S310 - http only
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - likewise
                return _read(answer.read())["result"]
        except urllib.error.HTTPError as exc:
            with exc:
                text = exc.read().decode("utf-8", "replace")
            raise ValueError(f"the cloud refuses {call}: {text}") from exc


class _RemoteCalls(Calls):
    def __init__(self, ask: Callable[[str], Any]) -> None:
        super().__init__()
        self._ask = ask

    def log(self) -> list[Call]:
        return list(self._ask("calls.log"))

    def reset(self) -> None:
        self._ask("calls.reset")


def control(cloud: "Ec2Cloud", request: HttpRequest) -> HttpAnswer:
    """Do with a cloud what its handle in another process asks for."""
    try:
        asked = _read(request.body)
        found = _ASKED[asked["call"]](cloud)
        arguments, keywords = asked["with"]
        result = found(*arguments, **keywords) if callable(found) else found
    except (Refused, ValueError, TypeError, KeyError, TimeoutError) as exc:
        return HttpAnswer(400, _written({"error": f"{type(exc).__name__}: {exc}"}), "application/json")
    return HttpAnswer(200, _written({"result": result}), "application/json")


def _written(value: object) -> bytes:
    def plain(part: Any) -> object:  # noqa: ANN401 - any value of this package
        if is_dataclass(part):
            named = {each.name: getattr(part, each.name) for each in fields(part)}
            return {"!": type(part).__name__, **named}
        return {"!": "frozenset", "items": sorted(part)} if isinstance(part, frozenset) else list(part)

    return json.dumps(value, default=plain).encode()


def _read(body: bytes) -> Any:  # noqa: ANN401 - any value
    def value(found: dict[str, Any]) -> object:
        kind = found.pop("!", "")
        if kind == "frozenset":
            return frozenset(found["items"])
        return _KINDS[kind](**found) if kind else found

    return json.loads(body, object_hook=value)
