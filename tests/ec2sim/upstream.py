"""What moto is good at: everything that has nothing to do with how volumes change over time.

moto runs inside this process, without a socket. Its state is one for the process and kept apart by account,
so each cloud has an account of its own.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable
from typing import Final
from xml.etree import ElementTree

from moto.ec2.models import ec2_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, run_wsgi_app

from tests.ec2sim.facts import NewVolume, VolumeFact
from tests.ec2sim.plan import Refusal
from tests.ec2sim.refusals import Refused
from tests.ec2sim.requests import Request

_FIRST_ACCOUNT: Final = 100_000_000_000 + os.getpid() * 10_000
_accounts = itertools.count(_FIRST_ACCOUNT)
_application = DomainDispatcherApplication(create_backend_app)
_DEFAULT_THROUGHPUT: Final = {"gp3": 125}
_OK: Final = 200


class Upstream:
    """One account of moto's."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._account = str(next(_accounts))
        self._lock = threading.Lock()  # moto's backends are not made for threads
        os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # a thousand images that nobody needs
        self._backend = ec2_backends[self._account][region]

    def zones(self) -> list[str]:
        """Return the Availability Zones of the region."""
        return sorted(str(zone.name) for zone in self._backend.describe_availability_zones())

    def call(self, request: Request) -> bytes:
        """Pass a call on, and return the XML that moto answers.

        Raises:
            Refused: If moto answers with an error.
        """
        scope = f"{self._region}/{request.service}/aws4_request"
        environment = EnvironBuilder(
            method="POST",
            path="/",
            base_url=f"http://{request.service}.{self._region}.amazonaws.com",
            data=request.body,
            content_type="application/x-www-form-urlencoded; charset=utf-8",
            headers=Headers(
                {
                    "Authorization": f"AWS4-HMAC-SHA256 Credential=AKIAUPSTREAM/20260101/{scope}, "
                    "SignedHeaders=host, Signature=0",
                    "x-moto-account-id": self._account,
                }
            ),
        ).get_environ()
        with self._lock:
            parts, said, _headers = run_wsgi_app(_application, environment, buffered=True)
        body, status = b"".join(parts), int(said.split()[0])
        if status != _OK:
            raise Refused(_refusal(body, status))
        return body

    def add_volumes(self, volumes: Iterable[NewVolume]) -> list[VolumeFact]:
        """Make many volumes at once."""
        with self._lock:
            return [self._add(each) for each in volumes]

    def _add(self, new: NewVolume) -> VolumeFact:
        made = self._backend.create_volume(size=new.size_gib, zone_name=new.zone, volume_type=new.volume_type)
        made.add_tags(dict(new.tags))
        return VolumeFact(
            volume_id=made.id,
            status="available",
            size_gib=new.size_gib,
            zone=new.zone,
            volume_type=new.volume_type,
            create_time=made.create_time.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            tags=dict(new.tags),
            iops=made.iops or 0,
            throughput=_DEFAULT_THROUGHPUT.get(new.volume_type, 0),
        )


def _refusal(body: bytes, status: int) -> Refusal:
    root = ElementTree.fromstring(body)  # noqa: S314 - moto's own words
    code, message = root.findtext(".//{*}Code"), root.findtext(".//{*}Message")
    return Refusal(code or "InternalError", message or "", status)


def read_volume(body: bytes) -> VolumeFact:
    """Read moto's answer to CreateVolume; it is still creating, whatever moto says."""
    root = ElementTree.fromstring(body)  # noqa: S314 - moto's own words
    found = {str(each.tag).rsplit("}", 1)[-1]: each.text or "" for each in root}
    volume_type = found.get("volumeType", "gp2")
    return VolumeFact(
        volume_id=found["volumeId"],
        status="creating",
        size_gib=int(found["size"]),
        zone=found.get("availabilityZone", ""),
        volume_type=volume_type,
        create_time=found["createTime"],
        iops=int(found.get("iops") or 0),
        throughput=int(found.get("throughput") or _DEFAULT_THROUGHPUT.get(volume_type, 0)),
        encrypted=found.get("encrypted") == "true",
        kms_key_id=found.get("kmsKeyId", ""),
        snapshot_id=found.get("snapshotId", ""),
    )
