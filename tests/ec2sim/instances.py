"""Instances, the API's actions on them, and their metadata service.

Each start gives an instance another launch time. The reason for its state "might be an empty string":
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html. After a call of the API it is
"User initiated" with the time of the call: https://github.com/getmoto/moto/issues/7486
"""

import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from tests.ec2sim import answers, refusals
from tests.ec2sim.facts import INSTANCE_STATES, REGION, ZONE, Instance, now
from tests.ec2sim.hypervisor import Hypervisor, ShowsInstances
from tests.ec2sim.listening import HttpAnswer, HttpRequest
from tests.ec2sim.plan import FaultPlan
from tests.ec2sim.scheduler import Scheduler
from tests.ec2sim.service import Action, Request
from tests.ec2sim.stale_reads import StaleReads

_ENDED: Final = ("stopped", "terminated")
_CHANGES: Final = {  # from which states, through which, to which
    "StartInstances": (("stopped",), "pending", "running"),
    "StopInstances": (("pending", "running"), "stopping", "stopped"),
}
ROLE: Final = "volplug"
_PATH: Final = re.compile(r"/as/(i-[0-9a-z]+)(/.*)")
_TOKEN_PATH: Final = "/latest/api/token"  # noqa: S105 - where tokens come from
_DATA_PATH: Final = "/latest/meta-data/"
_TTL_HEADER: Final = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER: Final = "x-aws-ec2-metadata-token"  # noqa: S105 - where tokens go
_CREDENTIALS_LAST: Final = timedelta(hours=6)


class Instances:
    """The instances of a cloud.

    Attributes:
        on_end: Called with an instance that has been terminated.
    """

    def __init__(self, plan: FaultPlan, scheduler: Scheduler, hypervisor: Hypervisor) -> None:
        self.on_end: Callable[[str], None] = lambda _: None
        self._plan = plan
        self._scheduler = scheduler
        self._hypervisor = hypervisor
        self._instances: dict[str, Instance] = {}
        self._stale: StaleReads[Instance] = StaleReads(plan)
        self._lock = threading.Lock()

    def add(
        self,
        instance_id: str,
        *,
        zone: str = ZONE,
        kind: str = "nitro",
        name: str = "",
        attachment_limit: int = 27,
    ) -> Instance:
        """Start an instance, with credentials and a view of its own."""
        secret = hashlib.sha256(instance_id.encode()).hexdigest()
        instance = Instance(
            instance_id,
            zone,
            kind,
            name,
            f"ip-10-0-0-{len(self._instances) + 1}.{REGION}.compute.internal",
            attachment_limit=attachment_limit,
            access_key=f"ASIA{secret[:16].upper()}",
            secret_key=secret[16:56],
            session_token=f"{secret}{secret}",
            launch_time=now(),
        )
        if isinstance(self._hypervisor, ShowsInstances):
            view = self._hypervisor.power_on(instance_id, kind)
            instance = replace(instance, sys_root=view.sys_root, dev_root=view.dev_root)
        with self._lock:
            self._instances[instance_id] = instance
        return instance

    def get(self, instance_id: str) -> Instance:
        """Return an instance, or raise the refusal that EC2 has where there is none."""
        with self._lock:
            found = self._instances.get(instance_id)
        if found is None:
            raise refusals.NO_INSTANCE(instance_id)
        return found

    def all(self) -> list[Instance]:
        with self._lock:
            return list(self._instances.values())

    def set_state(self, instance_id: str, state: str, action: str = "") -> None:
        """Change an instance's state; a terminated one loses its volumes.

        Reads may be stale after a change that an action of the API makes.
        """
        if state not in INSTANCE_STATES:
            raise ValueError(f"an instance is never {state!r}, only {', '.join(INSTANCE_STATES)}")
        before = self.get(instance_id)
        after = replace(before, state=state)
        if before.state in _ENDED and state not in _ENDED:
            after = replace(after, launch_time=now(), transition_reason="")
        elif action:
            reason = f"User initiated ({datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC)"
            after = replace(after, transition_reason=reason)
        with self._lock:
            self._stale.change(instance_id, before, action)
            self._instances[instance_id] = after
        if state == "terminated":
            self.on_end(instance_id)

    def remove(self, instance_id: str) -> None:
        """Remove an instance, as EC2 does some time after its end."""
        with self._lock:
            del self._instances[instance_id]

    def end_stale_reads(self) -> None:
        """Let DescribeInstances show all changes so far."""
        with self._lock:
            self._stale.clear()

    def actions(self) -> dict[str, Action]:
        """Return the actions of the API by name."""
        return {
            "DescribeInstances": self._describe,
            "DescribeInstanceStatus": self._describe_status,
            **dict.fromkeys(_CHANGES, self._change),
        }

    def _describe(self, request: Request) -> bytes:
        chosen = [self.get(each) for each in request.listed("InstanceId")] or self.all()
        found = [answers.reservation(self._shown(each)) for each in chosen]
        return answers.answer(request.action, {"reservationSet": found})

    def _shown(self, instance: Instance) -> Instance:
        """Return an instance as a read shows it, and count the read."""
        with self._lock:
            stale = self._stale.states().get(instance.instance_id)
            if stale is None:
                return instance
            self._stale.count_read(instance.instance_id)
            return stale

    def _describe_status(self, request: Request) -> bytes:
        """Answer DescribeInstanceStatus, which shows running instances only."""
        running = [each for each in map(self.get, request.listed("InstanceId")) if each.state == "running"]
        impaired = self._plan.impaired_instances
        found = [
            answers.status(each, "impaired" if each.instance_id in impaired else "ok") for each in running
        ]
        return answers.answer(request.action, {"instanceStatusSet": found})

    def _change(self, request: Request) -> bytes:
        """Answer StartInstances or StopInstances; an instance in none of the first states stays as it is."""
        first, through, to = _CHANGES[request.action]
        before = [self.get(each) for each in request.listed("InstanceId")]
        for instance in before:
            if instance.state == "terminated":
                raise refusals.CANNOT_BE(instance.instance_id, to)
        changes = []
        for instance in before:
            state = through if instance.state in first else instance.state
            changes.append(answers.state_change(instance.instance_id, state, instance.state))
            if state != instance.state:
                self._begin_change(request.action, instance.instance_id, through, to)
        return answers.answer(request.action, {"instancesSet": changes})

    def _begin_change(self, action: str, instance_id: str, through: str, to: str) -> None:
        self.set_state(instance_id, through, action)
        if not self._plan.stops_by_hand:
            self._scheduler.begin(instance_id, self._plan.stopping, lambda: self.set_state(instance_id, to))


