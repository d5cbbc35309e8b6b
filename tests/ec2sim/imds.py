"""The metadata service, version 2 only.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html: a session token first,
by PUT with a time to live; every GET has to bring it, and gets 401 without. The caller is known by its IP
address, or by the path: /as/INSTANCE-ID/latest/... is the service as that instance sees it.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from datetime import UTC, datetime, timedelta
from typing import Final

from tests.ec2sim.facts import Instance
from tests.ec2sim.instances import Instances
from tests.ec2sim.listening import HttpAnswer, HttpRequest
from tests.ec2sim.plan import FaultPlan
from tests.ec2sim.refusals import Refused

ROLE: Final = "volplug"
_AS: Final = re.compile(r"/as/(i-[0-9a-z]+)(/.*)")
_TOKEN_PATH: Final = "/latest/api/token"  # noqa: S105 - where tokens come from
_DATA_PATH: Final = "/latest/meta-data/"
_TTL_HEADER: Final = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER: Final = "x-aws-ec2-metadata-token"  # noqa: S105 - where tokens go
_MOST_TTL_S: Final = 21_600
_CREDENTIALS_LAST: Final = timedelta(hours=6)


class Metadata:
    """Tells instances about themselves."""

    def __init__(self, instances: Instances, region: str, plan: FaultPlan) -> None:
        self._plan = plan
        self._instances = instances
        self._region = region
        self._tokens: set[str] = set()
        self._lock = threading.Lock()

    def answer(self, request: HttpRequest) -> HttpAnswer | None:
        """Answer a request."""
        if self._plan.has_silent_metadata:
            return None
        match = _AS.fullmatch(request.path)
        instance, path = (self._named(match[1]), match[2]) if match else (None, request.path)
        if match is None:
            instance = self._instances.at(request.client_address)
        if instance is None:
            return HttpAnswer(404, b"no instance has this address")
        if path == _TOKEN_PATH:
            return self._token(request)
        with self._lock:
            if request.headers.get(_TOKEN_HEADER, "") not in self._tokens:
                return HttpAnswer(401)
        if request.method != "GET" or not path.startswith(_DATA_PATH):
            return HttpAnswer(404)
        text = self._data(instance, path.removeprefix(_DATA_PATH))
        return HttpAnswer(404) if text is None else HttpAnswer(200, text.encode())

    def _named(self, instance_id: str) -> Instance | None:
        try:
            return self._instances.get(instance_id)
        except Refused:
            return None

    def _token(self, request: HttpRequest) -> HttpAnswer:
        ttl = request.headers.get(_TTL_HEADER.lower(), "")
        if request.method != "PUT":
            return HttpAnswer(405)
        if not ttl.isdigit() or not 1 <= int(ttl) <= _MOST_TTL_S:
            return HttpAnswer(400)
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._tokens.add(token)
        return HttpAnswer(200, token.encode(), headers={_TTL_HEADER: ttl})

    def _data(self, instance: Instance, name: str) -> str | None:
        if name.rstrip("/") == "iam/security-credentials":
            return ROLE
        if name == f"iam/security-credentials/{ROLE}":
            return _credentials(instance)
        return {
            "instance-id": instance.instance_id,
            "placement/availability-zone": instance.zone,
            "placement/region": self._region,
            "local-ipv4": instance.address or "127.0.0.1",
            "instance-type": "m5.large" if instance.kind == "nitro" else "m4.large",
        }.get(name)


def _credentials(instance: Instance) -> str:
    now = datetime.now(UTC)
    return json.dumps(
        {
            "Code": "Success",
            "LastUpdated": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Type": "AWS-HMAC",
            "AccessKeyId": instance.access_key,
            "SecretAccessKey": instance.secret_key,
            "Token": instance.session_token,
            "Expiration": (now + _CREDENTIALS_LAST).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )
