"""Instances: who they are, whether they run, and the metadata service, which tells them.

Each start gives an instance another launch time. Why it is in its state "might be an empty string":
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html. Where the API was called it is
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
from tests.ec2sim.clockwork import Clockwork
from tests.ec2sim.facts import INSTANCE_STATES, Instance, now
from tests.ec2sim.filters import instance_filter, page
from tests.ec2sim.hypervisor import Hypervisor, ShowsInstances
from tests.ec2sim.listening import HttpAnswer, HttpRequest
from tests.ec2sim.plan import FaultPlan
from tests.ec2sim.service import Action, Request
from tests.ec2sim.table import Past, VolumeTable

_ENDED: Final = ("stopped", "terminated")
ROLE: Final = "volplug"
_PATH: Final = re.compile(r"(?:/as/(i-[0-9a-z]+))?(/.*)")
_TOKEN_PATH: Final = "/latest/api/token"  # noqa: S105 - where tokens come from
_DATA_PATH: Final = "/latest/meta-data/"
_TTL_HEADER: Final = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER: Final = "x-aws-ec2-metadata-token"  # noqa: S105 - where tokens go
_MOST_TTL_S: Final = 21_600
_CREDENTIALS_LAST: Final = timedelta(hours=6)


class Instances:
    """The instances of a cloud.

    Attributes:
        on_end: Called with an instance that has been terminated.
    """

    def __init__(
        self, plan: FaultPlan, table: VolumeTable, clockwork: Clockwork, hypervisor: Hypervisor
    ) -> None:
        self.on_end: Callable[[str], None] = lambda _: None
        self._plan = plan
        self._table = table
        self._clockwork = clockwork
        self._hypervisor = hypervisor
        self._instances: dict[str, Instance] = {}
        self._past: Past[Instance] = Past()
        self._lock = threading.Lock()

    def add(self, instance: Instance) -> Instance:
        """Start an instance, and give it credentials and a view of itself."""
        if any(each.instance_id == instance.instance_id for each in self.all()):
            raise ValueError(f"there is an instance {instance.instance_id} already")
        secret = hashlib.sha256(instance.instance_id.encode()).hexdigest()
        instance = replace(
            instance,
            access_key=f"ASIA{secret[:16].upper()}",
            secret_key=secret[16:56],
            session_token=f"{secret}{secret}",
            launch_time=now(),
        )
        if isinstance(self._hypervisor, ShowsInstances):
            view = self._hypervisor.power_on(instance.instance_id, instance.kind)
            instance = replace(instance, sys_root=view.sys_root, dev_root=view.dev_root)
        with self._lock:
            self._instances[instance.instance_id] = instance
        return instance

    def get(self, instance_id: str) -> Instance:
        """Return an instance.

        Raises:
            Refused: If there is none, as EC2 says it.
        """
        with self._lock:
            found = self._instances.get(instance_id)
        if found is None:
            raise refusals.NO_INSTANCE(instance_id)
        return found

    def all(self) -> list[Instance]:
        """Return all instances."""
        with self._lock:
            return list(self._instances.values())

    def set_state(self, instance_id: str, state: str, action: str = "") -> None:
        """Change an instance's state; a terminated one loses its volumes.

        Args:
            instance_id: The instance.
            state: Its new state.
            action: What was called, if the API was: DescribeInstances may hear of it late.
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
            if action in self._plan.stale_after:
                self._past.note(instance_id, before, self._plan)
            self._instances[instance_id] = after
        if state == "terminated":
            self.on_end(instance_id)

    def remove(self, instance_id: str) -> None:
        """Forget an instance, as EC2 does some time after its end."""
        self.get(instance_id)
        with self._lock:
            del self._instances[instance_id]

    def show_present(self) -> None:
        """Let DescribeInstances hear of all changes so far."""
        with self._lock:
            self._past.forget()

    def actions(self) -> dict[str, Action]:
        """Return what can be called."""
        begun, stopped = ("pending", "running"), ("stopping", "stopped")
        return {
            "DescribeInstances": self._describe,
            "DescribeInstanceStatus": self._describe_checks,
            "StopInstances": lambda asked: self._end(asked, "stopping", "stopped", begun),
            "StartInstances": lambda asked: self._end(asked, "pending", "running", ("stopped",)),
            "TerminateInstances": lambda asked: self._end(
                asked, "shutting-down", "terminated", (*begun, *stopped)
            ),
        }

    def _describe(self, request: Request) -> bytes:
        wanted = request.listed("InstanceId")
        passes = instance_filter(request.filters())
        shown = [self._shown(each) for each in ([self.get(each) for each in wanted] or self.all())]
        chosen = sorted((each for each in shown if passes(each)), key=lambda each: each.instance_id)
        chosen, token = page(
            chosen, lambda each: each.instance_id, request.number("MaxResults"), request.get("NextToken")
        )
        found = [answers.reservation(each, self._table.attached_to(each.instance_id)) for each in chosen]
        return answers.answer(request.action, {"reservationSet": found, "nextToken": token or None})

    def _describe_checks(self, request: Request) -> bytes:
        """Answer DescribeInstanceStatus, which shows running instances only."""
        running = [each for each in map(self.get, request.listed("InstanceId")) if each.state == "running"]
        impaired = self._plan.impaired_instances
        found = [
            answers.checks(each, "impaired" if each.instance_id in impaired else "ok") for each in running
        ]
        return answers.answer(request.action, {"instanceStatusSet": found})

    def _end(self, request: Request, through: str, to: str, begin: tuple[str, ...]) -> bytes:
        changes = []
        for instance in [self.get(each) for each in request.listed("InstanceId")]:
            if instance.state == "terminated" and to != "terminated":
                raise refusals.CANNOT_BE(instance.instance_id, to)
            state = through if instance.state in begin else instance.state
            changes.append((instance.instance_id, state, instance.state))
        for instance_id, state, before in changes:
            if state != before:
                self._change(request.action, instance_id, through, to)
        found = [answers.state_change(*each) for each in changes]
        return answers.answer(request.action, {"instancesSet": found})

    def _shown(self, instance: Instance) -> Instance:
        """Return what a look shows of an instance."""
        with self._lock:
            past = self._past.shown().get(instance.instance_id)
            if past is None:
                return instance
            self._past.looked(instance.instance_id)
            return past

    def _change(self, action: str, instance_id: str, through: str, to: str) -> None:
        self.set_state(instance_id, through, action)
        if not self._plan.stops_by_hand:
            self._clockwork.begin(instance_id, self._plan.stopping, lambda: self.set_state(instance_id, to))


