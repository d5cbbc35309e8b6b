"""The ZFS driver: datasets of a pool of this host, which are filesystems from their creation.

A dataset is a volume once its own guid is among its properties: what was inherited, copied or made by hand is
none, and is neither shown nor changed. All else that volplug knows of a volume is among them, too.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from volplug.drivers.base import BackendLimit, DriverInfo, Holder, Scope
from volplug.drivers.zfs import volumes
from volplug.drivers.zfs.attachments import Attachments
from volplug.drivers.zfs.capabilities import Capabilities, probe
from volplug.drivers.zfs.commands import Datasets
from volplug.drivers.zfs.copies import DatasetCopies
from volplug.drivers.zfs.datasets import GUID, Dataset, Property
from volplug.drivers.zfs.deletion import destroy_volume
from volplug.drivers.zfs.encryption import load_key
from volplug.drivers.zfs.health import PoolHealth, check_usable, findings, pool_health
from volplug.drivers.zfs.known import KnownDatasets
from volplug.drivers.zfs.options import (
    OPTIONS,
    PROFILES,
    check_options,
    mountpoint_properties,
    native_properties,
)
from volplug.drivers.zfs.properties import filesystem_properties, volume_properties
from volplug.drivers.zfs.settings import ZfsSettings
from volplug.drivers.zfs.streams import Streams
from volplug.drivers.zfs.tools import RunProgram, ZfsTools
from volplug.errors import (
    ConfigurationError,
    UnexpectedState,
    VolplugError,
    VolumeExists,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.findings import Finding
from volplug.host.process import search_path
from volplug.host.threads import Pool, run_to_completion
from volplug.models import (
    FilesystemTag,
    HolderState,
    MountSource,
    NamedFilesystem,
    Volume,
    VolumeSpec,
    VolumeState,
)
from volplug.steps import OnStep, WorldStep, unannounced

_CALLS: Final = 32  # at once
_FILESYSTEMS: Final = Path("/proc/filesystems")
_INFO: Final = DriverInfo(
    driver="zfs",
    scope=Scope.LOCAL,
    remote=False,
    options=OPTIONS,
    option_aliases=MappingProxyType({"refreservation": "reservation", "encryption": "encrypted"}),
    profiles=PROFILES,
    own_filesystem=volumes.FILESYSTEM,
)


@dataclass(frozen=True, slots=True)
class ZfsHost:
    """What the driver has of this host.

    Attributes:
        node_id: Its name.
        attachments: The notes of what is attached.
        staging: The directory below which the tools of ZFS mount, where the kernel cannot.
        run_program: Runs the commands of ZFS.
        on_step: Called after every change.
        clock: A monotonic clock.
    """

    node_id: str
    attachments: Attachments
    staging: Path
    run_program: RunProgram
    on_step: OnStep = unannounced
    clock: Callable[[], float] = time.monotonic


class ZfsDriver:
    """Volumes of one pool. See `Driver` and its capabilities."""

    def __init__(self, backend: str, settings: ZfsSettings, host: ZfsHost) -> None:
        self._backend = backend
        self._node_id = host.node_id
        self._settings = settings
        self._attachments = host.attachments
        self._staging = host.staging
        self._on_step = host.on_step
        self._files = Pool(f"{backend}-notes", _CALLS)
        self._tools = ZfsTools(host.run_program, settings.timeout_s)
        self._probed: Capabilities | None = None
        self._has_reserve = False
        self._described_all = volumes.DescribedVolumes(backend, host.node_id)
        self._known = KnownDatasets(self._list, self._read, host.clock)

    @property
    def info(self) -> DriverInfo:
        """Return the driver's constants."""
        return _INFO

    @property
    def node_id(self) -> str:
        """Return the name of this host."""
        return self._node_id

    def unmet_requirements(self) -> Sequence[ConfigurationError]:
        """Return whether the programs of ZFS are missing."""
        path = search_path()
        missing = [name for name in ("zfs", "zpool") if shutil.which(name, path=path) is None]
        remedy = "Install zfsutils-linux, or zfs-fuse"
        return [ConfigurationError(f"the program {name} is not installed", remedy) for name in missing]

    def check_spec(self, spec: VolumeSpec) -> None:
        """Check the driver's own options."""
        check_options(spec, self._settings)

    async def create(self, spec: VolumeSpec) -> Volume:
        """Create a dataset with all its properties, then write its guid into it."""
        _INFO.check_size(spec.size_bytes)
        return await run_to_completion(self._create(spec))

    async def delete(self, volume: Volume) -> None:
        """Destroy the dataset, without -f: ZFS refuses what is in use, or has snapshots or children."""
        await run_to_completion(self._delete(volume))

    async def get(self, name: str) -> Volume | None:
        """Return the volume; what is known is at most 5 s old, and that there is none is read anew."""
        dataset = await self._known.one(name)
        if dataset is not None and not volumes.is_ours(dataset):
            self._known.forget(name)  # it may have been made a volume meanwhile
            dataset = await self._known.one(name)
        if dataset is None or not volumes.is_ours(dataset):
            return None
        return await self._described(dataset)

    async def absence(self, name: str) -> VolumeNotFound:
        """Say where a volume may be: with its pool, on another host; or a dataset that is none."""
        dataset = await (await self._datasets()).find(name)
        if dataset is not None:
            return VolumeNotFound(
                f"no such volume: the dataset {dataset.name} was not made by volplug, or is a copy",
                "Mount it by its own means, or choose another name",
            )
        return VolumeNotFound(
            f"no such volume in {self._settings.pool} of host {self._node_id}; a volume is where its pool is",
            f"Run the container on that host, or create it here: docker volume create -d volplug {name}",
        )

    async def list(self) -> Sequence[Volume]:
        """Return all volumes, those with unusable properties in state ERROR, by one command."""
        datasets = await self._known.all()
        return self._described_all.of(datasets, await self._files.blocking(self._attachments.now))

    async def attach(self, volume: Volume) -> MountSource:
        """Note that this host has it, once its key is loaded and ZFS does not mount it automatically."""
        return await run_to_completion(self._attach(volume))

    def locate(self, volume: Volume) -> MountSource | None:
        """Return the dataset if it is noted or mounted here; ZFS is not asked."""
        if not self._attachments.now().has(volume.volume_id, self._path(volume)):
            return None
        return self._source(volume, self._staging_of(volume.name))

    async def detach(self, volume: Volume) -> None:
        """Drop the note; the core has made the release test."""
        await run_to_completion(self._detach(volume))

    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        """Write those properties that differ."""
        return await run_to_completion(self._tag(volume, tag))

    async def holder_state(self, node_id: str) -> Holder:
        """Return ALIVE for this host; other hosts are unknown."""
        if node_id == self._node_id:
            return Holder(HolderState.ALIVE, "it is this host")
        return Holder(HolderState.UNKNOWN, "a dataset is used by the host that has its pool")

    async def health(self) -> None:
        """Check that the pool is imported, can be written, and has the dataset for volumes."""
        check_usable(await self._pool_health())
        await (await self._datasets()).check_parent()

    async def limits(self) -> Sequence[BackendLimit]:
        """Return the space of the pool, and what of it is promised to volumes by their quotas."""
        datasets = await self._datasets()
        parent = await datasets.check_parent()
        promised = sum(each.refquota for each in await datasets.list())
        return (
            BackendLimit("space", parent.used, parent.used + parent.available, "bytes"),
            BackendLimit("promised", promised, None, "bytes"),
        )

    async def diagnose(self) -> Sequence[Finding]:
        """Check the pool, and that it has the dataset for volumes, with space in it."""
        pool = self._settings.pool.partition("/")[0]
        found: PoolHealth | VolplugError
        try:
            check_usable(found := await self._pool_health())
            parent = await (await self._datasets()).check_parent()
            found = found.with_space(parent.used, parent.available)
        except VolplugError as error:
            found = error
        return findings(found, pool)

    async def received(self, name: str) -> str:
        """Return what this host has of a copy."""
        return await (await self._copies()).received(name)

    async def send_to(self, stream: int, volume: Volume, received: str) -> None:
        """Send what a copy lacks."""
        await (await self._copies()).send_to(stream, await self._current(volume), received)

    async def receive(self, stream: int, name: str) -> None:
        """Receive a copy."""
        await (await self._copies()).receive(stream, name)

    async def adopt(self, name: str) -> Volume:
        """Make a copy a volume."""
        try:
            return await self._described(await (await self._copies()).adopt(name))
        finally:
            self._known.forget(name)

    # What the calls do

    async def _create(self, spec: VolumeSpec) -> Volume:
        datasets = await self._datasets()
        try:
            dataset = await self._make(datasets, spec)
        except VolumeExists:
            dataset = await self._begun(datasets, spec)
        return await self._changed(datasets, spec.name, dataset, {GUID: dataset.guid})

    async def _begun(self, datasets: Datasets, spec: VolumeSpec) -> Dataset:
        """Return the dataset that an interrupted creation of the same spec has left.

        Raises:
            VolumeExists: If the dataset of this name is another.
        """
        dataset = await datasets.find(spec.name)
        if dataset is None:
            raise UnexpectedState(f"the dataset {datasets.path(spec.name)} has just gone", "Try again")
        if not volumes.is_ours(dataset):
            raise VolumeExists(
                f"the dataset {dataset.name} ({dataset.guid}) exists and is no volume",
                "Rename it, or choose another name",
            )
        existing = await self._described(dataset)
        if existing.state is not VolumeState.INCOMPLETE or existing.spec != spec:
            raise VolumeExists(f"the dataset {dataset.name} of volume {dataset.guid} exists")
        return dataset

    async def _make(self, datasets: Datasets, spec: VolumeSpec) -> Dataset:
        capabilities = await self._capabilities()
        if not self._has_reserve:
            await datasets.keep_reserve()
            self._has_reserve = True
        staging = await self._files.blocking(self._staging_of, spec.name)
        native = native_properties(spec, capabilities, self._settings, staging)
        properties = volume_properties(spec, "", capabilities.property_length)
        properties |= filesystem_properties(volumes.new_tag(uuid.uuid4()))
        try:
            await datasets.create(spec.name, native, properties)
        finally:
            self._known.forget(spec.name)
        self._on_step(WorldStep.DATASET_MADE)
        made = await datasets.find(spec.name)
        if made is None:
            raise UnexpectedState(f"the dataset {datasets.path(spec.name)} has gone while it was made")
        return made

    async def _delete(self, volume: Volume) -> None:
        datasets = await self._datasets()
        # What is known is enough if it is this volume: to destroy it, it is read anew and compared.
        known = await self._known.one(volume.name)
        dataset = known if known and _is_of(volume, known) else await self._current(volume)
        if (await self._files.blocking(self._attachments.now)).has(dataset.guid, dataset.name):
            raise VolumeInUse(f"volume {dataset.guid} ({dataset.name}) is attached", holder=self._node_id)
        try:
            await destroy_volume(datasets, self._tools, dataset)
        finally:
            self._known.forget(volume.name)

    async def _attach(self, volume: Volume) -> MountSource:
        dataset = await self._current(volume)
        shown = await self._described(dataset)
        if shown.state in (VolumeState.ERROR, VolumeState.INCOMPLETE):
            raise UnexpectedState(shown.detail or "its creation was interrupted", "Nothing was changed")
        staging = await self._files.blocking(self._staging_of, volume.name)
        if staging is not None and dataset.mountpoint != str(staging):
            await (await self._datasets()).set(dataset.name, mountpoint_properties(staging))
            self._known.forget(volume.name)
        if dict(shown.spec.driver_options).get("encrypted") == "true":
            await load_key(self._tools, dataset.name)
        await self._files.to_the_end(self._attachments.note, dataset.guid, volume.name)
        self._on_step(WorldStep.DATASET_NOTED)
        return self._source(volume, staging)

    async def _detach(self, volume: Volume) -> None:
        attached = await self._files.blocking(self._attachments.now)
        path = self._path(volume)
        if not attached.has(volume.volume_id, path):
            await self._current(volume)
            return
        if path in attached.mounted:
            raise VolumeInUse(f"volume {volume.volume_id} ({path}) is mounted", holder=self._node_id)
        await self._files.to_the_end(self._attachments.drop, volume.volume_id)

    async def _tag(self, volume: Volume, tag: FilesystemTag) -> Volume:
        datasets, dataset = await self._datasets(), await self._current(volume)
        wanted = filesystem_properties(tag)
        differing = {name: value for name, value in wanted.items() if dataset.own.get(name) != value}
        return await self._changed(datasets, volume.name, dataset, differing)

    async def _changed(
        self, datasets: Datasets, name: str, dataset: Dataset, properties: Mapping[str, str]
    ) -> Volume:
        """Write properties of a dataset, and return the volume that it is then."""
        try:
            if properties:
                await datasets.set(dataset.name, properties)
        finally:
            self._known.forget(name)
        written = {each: Property(value, "local") for each, value in properties.items()}
        written_to = replace(dataset, properties={**dataset.properties, **written})
        self._known.changed(name, written_to)
        return await self._described(written_to)

    async def _current(self, volume: Volume) -> Dataset:
        """Read the dataset of a volume anew.

        Raises:
            VolumeNotFound: If it is gone, or another dataset has its name.
        """
        dataset = await self._read(volume.name)
        if dataset is None or not _is_of(volume, dataset):
            self._known.forget(volume.name)  # or a list shows for a while what Remove has found gone
            raise VolumeNotFound(f"{volume.volume_id} does not exist any more")
        return dataset

    async def _described(self, dataset: Dataset) -> Volume:
        attached = await self._files.blocking(self._attachments.now)
        return volumes.described(dataset, self._backend, self._node_id, attached)

    # This host's ZFS

    async def _capabilities(self) -> Capabilities:
        if self._probed is None:
            self._probed = await probe(self._tools)
        return self._probed

    async def _datasets(self) -> Datasets:
        capabilities = await self._capabilities()
        return Datasets(self._tools, self._settings.pool, capabilities, self._settings.reserve_bytes)

    async def _copies(self) -> DatasetCopies:
        datasets = await self._datasets()
        return DatasetCopies(datasets, Streams(self._tools, datasets, await self._capabilities()))

    async def _list(self) -> tuple[Dataset, ...]:
        return await (await self._datasets()).list()

    async def _read(self, name: str) -> Dataset | None:
        return await (await self._datasets()).find(name)

    async def _pool_health(self) -> PoolHealth:
        capabilities = await self._capabilities()
        pool = self._settings.pool.partition("/")[0]
        return await pool_health(self._tools, pool, has_readonly=capabilities.mounts_by_kernel)

    def _path(self, volume: Volume) -> str:
        return f"{self._settings.pool}/{volume.name}"

    def _source(self, volume: Volume, staging: Path | None) -> NamedFilesystem:
        return NamedFilesystem(
            self._path(volume), volume.volume_id, volumes.FILESYSTEM, staging=str(staging) if staging else ""
        )

    def _staging_of(self, name: str) -> Path | None:
        """Return where the tools of ZFS mount a volume; None if the kernel does. Blocks."""
        types = _FILESYSTEMS.read_text(encoding="ascii").split()
        return None if volumes.FILESYSTEM in types else self._staging / name


def _is_of(volume: Volume, dataset: Dataset) -> bool:
    return dataset.guid == volume.volume_id and volumes.is_ours(dataset)
