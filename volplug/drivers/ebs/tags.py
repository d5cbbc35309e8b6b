"""The tags of a volume: writes and reads them. Pure.

Everything that volplug knows of a volume and EC2 does not is in its tags, so every later version has to read
them. EC2 allows 50 tags with keys of 128 and values of 256 characters:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from volplug.descriptions import DEFAULT_SUBPATH
from volplug.errors import InvalidOption, UnexpectedState
from volplug.models import FilesystemTag, VolumeSpec

CLUSTER: Final = "volplug:cluster"
NAME: Final = "volplug:name"
FS: Final = "volplug:fs"
FS_UUID: Final = "volplug:fs-uuid"
SUBPATH: Final = "volplug:subpath"
SPEC: Final = "volplug:spec"
VERSION: Final = "volplug:version"
DISPLAY_NAME: Final = "Name"

MAX_TAGS: Final = 50
MAX_VALUE_LENGTH: Final = 256
# Of the tags, not of the program: hosts with different versions of it send the same request.
FORMAT_VERSION: Final = "1"
# Where each checked part of a volume is read from.
SOURCES: Final = {
    "name": f"the volume's tag {NAME}",
    "volume_id": "the volume's id",
    "subpath": f"the volume's tag {SUBPATH}",
    "spec": f"the volume's tag {SPEC}",
    "filesystem": f"the volume's tag {FS}",
    "created_at": "the volume's time of creation",
}


class _Spec(BaseModel):
    """The contents of the spec tag; the name has a tag of its own."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    size: int
    fs: str
    mkfs: list[str] = []
    mount: list[str] = []
    uid: int
    gid: int
    mode: int
    profile: str
    options: dict[str, str] = {}


def tags_of(spec: VolumeSpec, cluster: str, user_tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the tags of a new, blank volume, sorted, so that every host sends the same.

    Args:
        spec: The volume's spec.
        cluster: Name shared by the hosts that share volumes.
        user_tags: The users' tags, checked already; they may set another `Name`.

    Raises:
        InvalidOption: If these are more tags than EC2 allows.
    """
    tags = {
        DISPLAY_NAME: spec.name,
        **user_tags,
        CLUSTER: cluster,
        NAME: spec.name,
        SUBPATH: DEFAULT_SUBPATH,
        VERSION: FORMAT_VERSION,
        FS: FilesystemTag().to_text(),
        FS_UUID: "",
        **_spec_tags(spec),
    }
    if len(tags) > MAX_TAGS:
        raise InvalidOption(
            f"the volume would have {len(tags)} tags, but EC2 takes {MAX_TAGS}",
            "Give fewer or shorter options",
        )
    return as_list(tags)


def fs_tags(tag: FilesystemTag) -> list[dict[str, str]]:
    """Return the tags that record a volume's filesystem; they belong in one CreateTags."""
    return as_list({FS: tag.to_text(), FS_UUID: tag.uuid})


def as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags in the form of EC2's parameters, sorted."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def as_mapping(description: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of an item of EC2's response."""
    return {tag["Key"]: tag.get("Value", "") for tag in description.get("Tags", ())}


def _spec_tags(spec: VolumeSpec) -> dict[str, str]:
    text = _Spec(
        size=spec.size_bytes,
        fs=spec.fs_type,
        mkfs=list(spec.mkfs_options),
        mount=list(spec.mount_options),
        uid=spec.uid,
        gid=spec.gid,
        mode=spec.mode,
        profile=spec.profile,
        options=dict(spec.driver_options),
    ).model_dump(exclude_defaults=True)
    # No value may begin or end with a space; JSON without separators has spaces in strings only.
    packed = json.dumps(text, separators=(",", ":"), sort_keys=True).replace(" ", "\\u0020")
    pieces = [packed[at : at + MAX_VALUE_LENGTH] for at in range(0, len(packed), MAX_VALUE_LENGTH)]
    return {_spec_key(number): piece for number, piece in enumerate(pieces)}


def _spec_key(number: int) -> str:
    return f"{SPEC}.{number}" if number else SPEC


def read_spec(name: str, tags: Mapping[str, str]) -> VolumeSpec:
    """Return a volume's spec.

    Raises:
        UnexpectedState: If its tags are missing or cannot be read.
    """
    if not name:
        raise UnexpectedState(f"the volume's tag {NAME} is missing")
    pieces: list[str] = []
    while (piece := tags.get(_spec_key(len(pieces)))) is not None:
        pieces.append(piece)
    try:
        read = _Spec.model_validate_json("".join(pieces))
    except ValidationError as error:
        raise UnexpectedState(
            f"the volume's tag {SPEC} cannot be read ({error.error_count()} errors)"
        ) from error
    return VolumeSpec(
        name=name,
        size_bytes=read.size,
        fs_type=read.fs,
        mkfs_options=tuple(read.mkfs),
        mount_options=tuple(read.mount),
        uid=read.uid,
        gid=read.gid,
        mode=read.mode,
        profile=read.profile,
        driver_options=tuple(sorted(read.options.items())),
    )


def read_filesystem(tags: Mapping[str, str]) -> FilesystemTag:
    """Return a volume's filesystem tag.

    Raises:
        UnexpectedState: If it is missing or cannot be read.
    """
    if FS not in tags:
        raise UnexpectedState(f"the volume's tag {FS} is missing")
    return FilesystemTag.from_text(tags[FS], tags.get(FS_UUID, ""))