class Metadata:
    """The metadata service, version 2 only.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html: a session token
    first, by PUT with a time to live; every GET has to bring it, and gets 401 without. The caller is known by
    its IP address, or by the path: /as/INSTANCE-ID/latest/... is the service as that instance sees it.
    """

    def __init__(self, instances: Callable[[], list[Instance]], region: str, plan: FaultPlan) -> None:
        self._plan = plan
        self._instances = instances
        self._region = region
        self._tokens: set[str] = set()

    def answer(self, request: HttpRequest) -> HttpAnswer | None:
        """Answer a request."""
        match = _PATH.fullmatch(request.path)
        if self._plan.has_silent_metadata or match is None:
            return None
        named, path = match.groups()
        for instance in self._instances():
            if (instance.instance_id == named) if named else (instance.address == request.client_address):
                return self._token(request) if path == _TOKEN_PATH else self._data(request, instance, path)
        return HttpAnswer(404, b"no instance has this address")

    def _token(self, request: HttpRequest) -> HttpAnswer:
        ttl = request.headers.get(_TTL_HEADER.lower(), "")
        if request.method != "PUT":
            return HttpAnswer(405)
        if not ttl.isdigit() or not 1 <= int(ttl) <= _MOST_TTL_S:
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
            "placement/region": self._region,
            "local-ipv4": instance.address or "127.0.0.1",
            "instance-type": instance.instance_type,
        }
        text = shown.get(path.removeprefix(_DATA_PATH).rstrip("/"))
        return HttpAnswer(404) if text is None or request.method != "GET" else HttpAnswer(200, text.encode())


def _credentials(instance: Instance) -> str:
    began = datetime.now(UTC)
    return json.dumps(
        {
            "Code": "Success",
            "LastUpdated": began.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Type": "AWS-HMAC",
            "AccessKeyId": instance.access_key,
            "SecretAccessKey": instance.secret_key,
            "Token": instance.session_token,
            "Expiration": (began + _CREDENTIALS_LAST).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )
