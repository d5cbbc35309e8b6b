"""Records of volumes that were changed by others, on a real process and real loop devices."""

from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.lab import leftovers, loops
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until
from tests.served.volumes import image_of, record_of

pytestmark = pytest.mark.loop

_SMALL = {"size": "8MiB"}


def _spoil(volplug: VolplugProcess, old: str, new: str) -> Path:
    record = record_of(volplug, "db")
    text = record.read_text()
    assert old in text
    record.write_text(text.replace(old, new))
    return record


async def test_a_volume_spoilt_while_it_is_mounted_is_unmounted_and_not_mounted_again(
    dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    await dockerd.ok("Create", Name="db", Opts=_SMALL)
    path = Path((await dockerd.ok("Mount", Name="db", ID="a"))["Mountpoint"])
    (path / "file").write_text("kept")
    record = _spoil(volplug, '"subpath": "data"', '"subpath": "../../../../.."')
    volplug.restart()  # what it remembers of the volume is what it was
    await dockerd.hang_up()
    await dockerd.ok("Unmount", Name="db", ID="a")
    wait_until(lambda: not loops.attached_below(volplug.state_dir), 20, "it is detached")
    assert leftovers.mounted_below(volplug.state_dir) == []
    detail = f"its record {record} cannot be used: '../../../../..' is not the name of one directory"
    assert await dockerd.error("Mount", Name="db", ID="b") == (
        f'mount "db" (loop {_id(record)}, node {_node(volplug)}): {detail}. '
        "Repair it at the backend, or remove the volume."
    )
    shown = (await dockerd.ok("Get", Name="db"))["Volume"]
    assert (shown["Status"]["state"], shown["Status"]["detail"]) == ("error", detail)
    assert [each["Name"] for each in (await dockerd.ok("List"))["Volumes"]] == ["db"]
    _spoil(volplug, "../../../../..", "data")
    path = Path((await dockerd.ok("Mount", Name="db", ID="c"))["Mountpoint"])
    assert (path / "file").read_text() == "kept"
    await dockerd.ok("Unmount", Name="db", ID="c")


async def test_mkfs_options_of_a_record_are_those_that_users_may_give(
    dockerd: Dockerd, volplug: VolplugProcess, tmp_path: Path
) -> None:
    await dockerd.ok("Create", Name="db", Opts=_SMALL)
    outside = tmp_path / "undo"
    _spoil(volplug, '"mkfs_options": []', f'"mkfs_options": ["-z", "{outside}"]')
    assert "option 'mkfs-opts' has '-z'" in await dockerd.error("Mount", Name="db", ID="a")
    assert not outside.exists()
    assert loops.attached_below(volplug.state_dir) == []


def _id(record: Path) -> str:
    return next(line.split('"')[3] for line in record.read_text().splitlines() if '"volume_id"' in line)


def _node(volplug: VolplugProcess) -> str:
    return Path("/proc/sys/kernel/hostname").read_text().strip()


@pytest.mark.parametrize(("fs_type", "size"), [("ext4", "8MiB"), ("xfs", "300MiB"), ("btrfs", "128MiB")])
async def test_a_copy_made_a_volume_of_its_own_has_data_of_its_own_beside_the_original(
    dockerd: Dockerd, volplug: VolplugProcess, fs_type: str, size: str
) -> None:
    """Although its filesystem has the UUID of the original's."""
    await dockerd.ok("Create", Name="db", Opts={"size": size, "fs": fs_type})
    path = Path((await dockerd.ok("Mount", Name="db", ID="a"))["Mountpoint"])
    (path / "file").write_text("original")
    await dockerd.ok("Unmount", Name="db", ID="a")
    wait_until(lambda: not loops.attached_below(volplug.state_dir), 20, "it is detached")
    record, image = record_of(volplug, "db"), image_of(volplug, "db")
    image.with_name("copy.img").write_bytes(image.read_bytes())
    text = record.read_text().replace(_id(record), "loop-0123456789ab").replace('"db"', '"copy"')
    record.with_name("copy.json").write_text(text)
    for name, content in (("db", "original"), ("copy", "copy")):
        path = Path((await dockerd.ok("Mount", Name=name, ID=name))["Mountpoint"])
        (path / "file").write_text(content)
    for name, content in (("db", "original"), ("copy", "copy")):
        path = Path((await dockerd.ok("Path", Name=name))["Mountpoint"])
        assert (path / "file").read_text() == content
        await dockerd.ok("Unmount", Name=name, ID=name)
    await dockerd.ok("Remove", Name="copy")
    assert image.exists()
