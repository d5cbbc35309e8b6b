"""The tags of a volume that are the same on every cloud: writes and reads them. Pure.

Everything that volplug knows of a volume and its cloud does not is in its tags, so every later version has to
read them. A cloud limits the length of a value, so the spec is cut into pieces: `volplug:spec`,
`volplug:spec.1`, ...
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from volplug.descriptions import DEFAULT_SUBPATH
from volplug.errors import InvalidOption, UnexpectedState
from volplug.masking import quoted
from volplug.models import FilesystemTag, VolumeSpec

CLUSTER: Final = "volplug:cluster"
NAME: Final = "volplug:name"
FS: Final = "volplug:fs"
FS_UUID: Final = "volplug:fs-uuid"
SUBPATH: Final = "volplug:subpath"
SPEC: Final = "volplug:spec"
VERSION: Final = "volplug:version"

# Of the tags, not of the program: hosts with different versions of it send the same request.
FORMAT_VERSION: Final = "1"


def sources_of(kind: str) -> dict[str, str]:
    """Return where each checked part of a volume is read from, in the cloud's word for a tag."""
    return {
        "name": f"the volume's {kind} {NAME}",
        "volume_id": "the volume's id",
        "subpath": f"the volume's {kind} {SUBPATH}",
        "spec": f"the volume's {kind} {SPEC}",
        "filesystem": f"the volume's {kind} {FS}",
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


def volume_tags(spec: VolumeSpec, cluster: str, value_length: int) -> dict[str, str]:
    """Return the tags of a new, blank volume.

    Args:
        spec: The volume's spec.
        cluster: Name shared by the hosts that share volumes.
        value_length: The longest value that the cloud takes.
    """
    return {
        CLUSTER: cluster,
        NAME: spec.name,
        SUBPATH: DEFAULT_SUBPATH,
        VERSION: FORMAT_VERSION,
        **filesystem_tags(FilesystemTag()),
        **_spec_tags(spec, value_length),
    }


def filesystem_tags(tag: FilesystemTag) -> dict[str, str]:
    """Return the tags that record a volume's filesystem; they belong in one call."""
    return {FS: tag.to_text(), FS_UUID: tag.uuid}


@dataclass(frozen=True, slots=True)
class UserTagRules:
    """What a cloud takes as tags of users, without those that it and volplug reserve.

    Attributes:
        key: The form of a key.
        key_words: Likewise, for errors.
        value_length: The longest value.
        reserved: How keys must not begin.
    """

    key: re.Pattern[str]
    key_words: str
    value_length: int
    reserved: tuple[str, ...]

    def check(self, key: str, value: str) -> None:
        """Check a tag; raises ValueError with what is wrong."""
        if self.key.fullmatch(key) is None:
            raise ValueError(f"tag {quoted(key)}: a key has {self.key_words}")
        if len(value) > self.value_length:
            raise ValueError(f"tag {quoted(key)}: a value has at most {self.value_length} characters")
        if key.lower().startswith(self.reserved):
            raise ValueError(f"tag {quoted(key)}: keys with {' or '.join(self.reserved)} are reserved")

    def checked(self, tags: Mapping[str, str]) -> Mapping[str, str]:
        """Return tags of the settings, checked."""
        for key, value in tags.items():
            self.check(key, value)
        return MappingProxyType(dict(tags))


def parse_user_tags(text: str, rules: UserTagRules, option: str, example: str) -> dict[str, str]:
    """Read an option with users' tags: `key=value,key=value`; a value may hold `=`.

    Args:
        text: The option's value.
        rules: Of the cloud.
        option: The option's name, for errors.
        example: How it is written, likewise.

    Raises:
        InvalidOption: If it cannot be read, or the cloud would refuse it.
    """
    tags: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or key.strip() in tags:
            raise InvalidOption(f"option {option!r} has {part[:40]!r}", f"Write {example}, each key once")
        try:
            rules.check(key.strip(), value.strip())
        except ValueError as error:
            raise InvalidOption(f"option {option!r}: {error}") from error
        tags[key.strip()] = value.strip()
    return tags


def check_forms(spec: VolumeSpec, forms: Mapping[str, re.Pattern[str]], examples: Mapping[str, str]) -> None:
    """Check that driver options have their form.

    Raises:
        InvalidOption: If one has not.
    """
    for name, value in spec.driver_options:
        if name in forms and forms[name].fullmatch(value) is None:
            raise InvalidOption(f"option {name!r} is {value[:40]!r}", f"Write {examples[name]}")


def _spec_tags(spec: VolumeSpec, value_length: int) -> dict[str, str]:
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
    pieces = [packed[at : at + value_length] for at in range(0, len(packed), value_length)]
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
