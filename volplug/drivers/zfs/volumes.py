"""Which datasets are volumes, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from volplug.descriptions import checked, unusable
from volplug.drivers.cloud import tags
from volplug.drivers.zfs.attachments import Attached
from volplug.drivers.zfs.datasets import GUID, Dataset
from volplug.drivers.zfs.properties import NAME, as_tags
from volplug.errors import UnexpectedState
from volplug.models import FilesystemPhase, FilesystemTag, Volume, VolumeSpec, VolumeState
from volplug.names import is_name

FILESYSTEM = "zfs"


def new_tag(unique: UUID) -> FilesystemTag:
    """Return the tag of a new volume: its filesystem is there, and lacks the data directory."""
    return FilesystemTag(FilesystemPhase.FORMATTING, FILESYSTEM, str(unique))


def name_of(dataset: Dataset) -> str:
    """Return the Docker name of a dataset's volume: the last part of its own, also if that was renamed."""
    return dataset.name.rpartition("/")[2]


def is_ours(dataset: Dataset) -> bool:
    """Tell whether a dataset is a volume, or one whose creation was interrupted.

    A copy by `zfs send -p` has the guid of the original among its properties, and so is none.
    """
    return dataset.is_volume or (GUID not in dataset.own and dataset.own.get(NAME) == name_of(dataset))


class DescribedVolumes:
    """The volumes of a backend as last described, which takes most of the time of a list.

    Args:
        backend: Its name.
        node_id: The name of this host.
    """

    def __init__(self, backend: str, node_id: str) -> None:
        self._backend = backend
        self._node_id = node_id
        self._datasets: Mapping[str, Dataset] = {}
        self._attached: Attached | None = None
        self._volumes: tuple[Volume, ...] = ()

    def of(self, datasets: Mapping[str, Dataset], attached: Attached) -> tuple[Volume, ...]:
        """Return the volumes among datasets: the same object if it is asked with the same ones again."""
        if datasets is not self._datasets or attached != self._attached:
            self._datasets, self._attached = datasets, attached
            ours = [each for each in datasets.values() if is_ours(each)]
            self._volumes = tuple(described(each, self._backend, self._node_id, attached) for each in ours)
        return self._volumes


def described(dataset: Dataset, backend: str, node_id: str, attached: Attached) -> Volume:
    """Return the volume of a dataset that is one; in state ERROR if it cannot be read or believed."""
    name, own = name_of(dataset), as_tags(dataset.own)
    is_attached = attached.has(dataset.guid, dataset.name)
    state = VolumeState.IN_USE if is_attached else VolumeState.AVAILABLE
    bare = Volume(
        name=name,
        volume_id=dataset.guid,
        backend=backend,
        size_bytes=dataset.refquota,
        state=state if dataset.is_volume else VolumeState.INCOMPLETE,
        spec=VolumeSpec(name, dataset.refquota),
        created_at=dataset.created_at,
        holder=node_id if is_attached else None,
        details=(("dataset", dataset.name),),
    )
    try:
        spec = tags.read_spec(name, own)
        found = replace(
            bare,
            size_bytes=dataset.refquota or spec.size_bytes,
            spec=spec,
            filesystem=tags.read_filesystem(own),
            subpath=own.get(tags.SUBPATH, ""),
        )
    except UnexpectedState as error:
        return unusable(bare, error.cause)
    if not is_name(dataset.own.get(NAME, name)):
        return unusable(bare, f"{dataset.name}: its property {NAME} is no name of a volume")
    volume = checked(found, lambda what: f"{dataset.name}: its {what}")
    if volume.state is not VolumeState.ERROR and volume.spec.fs_type != FILESYSTEM:
        return unusable(volume, f"{dataset.name}: its property org.{tags.SPEC} is that of no dataset")
    return volume
