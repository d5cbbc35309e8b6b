"""The API: what happens to a call from its arrival to its answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from tests.ec2sim import answers, refusals
from tests.ec2sim.calls import Call, Calls
from tests.ec2sim.faults import Faults
from tests.ec2sim.instances import Instances
from tests.ec2sim.listening import HttpAnswer, HttpRequest
from tests.ec2sim.plan import FaultPlan
from tests.ec2sim.refusals import Refused
from tests.ec2sim.requests import Request, read_credential, read_parameters

Action = Callable[[Request], bytes]
_XML = "text/xml;charset=UTF-8"


class Service:
    """Answers calls, with what the plan has in store for them."""

    def __init__(
        self,
        region: str,
        plan: FaultPlan,
        instances: Instances,
        actions: Mapping[str, Action],
    ) -> None:
        self.calls = Calls()
        self._ended = threading.Event()
        self._region = region
        self._plan = plan
        self._faults = Faults(plan)
        self._instances = instances
        self._actions = actions

    def answer(self, http: HttpRequest) -> HttpAnswer | None:
        """Answer a call; None closes the connection instead."""
        parameters = read_parameters(http.body)
        action = parameters.pop("Action", "")
        parameters.pop("Version", "")
        self._ended.wait(self._faults.latency_s(action))
        caller = ""
        try:
            caller = self._caller(http)
            answer, outcome = self._suffer(Request(action, parameters, caller))
        except Refused as exc:
            answer, outcome = _refusal(exc), exc.refusal.code
        self.calls.add(Call(action, parameters, caller, outcome))
        return answer

    def close(self) -> None:
        """Hold up no more calls."""
        self._ended.set()

    def _caller(self, http: HttpRequest) -> str:
        """Return which instance calls."""
        credential = read_credential(http.headers)
        if credential is None or credential.region != self._region:
            raise refusals.BAD_CREDENTIALS()
        instance = self._instances.with_key(credential.access_key)
        if instance is not None and credential.session_token != instance.session_token:
            raise refusals.BAD_CREDENTIALS()
        instance = instance or self._instances.at(http.client_address)
        return instance.instance_id if instance else ""

    def _suffer(self, request: Request) -> tuple[HttpAnswer | None, str]:
        fault = self._faults.next(request.action)
        refusal = self._faults.refusal(fault)
        if refusal is not None:
            raise Refused(refusal)
        if fault == "dropped":
            return None, "dropped"
        if request.action in self._plan.denied:
            raise refusals.UNAUTHORIZED(request.action, request.caller or "user")
        answer = self._act(request)
        if fault == "lost":
            return _refusal(Refused(refusals.INTERNAL_ERROR)), "lost"
        if fault == "closed":
            return None, "closed"
        return answer, "ok"

    def _act(self, request: Request) -> HttpAnswer:
        action = self._actions.get(request.action)
        if action is None:
            raise refusals.NO_ACTION(request.action)
        if request.is_set("DryRun"):
            raise refusals.DRY_RUN()
        return HttpAnswer(200, action(request), _XML)


def _refusal(exc: Refused) -> HttpAnswer:
    return HttpAnswer(exc.refusal.status, answers.error(exc.refusal), _XML)
