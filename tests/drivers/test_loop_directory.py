"""The directory of a backend: one volplug at a time, and no other writers."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.loop_volumes import created, driver_of, spec_of
from volplug.drivers.loop.directory import Directory
from volplug.errors import BackendUnavailable, HostError
from volplug.models import FilesystemPhase, FilesystemTag

pytestmark = pytest.mark.loop


async def test_a_second_volplug_on_the_directory_is_refused_everything(images: Path) -> None:
    await created(images)
    program = (
        "import asyncio, sys; from pathlib import Path; from volplug.drivers.loop.driver import LoopDriver\n"
        "driver = LoopDriver('loop', 'host1', Path(sys.argv[1]), 1.0)\n"
        "print(asyncio.run(driver.get('v')))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(images)], capture_output=True, text=True)
    assert f"BackendUnavailable: {images} is used by another volplug. Stop that one" in done.stderr


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
async def test_a_directory_that_others_can_write_to_is_refused(images: Path, mode: int) -> None:
    await created(images)
    images.chmod(mode)
    driver = driver_of(images)
    changes = (driver.create(spec_of("w")),)
    for call in (*changes, driver.get("v"), driver.list(), driver.health(), driver.limits()):
        with pytest.raises(BackendUnavailable) as refused:
            await call
        assert str(refused.value) == (
            f"{images} can be written by other users of this host (mode {mode:04o}). chmod go-w {images}."
        )


@pytest.mark.parametrize("directory", ["new/deeper", "file/deeper", "file"])
async def test_a_check_of_the_backend_changes_nothing(tmp_path: Path, directory: str) -> None:
    (tmp_path / "file").touch()
    driver = driver_of(tmp_path / directory, id_copy=tmp_path / "id")
    if directory.startswith("file"):
        with pytest.raises((HostError, BackendUnavailable)):
            await driver.health()
    else:
        await driver.health()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


async def test_a_directory_that_is_opened_to_other_writers_while_it_is_used_is_refused(images: Path) -> None:
    volume, driver = await created(images), driver_of(images)
    assert await driver.get("v") == volume
    images.chmod(0o777)
    for call in (driver.get("v"), driver.list(), driver.create(spec_of("w")), driver.attach(volume)):
        with pytest.raises(BackendUnavailable, match=f"chmod go-w {images}"):
            await call
    images.chmod(0o700)
    assert await driver.get("v") == volume


async def test_a_directory_of_another_user_is_refused(images: Path) -> None:
    await created(images)
    os.chown(images, 65534, 65534)
    with pytest.raises(BackendUnavailable, match=f"{images} belongs to user 65534"):
        await driver_of(images).get("v")
    os.chown(images, 0, 0)


async def test_what_is_no_directory_or_cannot_become_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(BackendUnavailable, match="file/images cannot be read: Not a directory"):
        await driver_of(tmp_path / "file" / "images").get("v")
    with pytest.raises(HostError, match="/proc/images cannot be made: "):
        await driver_of(Path("/proc/images")).create(spec_of())


def test_a_directory_that_cannot_be_locked_is_not_used(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that fails."""
    images.mkdir(mode=0o700)
    open_ = os.open

    def fail(path: Any, flags: int, *mode: int) -> int:  # noqa: ANN401  # as os.open has it
        if path == images:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return open_(path, flags, *mode)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(BackendUnavailable, match=f"{images} cannot be locked: Input/output error"):
        Directory(images, None).check()


async def test_a_directory_that_is_mounted_read_only_is_refused_before_anything_is_made(images: Path) -> None:
    images.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,mode=700", "tmpfs", str(images)], check=True)
    with pytest.raises(HostError, match=f"{images} is not writable"):
        await driver_of(images).create(spec_of())


async def test_a_link_in_the_place_of_a_temporary_file_is_removed_and_never_followed(
    images: Path, tmp_path: Path
) -> None:
    volume, victim = await created(images), tmp_path / "victim"
    victim.write_text("of the host")
    (images / ".v.json.new").symlink_to(victim)
    tag = FilesystemTag(FilesystemPhase.FORMATTING, "ext4", "0c6f6d3c-9a0b-4f0e-8a4e-111122223333")
    await driver_of(images).tag_filesystem(volume, tag)
    assert victim.read_text() == "of the host"
