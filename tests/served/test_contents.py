"""Devices that do not hold what their record says: refused, and not a byte changed."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.host.disks import SMALL_MIB, damage_inode
from tests.host.test_contents import SIGNATURES
from tests.lab import loops
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until
from tests.served.volumes import container_of, digest, image_of, mount_of, record_of, wait_until_detached
from volplug.sizes import rounded_size

pytestmark = [pytest.mark.loop, pytest.mark.contract]

_MIB = 1024**2
_SIZE = 16 * _MIB


def _write(offset: int, data: bytes) -> Callable[[Path], None]:
    def change(image: Path) -> None:
        with image.open("r+b") as file:
            file.write(bytes(_SIZE))
            file.seek(offset)
            file.write(data)

    return change


def _other_filesystem(image: Path) -> None:
    with image.open("r+b") as file:
        file.write(bytes(_SIZE))
    uuid = "11111111-2222-3333-4444-555555555555"
    subprocess.run(["mkfs.ext4", "-q", "-F", "-U", uuid, image], check=True)


GARBAGE = f"data at byte {3 * _MIB} that no known filesystem claims"
_RESTORE = "Nothing was changed; restore it from a backup"
_REPAIR_DAMAGE = "Run e2fsck -f on the volume's device, or image, while it is not in use"
_REPAIR = "Run e2fsck -f on its unused device or image if its superblock is damaged, else restore a backup"
FOREIGN = [
    *((found, _write(offset, data), found) for found, (offset, data) in SIGNATURES.items()),
    (
        "another filesystem",
        _other_filesystem,
        "an ext4 filesystem with another UUID (11111111-2222-3333-4444-555555555555)",
    ),
    ("garbage", _write(3 * _MIB, b"precious"), GARBAGE),
]
# As docs/drivers/loop.md says.
_GROWN_WHILE_DETACHED = {"ext4": (("e2fsck", "-f", "-p"), ("resize2fs",))}
_GROWN_WHILE_MOUNTED = {"xfs": (("xfs_growfs",),), "btrfs": (("btrfs", "filesystem", "resize", "max"),)}
ZEROS = ("zeros", _write(0, b""), "only zeros")


def _context(volume_id: str, verb: str = "mount") -> str:
    return f'[{verb} "db", loop {volume_id}, node {platform.node()}]'


async def _created(dockerd: Dockerd, volplug: VolplugProcess, *, formatted: bool) -> dict[str, str]:
    """Create a volume, format it by a first mount if asked to, and return its record's tag."""
    await dockerd.ok("Create", Name="db", Opts={"size": "16MiB"})
    if formatted:
        await dockerd.ok("Mount", Name="db", ID="a")
        await dockerd.ok("Unmount", Name="db", ID="a")
        wait_until_detached(volplug, "db")
    record = json.loads(record_of(volplug, "db").read_text())
    return {"id": record["volume"]["volume_id"], "uuid": record["volume"]["filesystem"]["uuid"]}


@pytest.mark.parametrize(
    ("change", "found"), [(c, f) for _, c, f in [*FOREIGN, ZEROS]], ids=lambda v: str(v)[:20]
)
async def test_a_formatted_volume_that_holds_something_else_is_never_formatted(
    dockerd: Dockerd, volplug: VolplugProcess, change: Callable[[Path], None], found: str
) -> None:
    known = await _created(dockerd, volplug, formatted=True)
    change(image_of(volplug, "db"))
    before = digest(image_of(volplug, "db"))
    error = await dockerd.error("Mount", Name="db", ID="b")
    remedy = _RESTORE if found != GARBAGE else _REPAIR
    cause = f"the volume holds {found}, not its ext4 filesystem {known['uuid']}; it is not formatted"
    assert error == f"{cause} {_context(known['id'])}. {remedy}."
    wait_until_detached(volplug, "db")
    assert digest(image_of(volplug, "db")) == before
    assert not mount_of(volplug, "db").exists()
    assert (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]["mountCount"] == 0
    await dockerd.ok("Remove", Name="db")


