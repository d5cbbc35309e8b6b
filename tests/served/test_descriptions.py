"""Records of volumes that were changed by others, on a real process and real loop devices."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.drivers.ebs.clouds import Site, settings_of
from tests.ec2sim import Ec2Cloud, LoopHypervisor
from tests.lab import leftovers, loops
from tests.lab.fork_server import ForkServer
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine, local_machine
from tests.served.volumes import container_of, image_of, is_mounted, record_of, wait_until_detached

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
    detail = f"the record {record} cannot be used: '../../../../..' is not the name of one directory"
    assert await dockerd.error("Mount", Name="db", ID="b") == (
        f'{detail} [mount "db", loop {_id(record)}, node {_node(volplug)}]. '
        "Nothing was changed; try again once that is repaired."
    )
    shown = (await dockerd.ok("Get", Name="db"))["Volume"]
    assert (shown["Status"]["state"], shown["Status"]["detail"]) == ("error", detail)
    assert [each["Name"] for each in (await dockerd.ok("List"))["Volumes"]] == ["db"]
    _spoil(volplug, "../../../../..", "data")
    path = Path((await dockerd.ok("Mount", Name="db", ID="c"))["Mountpoint"])
    assert (path / "file").read_text() == "kept"
    await dockerd.ok("Unmount", Name="db", ID="c")


async def test_a_record_that_cannot_be_read_is_listed_and_shown_in_error(
    dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    await dockerd.ok("Create", Name="db", Opts=_SMALL)
    record = record_of(volplug, "db")
    text = record.read_text()
    record.write_text(text[: len(text) // 2])
    assert [each["Name"] for each in (await dockerd.ok("List"))["Volumes"]] == ["db"]
    status = (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]
    assert (status["state"], status["fs"]) == ("error", "unknown")
    assert status["detail"].startswith(f"the record is damaged: {record}")
    record.write_text(text)
    await dockerd.ok("Remove", Name="db")


@pytest.mark.parametrize("is_used", [False, True])
async def test_a_record_whose_size_was_changed_and_a_lost_state_file_leave_nothing_unmounted_or_attached(
    dockerd: Dockerd, volplug: VolplugProcess, machine: LocalMachine, is_used: bool
) -> None:
    """What is still in use in another mount namespace is mounted again, what is not is detached."""
    await dockerd.ok("Create", Name="db", Opts=_SMALL)
    path = Path((await dockerd.ok("Mount", Name="db", ID="a"))["Mountpoint"])
    (path / "file").write_text("kept")
    volplug.kill()
    for file in volplug.state_dir.glob("state.sqlite*"):
        file.unlink()
    _spoil(volplug, '"size_bytes": 8388608', '"size_bytes": 16777216')
    volplug.start()
    await dockerd.hang_up()
    assert (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]["holdersUnknown"] is True
    if is_used:
        with container_of(path, machine.directory / "in-container"):
            await dockerd.ok("Unmount", Name="db", ID="a")
            assert (path / "file").read_text() == "kept"
        assert is_mounted(volplug, "db")
    await dockerd.ok("Unmount", Name="db", ID="a")
    wait_until_detached(volplug, "db")
    assert not is_mounted(volplug, "db")


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


@pytest.fixture
def victim(machine: LocalMachine) -> Iterator[Path]:
    """A mount of the host, two directories above the mount root: `../../victim`."""
    place = machine.directory / "victim"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    (place / "file").write_text("of the host")
    yield place
    if os.path.ismount(place):
        subprocess.run(["umount", place], check=True)


async def test_a_volume_named_out_of_the_mount_root_takes_no_mount_of_the_host_when_it_is_recovered(
    machine: LocalMachine, victim: Path
) -> None:
    with Ec2Cloud(LoopHypervisor(str(machine.directory / "ec2"))) as cloud:
        instance = cloud.add_instance("i-0000000000000000a")
        config = machine.directory / "config.toml"
        table = {"driver": "ebs", **settings_of(cloud, instance)}
        lines = [f'{key} = "{value}"' for key, value in table.items()]
        config.write_text("\n".join(['backend = "ebs"', 'cluster = "lab"', "[backends.ebs]", *lines]))
        env = {"VOLPLUG_CONFIG": str(config), "VOLPLUG_LINGER_S": "600", "VOLPLUG_MOUNT_GRACE_S": "0"}
        with VolplugProcess(machine, env=env) as volplug:
            async with Dockerd(machine.directory / "p.sock") as dockerd:
                await dockerd.ok("Create", Name="db", Opts={"size": "1GiB"})
                await dockerd.ok("Mount", Name="db", ID="a")
                await dockerd.ok("Unmount", Name="db", ID="a")
                volplug.kill()  # while the volume lingers
                await dockerd.hang_up()
                (volume,) = cloud.volumes()
                assert volume.attachment is not None
                await Site(cloud, instance).caller.call(
                    "CreateTags",
                    Resources=[volume.volume_id],
                    Tags=[{"Key": "volplug:name", "Value": "../../victim"}],
                )
                for file in volplug.state_dir.glob("state.sqlite*"):
                    file.unlink()
                volplug.start()
                wait_until(lambda: cloud.volumes()[0].attachment is None, 20, "it is detached")
                assert (victim / "file").read_text() == "of the host"
                assert os.path.ismount(victim)
                assert [each["Name"] for each in (await dockerd.ok("List"))["Volumes"]] == [volume.volume_id]


async def test_a_copied_state_directory_has_no_claims_on_the_devices_of_the_original(
    dockerd: Dockerd, volplug: VolplugProcess, fork_server: ForkServer
) -> None:
    """As in `cp -a` and a second volplug: its recovery detaches nothing, and each has data of its own."""
    volplug.stop()
    volplug.start({"VOLPLUG_LINGER_S": "60"})
    await dockerd.hang_up()
    await dockerd.ok("Create", Name="db", Opts=_SMALL)
    path = Path((await dockerd.ok("Mount", Name="db", ID="a"))["Mountpoint"])
    (path / "file").write_text("original")
    await dockerd.ok("Unmount", Name="db", ID="a")
    lingering = loops.attached_below(volplug.state_dir)
    with local_machine(fork_server) as other:
        state_dir = other.directory / "volplug"
        subprocess.run(["cp", "-a", volplug.state_dir, state_dir], check=True)  # its socket, too
        with VolplugProcess(other, state_dir=state_dir, env={"VOLPLUG_MOUNT_GRACE_S": "0"}) as second:
            async with Dockerd(other.directory / "p.sock") as copy:
                copied = Path((await copy.ok("Mount", Name="db", ID="b"))["Mountpoint"])
                (copied / "file").write_text("copy")
                assert loops.attached_below(volplug.state_dir) == lingering
                path = Path((await dockerd.ok("Mount", Name="db", ID="c"))["Mountpoint"])
                assert (path / "file").read_text() == "original"
                await copy.ok("Unmount", Name="db", ID="b")
                await copy.ok("Remove", Name="db")
            assert (path / "file").read_text() == "original"
            assert second.running
    await dockerd.ok("Unmount", Name="db", ID="c")