class Metadata:
    """The metadata service, version 2 only.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html: a session token
    first, by PUT with a time to live; a GET without it gets 401. The path names the caller:
    /as/INSTANCE-ID/latest/... is the service as that instance sees it.
    """

    def __init__(self, instances: Callable[[], list[Instance]]) -> None:
        self._instances = instances
        self._tokens: set[str] = set()

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """Answer a request."""
        match = _PATH.fullmatch(request.path)
        named, path = match.groups() if match else ("", "")
        for instance in self._instances():
            if instance.instance_id == named:
                return self._token(request) if path == _TOKEN_PATH else self._data(request, instance, path)
        return HttpAnswer(404, b"no such instance")

    def _token(self, request: HttpRequest) -> HttpAnswer:
        ttl = request.headers.get(_TTL_HEADER.lower(), "")
        if request.method != "PUT":
            return HttpAnswer(405)
        if not ttl.isdigit():
            return HttpAnswer(400)
        token = secrets.token_urlsafe(32)
        self._tokens.add(token)
        return HttpAnswer(200, token.encode(), headers={_TTL_HEADER: ttl})

    def _data(self, request: HttpRequest, instance: Instance, path: str) -> HttpAnswer:
        if request.headers.get(_TOKEN_HEADER, "") not in self._tokens:
            return HttpAnswer(401)
        shown = {
            "iam/security-credentials": ROLE,
            f"iam/security-credentials/{ROLE}": _credentials(instance),
            "instance-id": instance.instance_id,
            "placement/availability-zone": instance.zone,
            "placement/region": REGION,
        }
        text = shown.get(path.removeprefix(_DATA_PATH).rstrip("/"))
        return HttpAnswer(404) if text is None or request.method != "GET" else HttpAnswer(200, text.encode())


def _credentials(instance: Instance) -> str:
    expiration = datetime.now(UTC) + _CREDENTIALS_LAST
    return json.dumps(
        {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": instance.access_key,
            "SecretAccessKey": instance.secret_key,
            "Token": instance.session_token,
            "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )
