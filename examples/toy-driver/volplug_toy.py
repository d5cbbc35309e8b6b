"""A driver for volplug, to learn from: sparse files on a shelf, attached as loop devices.

docs/writing-a-driver.md of volplug explains it. For real volumes on one host use the driver `loop`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from volplug import errors
from volplug.drivers.base import BackendConfig, DriverInfo, Holder, Scope
from volplug.host import devices, loop_attach, loopdev
from volplug.host.threads import Pool
from volplug.models import BlockDevice, FilesystemTag, HolderState, Volume, VolumeSpec, VolumeState
from volplug.volume_json import volume_from_json, volume_to_json

_P = ParamSpec("_P")
_T = TypeVar("_T")

_INFO = DriverInfo(driver="toy", scope=Scope.LOCAL, remote=False)


def build(config: BackendConfig) -> ToyDriver:
    """Build the driver of one `[backends.NAME]` table, without access to its directory."""
    settings = dict(config.settings)
    shelf = settings.pop("shelf", "")
    if not isinstance(shelf, str) or not shelf or settings:
        raise errors.ConfigurationError(f"backends.{config.name} needs the key shelf and no other")
    return ToyDriver(config.name, config.node_id, Path(shelf))


def in_thread(
    method: Callable[Concatenate[ToyDriver, _P], _T],
) -> Callable[Concatenate[ToyDriver, _P], Coroutine[Any, Any, _T]]:
    """Run a method that blocks in a thread, to its end; an unexpected error becomes a typed one."""

    async def call(driver: ToyDriver, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await driver.pool.to_the_end(method, driver, *args, **kwargs)
        except OSError as error:
            raise errors.BackendError(f"{error.filename or 'the shelf'}: {error.strerror}") from error

    return call


class ToyDriver:
    """Volumes on one shelf. See `volplug.drivers.base.Driver` for the contract."""

    def __init__(self, backend: str, node_id: str, shelf: Path) -> None:
        self._backend = backend
        self._shelf = shelf
        self.node_id = node_id
        self.info = _INFO
        self.pool = Pool(f"toy-{backend}", 16)

    def check_spec(self, spec: VolumeSpec) -> None:
        """Accept every spec: there are no options of its own."""

    @in_thread
    def create(self, spec: VolumeSpec) -> Volume:
        """Make the disk, then its record: without a record there is no volume."""
        _INFO.check_size(spec.size_bytes)
        if existing := self._read(spec.name):
            raise errors.VolumeExists(f"{existing.volume_id} has this name")
        with self._file(spec.name, "toy").open("wb") as disk:  # truncates the file of an interrupted creation
            disk.truncate(spec.size_bytes)
            os.fsync(disk.fileno())
        volume_id = f"toy-{uuid.uuid4().hex[:12]}"
        volume = Volume(spec.name, volume_id, self._backend, spec.size_bytes, VolumeState.AVAILABLE, spec)
        self._write(volume)
        return volume

    @in_thread
    def delete(self, volume: Volume) -> None:
        """Remove the disk, then its record: a record without a disk is a volume in state `deleting`."""
        self._current(volume)
        if device := self._device(volume):
            raise errors.VolumeInUse(f"{volume.volume_id} is attached to {device.path}", holder=self.node_id)
        self._file(volume.name, "toy").unlink(missing_ok=True)
        self._file(volume.name, "json").unlink()
        _sync(self._shelf)

    @in_thread
    def get(self, name: str) -> Volume | None:
        """Return the volume as its record and this host's loop devices show it."""
        record = self._read(name)
        return self._shown(record) if record else None

    @in_thread
    def list(self) -> Sequence[Volume]:
        """Return every volume that has a record."""
        self._check_shelf()
        records = [self._read(path.name.removesuffix(".json")) for path in self._shelf.glob("*.json")]
        return [self._shown(record) for record in records if record]

    @in_thread
    def attach(self, volume: Volume) -> BlockDevice:
        """Attach the disk to a loop device with the volume's id as label."""
        record = self._current(volume)
        device = self._device(record)
        if device is None:
            device = loop_attach.attach(str(self._file(record.name, "toy")), record.volume_id, discards=True)
        return _source(record, device)

    def locate(self, volume: Volume) -> BlockDevice | None:
        """Return the loop device with the volume's id as label; the shelf is not read."""
        device = self._device(volume)
        return _source(volume, device) if device else None

    @in_thread
    def detach(self, volume: Volume) -> None:
        """Detach the loop device and wait until the kernel has closed the disk's file."""
        if device := self._device(volume):
            loopdev.detach(device.path, expected=device)
        else:
            self._current(volume)

    @in_thread
    def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        """Replace the record durably."""
        tagged = replace(self._current(volume), filesystem=tag)
        self._write(tagged)
        return self._shown(tagged)

    async def holder_state(self, node_id: str) -> Holder:
        """Return that this host is alive; the state of others is unknown."""
        if node_id == self.node_id:
            return Holder(HolderState.ALIVE, "it is this host")
        return Holder(HolderState.UNKNOWN, "toy volumes never leave their host")

    @in_thread
    def health(self) -> None:
        """Return if the shelf is there."""
        self._check_shelf()

    def _check_shelf(self) -> None:
        """Distinguish an empty shelf from an unmounted one: only the shelf has the file."""
        if not (self._shelf / ".shelf").exists():
            raise errors.BackendUnavailable(f"{self._shelf} has no file .shelf", "Is its disk mounted?")

    def _shown(self, record: Volume) -> Volume:
        if not self._file(record.name, "toy").exists():
            return replace(record, state=VolumeState.DELETING)
        if self._device(record):
            return replace(record, state=VolumeState.IN_USE, holder=self.node_id)
        return record

    def _device(self, volume: Volume) -> loopdev.LoopDevice | None:
        disk = self._file(volume.name, "toy").name
        for device in loopdev.attached(lambda name: name == disk):
            if device.label == volume.volume_id:
                return loopdev.keep(device) if device.autoclear else device
        return None

    def _current(self, volume: Volume) -> Volume:
        record = self._read(volume.name)
        if record is None or record.volume_id != volume.volume_id:
            raise errors.VolumeNotFound(f"{volume.volume_id} is not on the shelf {self._shelf}")
        return record

    def _read(self, name: str) -> Volume | None:
        self._check_shelf()
        try:
            return replace(volume_from_json(self._file(name, "json").read_bytes()), backend=self._backend)
        except FileNotFoundError:
            return None

    def _write(self, volume: Volume) -> None:
        """Replace the record: after a crash the file has the old or the new one, never a part of one."""
        new = self._shelf / f".{volume.name}.new"
        with new.open("w", encoding="utf-8") as file:
            file.write(volume_to_json(volume))
            file.flush()
            os.fsync(file.fileno())
        new.rename(self._file(volume.name, "json"))
        _sync(self._shelf)

    def _file(self, name: str, suffix: str) -> Path:
        return self._shelf / f"{name}.{suffix}"


def _source(volume: Volume, device: loopdev.LoopDevice) -> BlockDevice:
    return BlockDevice(device.path, volume.volume_id, devices.size_bytes(device.path))


def _sync(directory: Path) -> None:
    with devices.opened(str(directory), os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)
