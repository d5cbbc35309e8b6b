"""The metadata of a volume: what volplug writes on it, within the limits of Cinder. Pure.

Cinder takes keys of 1 to 255 of the characters `[a-zA-Z0-9-_:. ]` and values of up to 255 characters:
https://opendev.org/openstack/cinder/src/branch/master/cinder/api/validation/parameter_types.py
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from volplug.drivers.cloud.tags import volume_tags
from volplug.models import VolumeSpec

TOKEN: Final = "volplug:token"  # noqa: S105  # a key; its value identifies the creation
ATTACHED: Final = "volplug:attached"

MAX_VALUE_LENGTH: Final = 255
_KEY: Final = re.compile(r"[a-zA-Z0-9_:. -]{1,255}")
_RESERVED_PREFIX: Final = "volplug:"


def metadata_of(
    spec: VolumeSpec, cluster: str, user_metadata: Mapping[str, str], token: str
) -> dict[str, str]:
    """Return the metadata of a new, blank volume.

    Args:
        spec: The volume's spec.
        cluster: Name shared by the hosts that share volumes.
        user_metadata: The users' own, checked already.
        token: Of the creation, from this host's notes.
    """
    return {**user_metadata, **volume_tags(spec, cluster, MAX_VALUE_LENGTH), TOKEN: token}


def check_user_metadata(key: str, value: str) -> None:
    """Check a user's metadata against the limits of Cinder and the keys that volplug reserves.

    Raises:
        ValueError: With what is wrong.
    """
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"key {key[:40]!r}: 1 to 255 letters, digits, spaces and -_:. are allowed")
    if len(value) > MAX_VALUE_LENGTH:
        raise ValueError(f"key {key[:40]!r}: a value has at most {MAX_VALUE_LENGTH} characters")
    if key.lower().startswith(_RESERVED_PREFIX):
        raise ValueError(f"key {key[:40]!r}: keys with {_RESERVED_PREFIX} are reserved")
