"""A cloud in another process: its client, and the server's side of it.

POST /control with [NAME, ARGUMENTS, KEYWORDS] is answered with the result as JSON, or with 400 and a text.
Values of this package are {"!": TYPE, ...FIELDS}.
"""

import functools
import json
import operator
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any, Final

from tests.ec2sim.facts import Attachment, Instance, NewVolume, VolumeFact
from tests.ec2sim.listening import HttpAnswer, HttpRequest
from tests.ec2sim.plan import Slow
from tests.ec2sim.refusals import Refusal, Refused
from tests.ec2sim.service import Call, Calls

CONTROL_PATH: Final = "/control"
_TIMEOUT_S: Final = 120.0
_VALUES: Final = (Attachment, Call, Instance, NewVolume, Refusal, Slow, VolumeFact)
_KINDS: Final = {each.__name__: each for each in _VALUES}


class RemoteEc2Cloud:
    """The client of a cloud that `python -m tests.ec2sim` serves, with the calls of `Ec2Cloud`.

    Raises:
        ValueError: If the cloud refuses a call.
    """

    add_instance: Callable[..., Instance]
    imds_endpoint_of: Callable[[str], str]
    volumes: Callable[[], list[VolumeFact]]
    volume: Callable[[str], VolumeFact | None]
    add_volumes: Callable[[Iterable[NewVolume]], list[str]]
    set_plan: Callable[..., None]
    end_faults: Callable[[], None]
    settle: Callable[..., None]

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.region: str = self._ask("region")
        self.calls = _RemoteCalls(self._ask)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - each call has its own type
        return functools.partial(self._ask, name)

    def _ask(self, call: str, *arguments: object, **keywords: object) -> Any:  # noqa: ANN401 - any value
        body = _to_json([call, arguments, keywords])
        request = urllib.request.Request(self.endpoint + CONTROL_PATH, body)  # noqa: S310 - http only
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - likewise
                return _from_json(answer.read())
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


def control(cloud: object, request: HttpRequest) -> HttpAnswer:
    """Make a client's call of an `Ec2Cloud`."""
    try:
        call, arguments, keywords = _from_json(request.body)
        found = operator.attrgetter(call)(cloud)
        result = found(*arguments, **keywords) if callable(found) else found
    except (Refused, AttributeError, ValueError, TypeError, TimeoutError) as exc:
        return HttpAnswer(400, f"{type(exc).__name__}: {exc}".encode())
    return HttpAnswer(200, _to_json(result))


def _to_json(value: object) -> bytes:
    def plain(part: Any) -> object:  # noqa: ANN401 - any value of this package
        if is_dataclass(part):
            named = {each.name: getattr(part, each.name) for each in fields(part)}
            return {"!": type(part).__name__, **named}
        return list(part)

    return json.dumps(value, default=plain).encode()


def _from_json(body: bytes) -> Any:  # noqa: ANN401 - any value
    def value(found: dict[str, Any]) -> object:
        kind = found.pop("!", "")
        return _KINDS[kind](**found) if kind else found

    return json.loads(body, object_hook=value)
