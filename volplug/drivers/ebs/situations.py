"""What EC2's answers mean for a volume that one instance wants to have, or to be rid of. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from volplug.drivers.ebs.faults import Ec2Refused
from volplug.drivers.ebs.lookups import Description

_NAME_TAKEN: Final = re.compile(r"already in use|parameter device is invalid|is already used", re.IGNORECASE)


class Place(Enum):
    """Where a volume is, from one instance's point of view."""

    UNSEEN = auto()  # EC2 does not show it, at least not yet
    DELETED = auto()
    CREATING = auto()
    FREE = auto()
    COMING = auto()  # being attached to this instance
    HERE = auto()
    LEAVING = auto()  # being detached from whatever instance
    ELSEWHERE = auto()
    BROKEN = auto()


@dataclass(frozen=True, slots=True)
class Situation:
    """Where a volume is.

    Attributes:
        place: Where.
        holder: The instance that has it, or "".
        device: The name it is attached by, or "".
        detail: EC2's own words.
        attach_time: When it was attached; each attachment has its own.
    """

    place: Place
    holder: str = ""
    device: str = ""
    detail: str = ""
    attach_time: str = ""

    @property
    def is_here(self) -> bool:
        """Tell whether it is, or soon will be, attached to this instance."""
        return self.place in (Place.COMING, Place.HERE)


_PLACES: Final = {
    "available": Place.FREE,
    "creating": Place.CREATING,
    "deleted": Place.DELETED,
    "deleting": Place.DELETED,
    "in-use": Place.LEAVING,
}


def situation(description: Description | None, instance_id: str) -> Situation:
    """Read a description."""
    if description is None:
        return Situation(Place.UNSEEN)
    state = str(description.get("State", ""))
    attached = [each for each in description.get("Attachments", ()) if each.get("State") != "detached"]
    if attached:
        return _attached(attached[0], instance_id)
    return Situation(_PLACES.get(state, Place.BROKEN), detail=state)


def _attached(attachment: Description, instance_id: str) -> Situation:
    state, holder = str(attachment.get("State", "")), str(attachment.get("InstanceId", ""))
    device, attach_time = str(attachment.get("Device", "")), str(attachment.get("AttachTime", ""))
    return Situation(_place(state, is_here=holder == instance_id), holder, device, state, attach_time)


def _place(state: str, *, is_here: bool) -> Place:
    if state in ("detaching", "busy"):
        return Place.LEAVING
    if not is_here:
        return Place.ELSEWHERE
    return Place.COMING if state == "attaching" else Place.HERE


class Verdict(Enum):
    """What to do about a refused AttachVolume."""

    NEXT_NAME = auto()
    ASK = auto()  # look where the volume is
    UNKNOWN_VOLUME = auto()
    OTHER_ZONE = auto()
    FULL = auto()
    FAIL = auto()


_VERDICTS: Final = {
    "AttachmentLimitExceeded": Verdict.FULL,
    "IncorrectState": Verdict.ASK,
    "InvalidDevice.InUse": Verdict.NEXT_NAME,
    "InvalidVolume.NotFound": Verdict.UNKNOWN_VOLUME,
    "InvalidVolume.ZoneMismatch": Verdict.OTHER_ZONE,
    "InvalidVolumeID.Malformed": Verdict.UNKNOWN_VOLUME,
    "ResourceAlreadyAssociated": Verdict.ASK,
    "VolumeInUse": Verdict.ASK,
}


def verdict(refused: Ec2Refused) -> Verdict:
    """Judge a refused AttachVolume."""
    if refused.code == "InvalidParameterValue" and _NAME_TAKEN.search(refused.message):
        # A repeated call may have met the attachment that the first one made.
        return Verdict.ASK if refused.was_repeated else Verdict.NEXT_NAME
    return _VERDICTS.get(refused.code, Verdict.FAIL)
