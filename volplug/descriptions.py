"""Descriptions of volumes from outside are input: checked here before anything believes them. Pure.

Tags can be changed by every principal with ec2:CreateTags, record files and state files by those who write to
their disk. They pass the same checks as the options of users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final
from uuid import UUID

from volplug.errors import InvalidName, InvalidOption
from volplug.host.filesystems import FILESYSTEMS, NAMED
from volplug.host.filesystems.options import check_label, check_mkfs_options, check_mount_options
from volplug.models import FilesystemPhase, FilesystemTag, Volume, VolumeSpec, VolumeState
from volplug.names import check_name, is_name

DEFAULT_SUBPATH: Final = "data"
MAX_ID: Final = 2**32 - 2
MAX_MODE: Final = 0o7777
_MAX_SIZE_BYTES: Final = 2**63 - 1
_TYPES: Final = frozenset({*FILESYSTEMS, *NAMED})
# Permits nothing: neither mkfs nor a mount.
_UNKNOWN_CONTENTS: Final = FilesystemTag(FilesystemPhase.FORMATTED, "unknown")


def checked(
    volume: Volume,
    source_of: Callable[[str], str],
    check_options: Callable[[VolumeSpec], None] = lambda _: None,
) -> Volume:
    """Return a volume as described if all of the description may be used, or else one in state ERROR.

    Args:
        volume: As read.
        source_of: Given `name`, `volume_id`, `subpath`, `spec`, `filesystem` or `created_at`, says in words
            where that was read, for the detail of the error: `the volume's tag volplug:name`.
        check_options: The check of a driver's own options, if the driver uses them after the creation.
    """
    if volume.state is VolumeState.ERROR and volume.filesystem == _UNKNOWN_CONTENTS:
        return unusable(volume, volume.detail)  # it was so when it was written
    for what, check in (*_CHECKS.items(), ("spec", lambda each: check_options(each.spec))):
        try:
            check(volume)
        except (InvalidName, InvalidOption) as error:
            return unusable(volume, f"{source_of(what)} cannot be used: {error.cause}")
    return volume


def unusable(volume: Volume, detail: str) -> Volume:
    """Return the volume in state ERROR, which permits neither mkfs nor a mount; no path of it is opened.

    One whose name is none is listed under the id that its backend gave it.
    """
    name = volume.name if is_name(volume.name) else volume.volume_id
    size_bytes = max(volume.size_bytes, 0)
    return replace(
        volume,
        name=name,
        size_bytes=size_bytes,
        state=VolumeState.ERROR,
        spec=VolumeSpec(name, size_bytes),
        filesystem=_UNKNOWN_CONTENTS,
        subpath=DEFAULT_SUBPATH,
        created_at=volume.created_at if _has_zone(volume) else None,
        detail=detail,
    )


def _check_name(volume: Volume) -> None:
    check_name(volume.name)
    if volume.spec.name != volume.name:
        raise InvalidName(f"{volume.spec.name!r} is the name of another volume")


def _check_id(volume: Volume) -> None:
    if not is_name(volume.volume_id):
        raise InvalidName(f"{volume.volume_id[:40]!r} is no id of a volume")


def _check_subpath(volume: Volume) -> None:
    if volume.subpath and not is_name(volume.subpath):
        raise InvalidName(f"{volume.subpath[:40]!r} is not the name of one directory")


def _check_spec(volume: Volume) -> None:
    spec = volume.spec
    if spec.fs_type not in _TYPES:
        raise InvalidOption(f"unknown filesystem {spec.fs_type[:40]!r}")
    if volume.filesystem.phase is not FilesystemPhase.FORMATTED:
        # Later they are never used again.
        check_label(spec.fs_type, check_mkfs_options(spec.fs_type, spec.mkfs_options))
    if check_mount_options(",".join(spec.mount_options), spec.fs_type) != spec.mount_options:
        raise InvalidOption("the mount options are not a list of options")
    for what, value, maximum in (
        ("size", spec.size_bytes, _MAX_SIZE_BYTES),
        ("size", volume.size_bytes, _MAX_SIZE_BYTES),
        ("uid", spec.uid, MAX_ID),
        ("gid", spec.gid, MAX_ID),
        ("mode", spec.mode, MAX_MODE),
    ):
        if not 0 <= value <= maximum:
            raise InvalidOption(f"{what} {value} is not within 0 and {maximum}")


def _check_filesystem(volume: Volume) -> None:
    tag, planned = volume.filesystem, volume.spec.fs_type
    if planned in NAMED or tag.fs_type in NAMED:
        if tag.fs_type != planned:  # pending, too: such a filesystem is there from the volume's creation
            raise InvalidOption(f"{tag.to_text()[:40]!r} is no tag of a volume that is to be {planned[:40]}")
    elif tag.phase is FilesystemPhase.PENDING:
        return
    if tag.fs_type not in _TYPES:
        raise InvalidOption(f"unknown filesystem {tag.fs_type[:40]!r}")
    if (tag.uuid or tag.phase is FilesystemPhase.FORMATTING) and not _is_uuid(tag.uuid):
        raise InvalidOption(f"{tag.uuid[:40]!r} is no UUID of a filesystem")


def _check_created_at(volume: Volume) -> None:
    if not _has_zone(volume):
        raise InvalidOption(f"the time {volume.created_at} has no time zone")


def _has_zone(volume: Volume) -> bool:
    """Tell whether the time of creation can be shown: Docker does not read one without a time zone."""
    return volume.created_at is None or volume.created_at.tzinfo is not None


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


_CHECKS: Final[dict[str, Callable[[Volume], None]]] = {
    "volume_id": _check_id,
    "name": _check_name,
    "subpath": _check_subpath,
    "spec": _check_spec,
    "filesystem": _check_filesystem,
    "created_at": _check_created_at,
}
