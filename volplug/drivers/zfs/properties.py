"""A volume's metadata as properties of its dataset. Pure.

They are the tags of volumes on clouds, named `org.volplug:NAME`, and in addition the dataset's guid, which is
written last and makes the dataset a volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from volplug.drivers.cloud import tags
from volplug.drivers.zfs.datasets import GUID, PREFIX
from volplug.errors import InvalidOption
from volplug.models import FilesystemTag, VolumeSpec

PURPOSE: Final = f"{PREFIX}purpose"
CLUSTER: Final = f"org.{tags.CLUSTER}"
NAME: Final = f"org.{tags.NAME}"
_MOST_PIECES: Final = 8  # of the spec; each has 1,023 characters at most
ALL: Final = (
    *(GUID, CLUSTER, NAME, PURPOSE),
    *(f"org.{each}" for each in (tags.VERSION, tags.SUBPATH, tags.FS, tags.FS_UUID, tags.SPEC)),
    *(f"org.{tags.SPEC}.{number}" for number in range(1, _MOST_PIECES)),
)


def volume_properties(spec: VolumeSpec, cluster: str, value_length: int) -> dict[str, str]:
    """Return the properties of a new dataset.

    Raises:
        InvalidOption: If the options are too long to be kept.
    """
    found = _named(tags.volume_tags(spec, cluster, value_length))
    if found.keys() - set(ALL):
        raise InvalidOption("the options of the volume are too long to be kept with it", "Write fewer")
    return found


def filesystem_properties(tag: FilesystemTag) -> dict[str, str]:
    """Return the properties that record what a dataset holds."""
    return _named(tags.filesystem_tags(tag))


def as_tags(own: Mapping[str, str]) -> dict[str, str]:
    """Return properties as the tags that `cloud.tags` reads."""
    return {name.removeprefix("org."): value for name, value in own.items()}


def _named(found: Mapping[str, str]) -> dict[str, str]:
    return {f"org.{name}": value for name, value in found.items() if value}
