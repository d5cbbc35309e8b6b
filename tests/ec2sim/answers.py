"""Answers in EC2's XML, made of dicts (elements), lists (of items) and plain values."""

import uuid
from collections.abc import Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

from tests.ec2sim.facts import INSTANCE_STATES, Attachment, Instance, VolumeFact
from tests.ec2sim.refusals import Refusal

_NAMESPACE: Final = "http://ec2.amazonaws.com/doc/2016-11-15/"
_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_Content = dict[str, Any]
DONE: Final[_Content] = {"return": "true"}


def answer(action: str, content: Mapping[str, object]) -> bytes:
    """Return an answer."""
    text = _xml({"requestId": uuid.uuid4(), **content})
    return f'{_HEAD}<{action}Response xmlns="{_NAMESPACE}">{text}</{action}Response>'.encode()


def error(refusal: Refusal) -> bytes:
    """Return an error, as https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html shows one."""
    content = {"Error": {"Code": refusal.code, "Message": refusal.message}}
    return f"{_HEAD}{_xml({'Response': {'Errors': content, 'RequestID': uuid.uuid4()}})}".encode()


def volume(fact: VolumeFact) -> _Content:
    """Return a volume."""
    return {
        "volumeId": fact.volume_id,
        "size": fact.size_gib,
        "availabilityZone": fact.zone,
        "status": fact.status,
        "createTime": fact.create_time,
        "attachmentSet": [attachment(fact.volume_id, fact.attachment)] if fact.attachment else [],
        "tagSet": [{"key": key, "value": value} for key, value in fact.tags.items()] or None,
        "volumeType": fact.volume_type,
        "encrypted": str(fact.encrypted).lower(),
        "kmsKeyId": fact.kms_key_id or None,
    }


def attachment(volume_id: str, place: Attachment) -> _Content:
    """Return where a volume is attached."""
    return {
        "volumeId": volume_id,
        "instanceId": place.instance_id,
        "device": place.device,
        "status": place.status,
        "attachTime": place.attach_time,
    }


def reservation(fact: Instance) -> _Content:
    """Return an instance, in a reservation of its own."""
    instance = {
        "instanceId": fact.instance_id,
        "instanceState": _state(fact.state),
        "reason": fact.transition_reason,
        "launchTime": fact.launch_time,
        "placement": {"availabilityZone": fact.zone},
        "privateDnsName": "" if fact.state == "terminated" else fact.private_dns_name,
        "tagSet": [{"key": "Name", "value": fact.name}] if fact.name else None,
    }
    return {"reservationId": f"r-{fact.instance_id[2:]}", "instancesSet": [instance]}


def status(fact: Instance, result: str) -> _Content:
    """Return an instance with the result of its status checks."""
    return {
        "instanceId": fact.instance_id,
        "availabilityZone": fact.zone,
        "instanceState": _state(fact.state),
        "systemStatus": {"status": "ok"},
        "instanceStatus": {"status": result},
    }


def state_change(instance_id: str, now: str, before: str) -> _Content:
    """Return an instance with the states after and before."""
    return {"instanceId": instance_id, "currentState": _state(now), "previousState": _state(before)}


def _state(name: str) -> _Content:
    return {"code": INSTANCE_STATES[name], "name": name}


def _xml(value: object) -> str:
    if isinstance(value, Mapping):
        return "".join(f"<{name}>{_xml(each)}</{name}>" for name, each in value.items() if each is not None)
    if isinstance(value, list):
        return "".join(f"<item>{_xml(each)}</item>" for each in value)
    return escape(str(value))
