"""What proves that the instance that holds a volume is dead: two looks, some seconds apart, that agree. Pure.

One look proves nothing, for it may be a stale read: "stopped" of an instance that was started again.
https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from volplug.drivers.ebs.lookups import Description
from volplug.drivers.ebs.situations import Situation


@dataclass(frozen=True, slots=True)
class Look:
    """What one look shows of an instance and of its hold on a volume; all of it in EC2's words.

    Attributes:
        state: The instance's state.
        launch_time: When it was last launched; each start gives it another one.
        state_transition_reason: Why it is in its state, often with the time; may be empty.
        attachment_state: The state of the volume's attachment.
        attach_time: When the volume was attached; each attachment has its own.
        device: The name that the volume is attached by.
    """

    state: str
    launch_time: str
    state_transition_reason: str
    attachment_state: str
    attach_time: str
    device: str


def look_at(instance: Description, hold: Situation) -> Look:
    """Read the description of an instance that holds a volume."""
    return Look(
        state=str(instance["State"]["Name"]),
        launch_time=str(instance.get("LaunchTime", "")),
        state_transition_reason=str(instance.get("StateTransitionReason", "")),
        attachment_state=hold.detail,
        attach_time=hold.attach_time,
        device=hold.device,
    )


def difference(before: Look, after: Look) -> str:
    """Return what two looks disagree in, for people; "" if they agree."""
    for each in fields(Look):
        was, now = getattr(before, each.name), getattr(after, each.name)
        if was != now:
            return f"its {each.name.replace('_', ' ')} changed from {was or 'none'} to {now or 'none'}"
    return ""
