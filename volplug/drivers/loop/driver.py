"""The loop driver: image files and their records, attached by loop devices of this host.

A volume exists if its record does. The record is written before the image and removed after it, so an image
without a record is not volplug's and never touched, and a crash leaves a record in state `incomplete` or
`deleting`.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from volplug.config.mistakes import Number, combined, described
from volplug.drivers.base import BackendConfig, BackendLimit, DriverInfo, Holder, Scope
from volplug.drivers.loop.devices import LoopDevices
from volplug.drivers.loop.diagnosis import LoopDiagnosis
from volplug.drivers.loop.directory import Directory
from volplug.drivers.loop.images import Images, is_image_name
from volplug.drivers.loop.known import KnownVolumes
from volplug.drivers.loop.listing import CachedList
from volplug.drivers.loop.records import RecordFiles
from volplug.errors import (
    BackendUnavailable,
    HostError,
    InvalidOption,
    UnexpectedState,
    VolplugError,
    VolumeExists,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.findings import Finding
from volplug.host import loop_attach, loop_discard, loopdev
from volplug.host.threads import DevicePool
from volplug.masking import quoted
from volplug.models import BlockDevice, FilesystemTag, HolderState, Volume, VolumeSpec, VolumeState
from volplug.steps import OnStep, WorldStep, unannounced

_CALLS: Final = 32  # of each kind at once
_SECTOR_BYTES: Final = 512
_DIAGNOSIS_S: Final = 20.0  # a guess: thousands of records are read in a second
_ALLOCATIONS: Final = ("preallocated", "sparse")
_INFO: Final = DriverInfo(
    driver="loop",
    scope=Scope.LOCAL,
    remote=False,
    options=MappingProxyType({"allocation": "|".join(_ALLOCATIONS)}),
    profiles=MappingProxyType({"sparse": MappingProxyType({"allocation": "sparse"})}),
)


class LoopSettings(BaseModel):
    """Settings of a `[backends.NAME]` table with `driver = "loop"`.

    Attributes:
        directory: Of images and records; by default below the state directory.
        overcommit: How many times the free space may be promised to volumes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    directory: Path | None = None
    overcommit: Number = Field(default=1.0, gt=0)

    @field_validator("directory")
    @classmethod
    def _check_directory(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError(f"{quoted(str(path))} is not an absolute path", "Write one that begins with /")
        return path


def build(config: BackendConfig) -> LoopDriver:
    """Build the driver of one configured backend.

    Raises:
        ConfigurationError: If a setting is wrong.
    """
    try:
        settings = LoopSettings.model_validate(dict(config.settings))
    except ValidationError as error:
        known = {"driver", *LoopSettings.model_fields}
        raise combined(described(error, known, config.place)) from None
    directory = settings.directory or config.state_dir / "backends" / config.name
    id_copy = config.state_dir / "backends" / f"{config.name}.id"
    return LoopDriver(config.name, config.node_id, directory, settings.overcommit, id_copy, config.on_step)


class LoopDriver:
    """Volumes in a directory of this host. See `Driver`, `ExplainsAbsence`, `ReportsLimits`, `Diagnoses`."""

    def __init__(
        self,
        backend: str,
        node_id: str,
        directory: Path,
        overcommit: float = 1.0,
        id_copy: Path | None = None,
        on_step: OnStep = unannounced,
    ) -> None:
        self._on_step = on_step
        # A disk that blocks writes may still answer reads, so reads have threads of their own.
        self._changes = DevicePool(f"{backend}-changes", _CALLS, backend)
        self._reads = DevicePool(f"{backend}-reads", _CALLS, backend)
        self._backend = backend
        self._node_id = node_id
        self._directory = Directory(directory, id_copy)
        self._known = KnownVolumes(directory)
        self._records = RecordFiles(directory, self.check_spec, self._known.take_changed_records)
        self._images = Images(directory, overcommit)
        self._listing = CachedList(directory)
        self._devices = LoopDevices(directory, self._records, self._images)
        self._diagnosis = LoopDiagnosis(
            self._directory, self._images, self._read_all, lambda volume: _is_sparse(volume.spec)
        )

    @property
    def info(self) -> DriverInfo:
        """Return the driver's constants."""
        return _INFO

    @property
    def node_id(self) -> str:
        """Return the name of this host."""
        return self._node_id

    @property
    def directory(self) -> Path:
        """Return the directory of images and records."""
        return self._directory.path

    def check_spec(self, spec: VolumeSpec) -> None:
        """Check the option `allocation`."""
        allocation = dict(spec.driver_options).get("allocation", "preallocated")
        if allocation not in _ALLOCATIONS:
            raise InvalidOption(f"option 'allocation' is {allocation!r}", f"Use {' or '.join(_ALLOCATIONS)}")

    async def create(self, spec: VolumeSpec) -> Volume:
        """Write the record, then make the image, then mark the record as available."""
        return await self._changes.to_the_end(self._create, spec)

    async def delete(self, volume: Volume) -> None:
        """Mark the record as deleting, then remove the image, then the record."""
        await self._changes.to_the_end(self._delete, volume)

    async def get(self, name: str) -> Volume | None:
        """Return the volume from its record and this host's loop devices, read again once they changed."""
        known = self._known.get(name)
        return known if known is not None else await self._reads.blocking(self._get, name)

    async def absence(self, name: str) -> VolumeNotFound:
        """Name the image of the volume, if it is there without its record."""
        image = self._images.path(name)
        if await self._reads.blocking(self._images.stat, name) is None:
            return VolumeNotFound("no such volume", f"Create it: docker volume create -d volplug {name}")
        return VolumeNotFound(
            f"no such volume: the image {image} is there, its record {image.stem}.json is not",
            "Restore the record from a backup",
        )

    async def list(self) -> Sequence[Volume]:
        """Return all volumes, those with unusable records in state ERROR."""
        return await self._reads.blocking(self._list)

    async def attach(self, volume: Volume) -> BlockDevice:
        """Attach the image to a loop device, or adopt the one that has it."""
        return await self._changes.to_the_end(self._attach, volume)

    def locate(self, volume: Volume) -> BlockDevice | None:
        """Return the loop device that has the image, identified by device and inode."""
        device = self._devices.find_and_keep(volume)
        return self._devices.source(volume, device) if device else None

    async def detach(self, volume: Volume) -> None:
        """Detach the loop device and wait until the kernel has closed the image."""
        await self._changes.to_the_end(self._detach, volume)

    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        """Replace the record durably."""
        return await self._changes.to_the_end(self._tag, volume, tag)

    async def holder_state(self, node_id: str) -> Holder:
        """Return ALIVE for this host; other hosts are unknown."""
        if node_id == self._node_id:
            return Holder(HolderState.ALIVE, "it is this host")
        return Holder(HolderState.UNKNOWN, "loop volumes never leave their host")

    async def health(self) -> None:
        """Check that the directory exists, or can be made, and is writable."""
        await self._reads.blocking(self._directory.check_usable)

    async def limits(self) -> Sequence[BackendLimit]:
        """Return the space for images, and what of it is promised."""
        return await self._reads.blocking(self._limits)

    async def diagnose(self) -> Sequence[Finding]:
        """See `LoopDiagnosis`; a disk that does not answer is a finding."""
        try:
            async with asyncio.timeout(_DIAGNOSIS_S):
                return await self._reads.blocking(self._diagnosis.findings)
        except TimeoutError:
            cause = f"its disk has not answered in {_DIAGNOSIS_S:.0f} s"
            return [
                self._diagnosis.unreadable(BackendUnavailable(cause, "See what the kernel reports: dmesg"))
            ]
        except VolplugError as error:
            return [self._diagnosis.unreadable(error)]

    # In threads

    def _create(self, spec: VolumeSpec) -> Volume:
        _INFO.check_size(spec.size_bytes)
        self._directory.mark()
        volume = self._begin_creation(spec)
        self._images.path(spec.name).unlink(missing_ok=True)  # left by an interrupted creation
        try:
            self._images.check_room(spec.size_bytes, is_sparse=_is_sparse(spec))
            self._images.make(spec.name, spec.size_bytes, is_sparse=_is_sparse(spec))
        except Exception:
            self._records.remove(spec.name)
            raise
        self._on_step(WorldStep.LOOP_IMAGE_MADE)
        available = replace(volume, state=VolumeState.AVAILABLE)
        self._records.write(available)
        return self._described(available)

    def _begin_creation(self, spec: VolumeSpec) -> Volume:
        """Write the record of an incomplete volume, or return that of an interrupted creation."""
        record = self._records.read(spec.name)
        if record is not None:
            if record.state is VolumeState.INCOMPLETE and record.spec == spec:
                return record
            _refuse_unusable(record)
            raise VolumeExists(f"the record of a volume {record.volume_id} of this name exists")
        if self._images.stat(spec.name) is not None:
            raise VolumeExists(
                f"the image {self._images.path(spec.name)} exists without a record",
                "Restore its record from a backup, or move the image away",
            )
        volume = Volume(
            name=spec.name,
            volume_id=f"loop-{uuid.uuid4().hex[:12]}",
            backend=self._backend,
            size_bytes=spec.size_bytes,
            state=VolumeState.INCOMPLETE,
            spec=spec,
            created_at=datetime.now(UTC).replace(microsecond=0),
        )
        self._records.write(volume)
        self._on_step(WorldStep.LOOP_RECORD_BEGUN)
        return volume

    def _delete(self, volume: Volume) -> None:
        record = self._recorded(volume)
        device = self._devices.find(record)
        if device is not None:
            raise VolumeInUse(f"the volume's image is attached to {device.path}", holder=self._node_id)
        self._images.remove(volume.name, partial(self._mark_as_deleting, record))
        self._on_step(WorldStep.LOOP_IMAGE_REMOVED)
        self._records.remove(volume.name)
        self._devices.forget(volume)

    def _mark_as_deleting(self, record: Volume) -> None:
        """Record the deletion; if the disk is full, a crash leaves a volume whose image is missing."""
        with suppress(HostError):
            self._records.write(replace(record, state=VolumeState.DELETING))
        self._on_step(WorldStep.LOOP_RECORD_DELETING)

    def _get(self, name: str) -> Volume | None:
        token = self._known.begin()
        self._directory.check()
        self._known.watch(self._directory.identity)
        record = self._records.read(name)
        if record is None:
            return None
        found = self._observed(record, self._images.stat(name), self._devices.find_by_image(record))
        self._known.keep(found, token)
        return found

    def _limits(self) -> Sequence[BackendLimit]:
        self._directory.check()
        return self._images.limits(self._directory.place())

    def _list(self) -> Sequence[Volume]:
        self._directory.check()
        if not self._directory.path.exists():
            return []
        devices = loopdev.attached(is_image_name)
        return self._listing.volumes(devices, partial(self._read_all, devices))

    def _read_all(self, devices: Sequence[loopdev.LoopDevice]) -> Sequence[Volume]:
        attached = {(each.backing_dev, each.backing_inode): each for each in devices}
        volumes = []
        for record in self._records.read_all():
            image = self._images.stat(record.name)
            device = attached.get((image.st_dev, image.st_ino)) if image else None
            volumes.append(self._observed(record, image, device))
        return volumes

    def _observed(
        self, record: Volume, image: os.stat_result | None, device: loopdev.LoopDevice | None
    ) -> Volume:
        """Complete a record with the state of its image and its loop device."""
        shown = self._described(record)
        if record.state is VolumeState.ERROR:
            size_bytes = image.st_size if image else shown.size_bytes
            return replace(shown, size_bytes=size_bytes, holder=self._node_id if device else None)
        if record.state is not VolumeState.AVAILABLE:
            return shown
        if detail := self._images.damage(record, image):
            now = self._records.read(record.name)
            if now is None:
                return replace(shown, state=VolumeState.DELETING)  # deleted meanwhile
            if now != record:
                return self._observed(now, self._images.stat(record.name), device)
            shown = replace(shown, state=VolumeState.ERROR, detail=detail)
        else:
            state = VolumeState.AVAILABLE if device is None else VolumeState.IN_USE
            shown = replace(shown, state=state, size_bytes=_device_bytes(record, image))
        return replace(shown, holder=self._node_id) if device is not None else shown

    def _described(self, record: Volume) -> Volume:
        image = f"{self._directory.path}/{record.name}.img"
        return replace(record, backend=self._backend, details=(("image", image),))

    def _recorded(self, volume: Volume) -> Volume:
        self._directory.check()
        record = self._records.read(volume.name)
        if record is None or record.volume_id != volume.volume_id:
            raise VolumeNotFound(f"{volume.volume_id} does not exist any more")
        _refuse_unusable(record)
        return record

    def _attach(self, volume: Volume) -> BlockDevice:
        record = self._recorded(volume)
        if detail := self._images.damage(record, self._images.stat(record.name)):
            raise UnexpectedState(detail, "Nothing was changed")
        is_sparse = _is_sparse(record.spec)
        self._devices.refuse_outdated(record)
        try:
            path = str(self._images.path(volume.name))
            device = loop_attach.attach(path, volume.volume_id, discards=is_sparse)
            self._known.drop(volume.name)
            self._on_step(WorldStep.LOOP_CONFIGURED)
        except VolumeInUse:
            found = self._devices.find_and_keep(record)
            if found is None:
                raise
            device = found  # attached already, perhaps by a previous process
        if not is_sparse:
            loop_discard.disable_discard(device.path)
        self._devices.note(volume, device)
        return self._devices.source(volume, device)

    def _detach(self, volume: Volume) -> None:
        device = self._devices.find(volume)
        if device is None:
            self._recorded(volume)
        else:
            loopdev.detach(device.path, expected=device)

    def _tag(self, volume: Volume, tag: FilesystemTag) -> Volume:
        record = replace(self._recorded(volume), filesystem=tag)
        self._records.write(record)
        return self._observed(record, self._images.stat(record.name), self._devices.find_by_image(record))


def _refuse_unusable(record: Volume) -> None:
    if record.state is VolumeState.ERROR:
        raise UnexpectedState(record.detail, "Nothing was changed; restore or correct its record")


def _device_bytes(record: Volume, image: os.stat_result | None) -> int:
    """Return the size of the loop device that an image makes; it may be larger than its record."""
    return image.st_size // _SECTOR_BYTES * _SECTOR_BYTES if image else record.size_bytes


def _is_sparse(spec: VolumeSpec) -> bool:
    return dict(spec.driver_options).get("allocation") == "sparse"