@pytest.mark.parametrize(("change", "found"), [(c, f) for _, c, f in FOREIGN], ids=lambda v: str(v)[:20])
async def test_a_new_volume_that_is_not_blank_is_never_formatted(
    dockerd: Dockerd, volplug: VolplugProcess, change: Callable[[Path], None], found: str
) -> None:
    known = await _created(dockerd, volplug, formatted=False)
    change(image_of(volplug, "db"))
    before = digest(image_of(volplug, "db"))
    shown = found.partition(" with another UUID")[0]
    error = await dockerd.error("Mount", Name="db", ID="b")
    assert error.startswith(f"a new volume should be blank, but holds {shown}")
    assert error.endswith(
        f"; it is not formatted {_context(known['id'])}. "
        "Nothing was changed; see what is on it. If that is not needed, remove the volume."
    )
    wait_until_detached(volplug, "db")
    assert digest(image_of(volplug, "db")) == before


@pytest.mark.parametrize(("change", "found"), [(c, f) for _, c, f in FOREIGN], ids=lambda v: str(v)[:20])
async def test_an_interrupted_format_is_not_done_again_over_anything_else(
    dockerd: Dockerd, volplug: VolplugProcess, change: Callable[[Path], None], found: str
) -> None:
    await dockerd.ok("Create", Name="db", Opts={"size": "16MiB", "mkfs-opts": "-O nonsense"})
    assert "mkfs.ext4 ended with exit code 1" in await dockerd.error("Mount", Name="db", ID="a")
    wait_until_detached(volplug, "db")
    volume_id = json.loads(record_of(volplug, "db").read_text())["volume"]["volume_id"]
    change(image_of(volplug, "db"))
    before = digest(image_of(volplug, "db"))
    assert await dockerd.error("Mount", Name="db", ID="b") == (
        f"the volume's format was interrupted and it now holds {found}; it is not formatted "
        f"{_context(volume_id)}. "
        "Nothing was changed; see what is on it. If that is not needed, remove the volume."
    )
    wait_until_detached(volplug, "db")
    assert digest(image_of(volplug, "db")) == before


def _wipe_superblock(image: Path) -> None:
    with image.open("r+b") as file:
        file.write(bytes(4096))


@pytest.mark.parametrize(
    ("damage", "cause", "remedy"),
    [
        (
            _wipe_superblock,
            "the volume holds data at byte 4096 that no known filesystem claims, not",
            _REPAIR,
        ),
        (
            lambda image: damage_inode(str(image), "<2>"),
            "the volume's filesystem is damaged: mounting /dev/loop",
            _REPAIR_DAMAGE,
        ),
        (
            lambda image: damage_inode(str(image), "data"),
            "the volume's filesystem is damaged: {mount}/data cannot be read (Bad message) [mount ",
            _REPAIR_DAMAGE,
        ),
    ],
    ids=["superblock", "root", "data"],
)
async def test_a_damaged_filesystem_is_repaired_by_the_command_that_the_error_names(
    dockerd: Dockerd, volplug: VolplugProcess, damage: Callable[[Path], None], cause: str, remedy: str
) -> None:
    await _created(dockerd, volplug, formatted=True)
    path = Path((await dockerd.ok("Mount", Name="db", ID="a"))["Mountpoint"])
    (path / "file").write_text("kept")
    await dockerd.ok("Unmount", Name="db", ID="a")
    wait_until_detached(volplug, "db")
    image = image_of(volplug, "db")
    damage(image)
    error = await dockerd.error("Mount", Name="db", ID="b")
    assert error.startswith(cause.format(mount=mount_of(volplug, "db")))
    assert error.endswith(f". {remedy}.")
    wait_until_detached(volplug, "db")
    command = remedy.split()[1:3]
    assert subprocess.run([*command, "-y", image], check=False, capture_output=True).returncode == 1
    await dockerd.ok("Mount", Name="db", ID="c")
    assert (path / "file").read_text() == "kept"
    await dockerd.ok("Unmount", Name="db", ID="c")
    wait_until_detached(volplug, "db")


