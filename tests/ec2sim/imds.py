"""The metadata service, version 2 only.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html: a session token first,
by PUT with a time to live; every GET has to bring it, and gets 401 without. The caller is known by its IP
address, or by the path: /as/INSTANCE-ID/latest/... is the service as that instance sees it.
"""

import json
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from tests.ec2sim.facts import Instance
from tests.ec2sim.listening import HttpAnswer, HttpRequest
from tests.ec2sim.plan import FaultPlan

ROLE: Final = "volplug"
_PATH: Final = re.compile(r"(?:/as/(i-[0-9a-z]+))?(/.*)")
_TOKEN_PATH: Final = "/latest/api/token"  # noqa: S105 - where tokens come from
_DATA_PATH: Final = "/latest/meta-data/"
_TTL_HEADER: Final = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER: Final = "x-aws-ec2-metadata-token"  # noqa: S105 - where tokens go
_MOST_TTL_S: Final = 21_600
_CREDENTIALS_LAST: Final = timedelta(hours=6)


class Metadata:
    """Tells instances about themselves."""

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
