"""Answers as EC2 writes them: XML."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Final
from xml.sax.saxutils import escape

from tests.ec2sim.facts import INSTANCE_STATES, Attachment, Instance, VolumeFact
from tests.ec2sim.plan import Refusal

_NAMESPACE: Final = "http://ec2.amazonaws.com/doc/2016-11-15/"
_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'


def answer(action: str, content: str) -> bytes:
    """Return an answer."""
    request = _one("requestId", uuid.uuid4())
    return f'{_HEAD}<{action}Response xmlns="{_NAMESPACE}">{request}{content}</{action}Response>'.encode()


def error(refusal: Refusal) -> bytes:
    """Return an error, as https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html shows one."""
    text = f"<Error>{_one('Code', refusal.code)}{_one('Message', refusal.message)}</Error>"
    request = _one("RequestID", uuid.uuid4())
    return f"{_HEAD}<Response><Errors>{text}</Errors>{request}</Response>".encode()


def done() -> str:
    """Return the content that says no more than that it is done."""
    return "<return>true</return>"


def volume(fact: VolumeFact) -> str:
    """Return a volume."""
    parts = [
        _one("volumeId", fact.volume_id),
        _one("size", fact.size_gib),
        _one("snapshotId", fact.snapshot_id),
        _one("availabilityZone", fact.zone),
        _one("status", fact.status),
        _one("createTime", fact.create_time),
        "<attachmentSet>",
        f"<item>{attachment(fact.volume_id, fact.attachment)}</item>" if fact.attachment else "",
        "</attachmentSet>",
        tags(fact.tags),
        _one("volumeType", fact.volume_type),
        _one("iops", fact.iops) if fact.iops else "",
        _one("throughput", fact.throughput) if fact.throughput else "",
        _one("encrypted", str(fact.encrypted).lower()),
        _one("kmsKeyId", fact.kms_key_id) if fact.kms_key_id else "",
        "<multiAttachEnabled>false</multiAttachEnabled>",
    ]
    return "".join(parts)


def volumes(facts: Iterable[VolumeFact], next_token: str) -> str:
    """Return a page of volumes."""
    items = "".join(f"<item>{volume(fact)}</item>" for fact in facts)
    return f"<volumeSet>{items}</volumeSet>{_one('nextToken', next_token) if next_token else ''}"


def attachment(volume_id: str, place: Attachment) -> str:
    """Return where a volume is attached."""
    parts = [
        _one("volumeId", volume_id),
        _one("instanceId", place.instance_id),
        _one("device", place.device),
        _one("status", place.status),
        _one("attachTime", place.attach_time),
        "<deleteOnTermination>false</deleteOnTermination>",
    ]
    return "".join(parts)


def tags(values: Mapping[str, str]) -> str:
    """Return tags."""
    items = "".join(f"<item>{_one('key', key)}{_one('value', value)}</item>" for key, value in values.items())
    return f"<tagSet>{items}</tagSet>" if items else ""


def instances(facts: Iterable[tuple[Instance, list[VolumeFact]]]) -> str:
    """Return instances with their volumes, each in a reservation of its own."""
    items = "".join(
        f"<item>{_one('reservationId', 'r-' + fact.instance_id[2:])}"
        f"<instancesSet><item>{_instance(fact, held)}</item></instancesSet></item>"
        for fact, held in facts
    )
    return f"<reservationSet>{items}</reservationSet>"


def checks(results: Iterable[tuple[Instance, str]]) -> str:
    """Return instances with the results of their status checks."""
    items = "".join(
        f"<item>{_one('instanceId', fact.instance_id)}{_one('availabilityZone', fact.zone)}"
        f"<instanceState>{_state(fact.state)}</instanceState>"
        f"<systemStatus>{_one('status', 'ok')}</systemStatus>"
        f"<instanceStatus>{_one('status', result)}</instanceStatus></item>"
        for fact, result in results
    )
    return f"<instanceStatusSet>{items}</instanceStatusSet>"


def state_changes(changes: Iterable[tuple[str, str, str]]) -> str:
    """Return instances with the states after and before."""
    items = "".join(
        f"<item>{_one('instanceId', instance_id)}<currentState>{_state(now)}</currentState>"
        f"<previousState>{_state(before)}</previousState></item>"
        for instance_id, now, before in changes
    )
    return f"<instancesSet>{items}</instancesSet>"


def _instance(fact: Instance, held: list[VolumeFact]) -> str:
    devices = "".join(
        f"<item>{_one('deviceName', place.device)}<ebs>{_one('volumeId', each.volume_id)}"
        f"{_one('status', place.status)}{_one('attachTime', place.attach_time)}</ebs></item>"
        for each in held
        if (place := each.attachment) is not None
    )
    parts = [
        _one("instanceId", fact.instance_id),
        _one("instanceType", "m5.large" if fact.kind == "nitro" else "m4.large"),
        f"<instanceState>{_state(fact.state)}</instanceState>",
        _one("reason", fact.transition_reason),
        _one("launchTime", fact.launch_time),
        f"<placement>{_one('availabilityZone', fact.zone)}</placement>",
        _one("privateIpAddress", fact.address) if fact.address else "",
        f"<blockDeviceMapping>{devices}</blockDeviceMapping>",
    ]
    return "".join(parts)


def _state(name: str) -> str:
    return f"{_one('code', INSTANCE_STATES[name])}{_one('name', name)}"


def _one(name: str, value: object) -> str:
    return f"<{name}>{escape(str(value))}</{name}>"