@pytest.mark.parametrize("formatted", [True, False])
async def test_a_missing_image_is_named_and_its_volume_can_be_removed(
    dockerd: Dockerd, volplug: VolplugProcess, formatted: bool
) -> None:
    known = await _created(dockerd, volplug, formatted=formatted)
    image = image_of(volplug, "db")
    kept = image.rename(image.with_suffix(".kept"))
    assert await dockerd.error("Mount", Name="db", ID="b") == (
        f"the image is missing: {image} {_context(known['id'])}. "
        "Nothing was changed; try again once that is repaired."
    )
    status = (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]
    assert (status["state"], status["detail"]) == ("error", f"the image is missing: {image}")
    kept.rename(image)
    await dockerd.ok("Mount", Name="db", ID="b")
    await dockerd.ok("Unmount", Name="db", ID="b")
    wait_until_detached(volplug, "db")
    image.unlink()
    await dockerd.ok("Remove", Name="db")
    assert await dockerd.ok("List") == {"Volumes": []}


async def test_a_truncated_image_is_refused_and_left_alone(dockerd: Dockerd, volplug: VolplugProcess) -> None:
    known = await _created(dockerd, volplug, formatted=True)
    image = image_of(volplug, "db")
    with image.open("r+b") as file:
        file.truncate(9 * _MIB)
    before = digest(image)
    assert await dockerd.error("Mount", Name="db", ID="b") == (
        f"the image is too small: {image} has 9MiB, its record says 16MiB; restore it from a backup "
        f"{_context(known['id'])}. Nothing was changed; try again once that is repaired."
    )
    assert digest(image) == before


