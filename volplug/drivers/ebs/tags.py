"""The tags of a volume on EBS, in EC2's form. Pure.

EC2 allows 50 tags with keys of 128 and values of 256 characters:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from volplug.drivers.cloud.tags import volume_tags
from volplug.errors import InvalidOption
from volplug.models import VolumeSpec

DISPLAY_NAME: Final = "Name"

MAX_TAGS: Final = 50
MAX_VALUE_LENGTH: Final = 256


def tags_of(spec: VolumeSpec, cluster: str, user_tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the tags of a new, blank volume, sorted, so that every host sends the same.

    Args:
        spec: The volume's spec.
        cluster: Name shared by the hosts that share volumes.
        user_tags: The users' tags, checked already; they may set another `Name`.

    Raises:
        InvalidOption: If these are more tags than EC2 allows.
    """
    tags = {DISPLAY_NAME: spec.name, **user_tags, **volume_tags(spec, cluster, MAX_VALUE_LENGTH)}
    if len(tags) > MAX_TAGS:
        raise InvalidOption(
            f"the volume would have {len(tags)} tags, but EC2 takes {MAX_TAGS}",
            "Give fewer or shorter options",
        )
    return as_list(tags)


def as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags in the form of EC2's parameters, sorted."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def as_mapping(description: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of an item of EC2's response."""
    return {tag["Key"]: tag.get("Value", "") for tag in description.get("Tags", ())}
