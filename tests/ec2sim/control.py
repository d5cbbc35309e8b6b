"""The control endpoint: what a handle can do, as JSON over HTTP, for tests in other processes.

POST /control with {"call": NAME, "with": {...}} is answered with {"result": ...}, or with 400 and
{"error": TEXT}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from tests.ec2sim.facts import NewVolume
from tests.ec2sim.listening import HttpAnswer, HttpRequest
from tests.ec2sim.plan import plan_from_json, plan_to_json
from tests.ec2sim.refusals import Refused

if TYPE_CHECKING:
    from tests.ec2sim.cloud import Ec2Cloud

CONTROL_PATH: Final = "/control"


class Control:
    """Does with a cloud what is asked over HTTP."""

    def __init__(self, cloud: Ec2Cloud) -> None:
        self._calls: Mapping[str, Callable[..., Any]] = {
            "describe": lambda: {
                "endpoint": cloud.endpoint,
                "imds_endpoint": cloud.imds_endpoint,
                "region": cloud.region,
            },
            "add_instance": lambda **changes: cloud.add_instance(**changes).to_json(),
            "instances": lambda: [each.to_json() for each in cloud.instances()],
            "set_instance_state": cloud.set_instance_state,
            "remove_instance": cloud.remove_instance,
            "volumes": lambda: [each.to_json() for each in cloud.volumes()],
            "add_volumes": lambda volumes: cloud.add_volumes([NewVolume(**each) for each in volumes]),
            "read_plan": lambda: plan_to_json(vars(cloud.plan)),
            "set_plan": lambda **changes: cloud.set_plan(**plan_from_json(changes)),
            "end_faults": cloud.end_faults,
            "settle": cloud.settle,
            "calls": lambda: [each.to_json() for each in cloud.calls.log()],
            "reset_calls": cloud.calls.reset,
        }

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """Answer a request."""
        try:
            asked = json.loads(request.body)
            result = self._calls[asked["call"]](**asked.get("with", {}))
        except (Refused, ValueError, TypeError, KeyError, TimeoutError) as exc:
            return _json({"error": f"{type(exc).__name__}: {exc}"}, 400)
        return _json({"result": result}, 200)


def _json(value: object, status: int) -> HttpAnswer:
    return HttpAnswer(status, json.dumps(value).encode(), "application/json")