async def test_an_image_that_was_cut_within_its_filesystem_is_refused_whatever_its_record_says(
    dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    await _created(dockerd, volplug, formatted=True)
    image, record = image_of(volplug, "db"), record_of(volplug, "db")
    os.truncate(image, 9 * _MIB)
    record.write_text(record.read_text().replace(f'"size_bytes": {_SIZE}', f'"size_bytes": {9 * _MIB}'))
    before = digest(image)
    refused = await dockerd.error("Mount", Name="db", ID="b")
    assert refused.startswith("the volume's end is cut off: /dev/loop")
    assert "has 9MiB, the filesystem on it 16MiB" in refused
    wait_until_detached(volplug, "db")
    assert digest(image) == before
    status = (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]
    assert status["state"] == "error"
    assert status["detail"].startswith("the volume's end is cut off")


@pytest.mark.parametrize("fs_type", ["ext4", "xfs", "btrfs"])
async def test_an_image_that_was_grown_by_hand_is_served_and_shown(
    dockerd: Dockerd, volplug: VolplugProcess, fs_type: str
) -> None:
    size_bytes = SMALL_MIB[fs_type] * _MIB
    await dockerd.ok("Create", Name="db", Opts={"size": f"{SMALL_MIB[fs_type]}MiB", "fs": fs_type})
    await dockerd.ok("Mount", Name="db", ID="a")
    (mount_of(volplug, "db") / "data" / "kept").write_text("precious")
    await dockerd.ok("Unmount", Name="db", ID="a")
    wait_until_detached(volplug, "db")
    os.truncate(image_of(volplug, "db"), 4 * size_bytes)
    await dockerd.ok("Mount", Name="db", ID="b")
    assert (mount_of(volplug, "db") / "data" / "kept").read_text() == "precious"
    for _ in range(2):
        status = (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]
        assert (status["state"], status["size"]) == ("in-use", f"{4 * SMALL_MIB[fs_type]}MiB")
        assert "its filesystem, " in status["sizeDifference"]
        assert f"is smaller than its device, {rounded_size(4 * size_bytes)}" in status["sizeDifference"]
    assert volplug.log.read_text().count("sizes of a volume differ") == 1
    for argv in _GROWN_WHILE_MOUNTED.get(fs_type, ()):
        subprocess.run([*argv, mount_of(volplug, "db") / "data" / ".."], check=True, capture_output=True)
    await dockerd.ok("Unmount", Name="db", ID="b")
    wait_until_detached(volplug, "db")
    for argv in _GROWN_WHILE_DETACHED.get(fs_type, ()):
        subprocess.run([*argv, image_of(volplug, "db")], check=True, capture_output=True)
    await dockerd.ok("Mount", Name="db", ID="c")
    assert (mount_of(volplug, "db") / "data" / "kept").read_text() == "precious"
    assert "sizeDifference" not in (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]
    await dockerd.ok("Unmount", Name="db", ID="c")
    wait_until_detached(volplug, "db")
    await dockerd.ok("Remove", Name="db")


async def test_an_unformatted_image_that_was_grown_by_hand_is_formatted_as_a_whole(
    dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    await _created(dockerd, volplug, formatted=False)
    os.truncate(image_of(volplug, "db"), 4 * _SIZE)
    await dockerd.ok("Mount", Name="db", ID="a")
    status = (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]
    assert (status["size"], "sizeDifference" in status) == ("64MiB", False)
    await dockerd.ok("Unmount", Name="db", ID="a")
    wait_until_detached(volplug, "db")


async def test_a_missing_data_directory_is_not_made_again(dockerd: Dockerd, volplug: VolplugProcess) -> None:
    known = await _created(dockerd, volplug, formatted=True)
    path = volplug.state_dir / "by-hand"
    path.mkdir()
    subprocess.run(["mount", "-o", "loop", image_of(volplug, "db"), path], check=True)
    (path / "data").rename(path / "moved")
    subprocess.run(["umount", path], check=True)
    assert await dockerd.error("Mount", Name="db", ID="b") == (
        f"the filesystem lacks the directory 'data' that containers see {_context(known['id'])}. "
        "Nothing was changed; restore it from a backup."
    )
    wait_until_detached(volplug, "db")
    assert not mount_of(volplug, "db").exists()


async def test_an_image_without_a_record_is_not_overwritten(
    dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    await _created(dockerd, volplug, formatted=True)
    image, record = image_of(volplug, "db"), record_of(volplug, "db")
    before = digest(image)
    record.rename(record.with_suffix(".kept"))
    assert await dockerd.error("Create", Name="db", Opts={"size": "16MiB"}) == (
        f'the image {image} exists without a record [create "db", loop, node {platform.node()}]. '
        "Restore its record from a backup, or move the image away."
    )
    assert await dockerd.error("Mount", Name="db", ID="b") == (
        f"no such volume: the image {image} is there, its record db.json is not "
        f'[mount "db", loop, node {platform.node()}]. Restore the record from a backup.'
    )
    assert digest(image) == before
    record.with_suffix(".kept").rename(record)
    await dockerd.ok("Mount", Name="db", ID="b")
    await dockerd.ok("Unmount", Name="db", ID="b")
    wait_until_detached(volplug, "db")


async def test_an_image_replaced_under_a_container_is_refused_released_and_then_served(
    dockerd: Dockerd, volplug: VolplugProcess, tmp_path: Path
) -> None:
    """As by `cp --sparse=always db.img x && mv x db.img`, while a container writes."""
    await dockerd.ok("Create", Name="db", Opts={"size": "8MiB"})
    path = Path((await dockerd.ok("Mount", Name="db", ID="a"))["Mountpoint"])
    (path / "file").write_text("before")
    subprocess.run(["sync", "--file-system", path], check=True)
    image = image_of(volplug, "db")
    copy = image.with_name("x")
    shutil.copy(image, copy)
    copy.rename(image)
    with container_of(path, tmp_path / "container"):
        refused = await dockerd.error("Mount", Name="db", ID="b")
        assert f"the image {image} was replaced while it was attached to /dev/loop" in refused
        assert "the volume is still in use by" in await dockerd.error("Unmount", Name="db", ID="a")
        assert "the volume is still in use by" in await dockerd.error("Remove", Name="db")
        assert image.exists()
    wait_until(lambda: not loops.attached_below(volplug.state_dir), 20, "the old device is detached")
    path = Path((await dockerd.ok("Mount", Name="db", ID="c"))["Mountpoint"])
    assert (path / "file").read_text() == "before"
    await dockerd.ok("Unmount", Name="db", ID="c")
