"""The API: checks a call, injects the fault that the plan has for it, and answers."""

import itertools
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final
from urllib.parse import parse_qsl

from tests.ec2sim import answers, refusals
from tests.ec2sim.facts import REGION, Instance
from tests.ec2sim.listening import HttpAnswer, HttpRequest
from tests.ec2sim.plan import FaultPlan, Faults
from tests.ec2sim.refusals import Refusal, Refused

# Credential=KEY/DATE/REGION/ec2/aws4_request; signatures themselves are not checked
_CREDENTIAL: Final = re.compile(r"Credential=([^/,\s]+)/\d+/([^/,\s]+)/ec2/aws4_request")
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
_SIGNATURES_LAST_S: Final = 300.0
_XML: Final = {"Content-Type": "text/xml;charset=UTF-8"}


@dataclass(frozen=True, slots=True)
class Call:
    """One call, with its outcome.

    Attributes:
        action: Such as AttachVolume.
        parameters: As sent, such as {"VolumeId.1": "vol-0..."}.
        caller: The instance whose credentials it came with, or empty.
        outcome: "ok", the code of the error that was answered, "lost" (error after the effect), "closed"
            (effect, but no answer) or "dropped" (neither).
    """

    action: str
    parameters: Mapping[str, str]
    caller: str
    outcome: str


class Calls:
    """All calls since the last reset. Calls that were refused or not answered count, too."""

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def add(self, call: Call) -> None:
        self._calls.append(call)

    def log(self) -> list[Call]:
        """Return all calls in the order in which they ended."""
        return list(self._calls)

    def counts(self, caller: str | None = None) -> Counter[str]:
        """Return how often each action was called, by all callers or by one instance."""
        return Counter(each.action for each in self.log() if caller is None or each.caller == caller)

    def reset(self) -> None:
        self._calls.clear()


@dataclass(frozen=True, slots=True)
class Request:
    """One call in EC2's query protocol; its fields are those of `Call`."""

    action: str
    parameters: Mapping[str, str]

    def get(self, name: str) -> str:
        """Return a parameter, or an empty text."""
        return self.parameters.get(name, "")

    def required(self, name: str) -> str:
        """Return a parameter, or refuse the call."""
        value = self.get(name)
        if not value:
            raise refusals.MISSING(name[:1].lower() + name[1:])
        return value

    def number(self, name: str) -> int | None:
        """Return a parameter that is a number, or None."""
        value = self.get(name)
        if value and not (value.isascii() and value.isdigit()):
            raise refusals.BAD_VALUE(name, value, "It has to be a number")
        return int(value) if value else None

    def is_set(self, name: str) -> bool:
        """Return whether a parameter is true."""
        return self.get(name).lower() == "true"

    def listed(self, name: str) -> list[str]:
        """Return the values of NAME.1, NAME.2, ..."""
        return [self.get(each) for each in self._numbered(name, "")]

    def filters(self) -> dict[str, list[str]]:
        """Return the filters by name."""
        each = self._numbered("Filter", ".Name")
        return {self.get(name): self.listed(f"{name.removesuffix('Name')}Value") for name in each}

    def tags(self, prefix: str = "Tag") -> dict[str, str]:
        """Return the tags of PREFIX.1.Key, PREFIX.1.Value, ..."""
        return {
            self.get(key): self.get(f"{key.removesuffix('Key')}Value")
            for key in self._numbered(prefix, ".Key")
        }

    def new_tags(self, resource_type: str) -> dict[str, str]:
        """Return the tags that a create call has for what it creates."""
        for kind in self._numbered("TagSpecification", ".ResourceType"):
            if self.get(kind) == resource_type:
                return self.tags(f"{kind.removesuffix('ResourceType')}Tag")
        return {}

    def _numbered(self, prefix: str, suffix: str) -> Iterator[str]:
        names = (f"{prefix}.{number}{suffix}" for number in itertools.count(1))
        return itertools.takewhile(lambda name: name in self.parameters, names)


Action = Callable[[Request], bytes]


class Service:
    """Answers calls, with the faults of the plan.

    Args:
        plan: The faults.
        instances: Returns all instances, whose credentials name the caller.
        actions: Answers of the actions by name.
    """

    def __init__(
        self, plan: FaultPlan, instances: Callable[[], list[Instance]], actions: Mapping[str, Action]
    ) -> None:
        self.calls = Calls()
        self._plan = plan
        self._faults = Faults(plan)
        self._instances = instances
        self._actions = actions

    def answer(self, http: HttpRequest) -> HttpAnswer | None:
        """Answer a call; None closes the connection instead."""
        form = http.body.decode("utf-8", "replace")
        parameters = dict(parse_qsl(form, keep_blank_values=True))
        action = parameters.pop("Action", "")
        parameters.pop("Version", "")
        time.sleep(self._plan.latency_s)
        caller = ""
        try:
            caller = self._caller(http)
            answer, outcome = self._inject_fault(Request(action, parameters), caller)
        except Refused as exc:
            answer, outcome = self._refusal(exc), exc.refusal.code
        self.calls.add(Call(action, parameters, caller, outcome))
        return answer

    def _headers(self) -> Mapping[str, str]:
        """Return the headers of an answer, with the time of EC2's own clock."""
        return {**_XML, "Date": formatdate(time.time() + self._plan.clock_ahead_s, usegmt=True)}

    def _caller(self, http: HttpRequest) -> str:
        """Return the instance that the credentials belong to, or an empty text."""
        if abs(self._plan.clock_ahead_s) > _SIGNATURES_LAST_S:
            raise refusals.BAD_CREDENTIALS()
        signed = _CREDENTIAL.search(http.headers.get("authorization", ""))
        if signed is None or signed[2] != REGION:
            raise refusals.BAD_CREDENTIALS()
        for each in self._instances():
            if each.access_key == signed[1]:
                if each.session_token != http.headers.get("x-amz-security-token", ""):
                    raise refusals.BAD_CREDENTIALS()
                return each.instance_id
        return ""

    def _inject_fault(self, request: Request, caller: str) -> tuple[HttpAnswer | None, str]:
        """Return the answer and the outcome, with the action's effect unless the fault prevents it."""
        fault = self._faults.draw(request.action)
        if isinstance(fault, Refusal):
            raise Refused(fault)
        if fault == "dropped":
            return None, "dropped"
        if request.action in self._plan.denied:
            raise refusals.UNAUTHORIZED(request.action, caller or "user")
        action = self._actions.get(request.action)
        if action is None:
            raise refusals.NO_ACTION(request.action)
        if request.is_set("DryRun") and request.action not in self._plan.dry_runs_ignored:
            raise refusals.WOULD_SUCCEED()
        body = action(request)
        if fault == "lost":
            return self._refusal(Refused(refusals.INTERNAL_ERROR)), "lost"
        if fault == "closed":
            return None, "closed"
        return HttpAnswer(200, body, self._headers()), "ok"

    def _refusal(self, exc: Refused) -> HttpAnswer:
        return HttpAnswer(exc.refusal.status, answers.error(exc.refusal), self._headers())
