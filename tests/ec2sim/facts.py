"""The state of the simulated EC2: frozen values, replaced when something changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Self

REGION: Final = "eu-central-1"
ZONES: Final = tuple(f"{REGION}{letter}" for letter in "abc")
ZONE: Final = ZONES[0]

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceState.html
INSTANCE_STATES: Final = {
    "pending": 0,
    "running": 16,
    "shutting-down": 32,
    "terminated": 48,
    "stopping": 64,
    "stopped": 80,
}


def now() -> str:
    """Return the time as EC2 writes it: ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Attachment:
    """Where a volume is attached.

    Attributes:
        instance_id: The instance.
        device: The name that AttachVolume asked for.
        status: attaching, attached, detaching or busy.
        attach_time: ISO 8601.
        is_plugged: Whether the hypervisor has made the device appear.
    """

    instance_id: str
    device: str
    status: str
    attach_time: str
    is_plugged: bool = False


@dataclass(frozen=True, slots=True)
class VolumeFact:
    """A volume as EC2 knows it.

    Attributes:
        status: creating, available, in-use, deleting or error.
        create_time: ISO 8601.
        kms_key_id: Its key as asked for, or empty.
    """

    volume_id: str
    status: str
    size_gib: int
    zone: str
    volume_type: str
    create_time: str
    tags: Mapping[str, str] = field(default_factory=dict)
    attachment: Attachment | None = None
    encrypted: bool = False
    kms_key_id: str = ""

    def with_attachment(self, **changes: Any) -> Self:  # noqa: ANN401 - fields of Attachment
        """Return it with some fields of its attachment changed."""
        if self.attachment is None:
            raise ValueError(f"{self.volume_id} is not attached")
        return replace(self, attachment=replace(self.attachment, **changes))


@dataclass(frozen=True, slots=True)
class NewVolume:
    """A volume to be added without the API, for tests that need many."""

    tags: Mapping[str, str] = field(default_factory=dict)
    size_gib: int = 1
    zone: str = ZONE
    volume_type: str = "gp3"


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance, its credentials and its view of the hardware.

    Attributes:
        kind: nitro or xen.
        name: Its tag Name, or empty if it has none.
        private_dns_name: Its name in the network, which a terminated instance has not.
        state: One of `INSTANCE_STATES`.
        launch_time: When it was last launched, ISO 8601; another one after each start.
        transition_reason: Why it is in its state, where EC2 says so.
        attachment_limit: How many volumes can be attached at once.
        access_key: Of its temporary credentials, as the metadata service gives them.
        sys_root: The directory that is its /sys, or empty if the hypervisor shows nothing.
        dev_root: The directory that is its /dev, or empty.
    """

    instance_id: str
    zone: str
    kind: str = "nitro"
    name: str = ""
    private_dns_name: str = ""
    state: str = "running"
    launch_time: str = ""
    transition_reason: str = ""
    attachment_limit: int = 27
    access_key: str = ""
    secret_key: str = ""
    session_token: str = ""
    sys_root: str = ""
    dev_root: str = ""
