"""The commands of docs/operations.md for loop volumes and for Docker; those for EBS: tests/follow."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.pairs import AS_SERVICE, MANAGED, ON_NEWEST
from tests.engine.use import create, execute, inspect, refusal, run, start, volumes, wait_until_released
from tests.lab.engine import Engine
from tests.lab.managed import ManagedVolplug, Volplug
from tests.lab.operator import Operator
from tests.lab.plugin import VolplugProcess
from tests.lab.requirements import ENGINE
from tests.served.volumes import image_of, record_of

pytestmark = ENGINE

_PAGE = "docs/operations.md"
_NEXT = {"ext4": ("16MiB", "24MiB"), "xfs": ("300MiB", "320MiB"), "btrfs": ("128MiB", "256MiB")}


@pytest.fixture
def operator(empty_engine: Engine, shared_volplug: Volplug, tmp_path: Path) -> Iterator[Operator]:
    empty_engine.import_busybox("busybox")
    names = {
        "/var/lib/volplug": str(shared_volplug.state_dir),
        "/backup": str(tmp_path / "backup"),
        "/mnt": str(tmp_path / "mnt"),
        "driver=volplug": f"driver={shared_volplug.driver}",
    }
    for name in ("backup", "mnt", "programs"):
        (tmp_path / name).mkdir()
    yield Operator(empty_engine.run, names, tmp_path / "programs")
    for name in volumes(empty_engine):
        empty_engine.docker("volume", "rm", name)


def _write(engine: Engine, text: str, name: str = "db") -> None:
    run(engine, "-v", f"{name}:/data", script=f"echo {text} >/data/file")


def _read(engine: Engine, name: str = "db") -> str:
    return run(engine, "-v", f"{name}:/data", script="cat /data/file").strip()


def _space_kib(engine: Engine) -> int:
    return int(run(engine, "-v", "db:/data", script="df -k /data | tail -n 1").split()[1])


@ON_NEWEST
def test_volumes_are_listed_with_their_users_and_archived_and_restored(
    empty_engine: Engine, operator: Operator
) -> None:
    create(empty_engine, "db")
    assert operator.does(_PAGE, "Find unused volumes, protect others", 0).split()[-1] == "db"
    start(empty_engine, "web", "-v", "db:/data", script="echo kept >/data/file; exec sleep 1000")
    listed = operator.does(_PAGE, "List volumes", 0)
    assert listed.startswith("db in-use on ")
    assert listed.split()[4] == "1"
    assert "web" in operator.types("docker ps --all --filter volume=db")
    assert len(operator.does(_PAGE, "Find unused volumes, protect others", 0).splitlines()) == 1
    empty_engine.docker("rm", "--force", "web")
    empty_engine.docker("volume", "prune", "--force")
    assert volumes(empty_engine) == ["db"]
    operator.does(_PAGE, "Back up files", 0)
    empty_engine.docker("volume", "rm", "db")
    operator.does(_PAGE, "Back up files", 1)
    assert _read(empty_engine) == "kept"


@AS_SERVICE
def test_a_volume_is_backed_up_and_restored_also_under_another_name(
    empty_engine: Engine, shared_volplug: VolplugProcess, operator: Operator
) -> None:
    create(empty_engine, "db")
    _write(empty_engine, "first")
    operator.does(_PAGE, "Back up a loop volume", 0)
    _write(empty_engine, "second")
    operator.does(_PAGE, "Restore a loop volume")
    assert (_read(empty_engine), _read(empty_engine, "db2")) == ("first", "first")
    _write(empty_engine, "other", "db2")
    assert _read(empty_engine) == "first"
    image = image_of(shared_volplug, "db").stat()
    assert image.st_blocks * 512 >= image.st_size  # preallocated still
    empty_engine.docker("volume", "rm", "db")
    operator.does(_PAGE, "Restore a loop volume", 0)
    assert _read(empty_engine) == "first"


@AS_SERVICE
def test_a_volume_in_use_is_frozen_and_copied(empty_engine: Engine, operator: Operator) -> None:
    create(empty_engine, "db")
    start(empty_engine, "web", "-v", "db:/data")
    execute(empty_engine, "web", "echo frozen >/data/file")
    assert operator.tries("cd /var/lib/volplug/backends/loop; flock --nonblock db.img true").returncode != 0
    operator.does(_PAGE, "Back up a loop volume", 1)
    execute(empty_engine, "web", "echo later >/data/file")
    empty_engine.docker("rm", "--force", "web")
    operator.does(_PAGE, "Restore a loop volume", 0)
    assert _read(empty_engine) == "frozen"


@AS_SERVICE
@pytest.mark.parametrize("fs_type", list(_NEXT))
def test_a_volume_grows(empty_engine: Engine, operator: Operator, fs_type: str) -> None:
    size, larger = _NEXT[fs_type]
    empty_engine.docker(
        "volume", "create", "--driver=volplug", f"--opt=size={size}", f"--opt=fs={fs_type}", "db"
    )
    _write(empty_engine, "kept")
    before = _space_kib(empty_engine)
    operator.knows({"20GiB": larger})
    if fs_type == "btrfs":
        operator.knows({"xfs_growfs": "btrfs filesystem resize max"})
    operator.does(_PAGE, "Grow a loop volume", 0, 1 if fs_type == "ext4" else 2)
    assert _space_kib(empty_engine) > before + 4 * 1024
    assert inspect(empty_engine, "volume", "db")["Status"]["size"] == larger
    assert _read(empty_engine) == "kept"


@AS_SERVICE
def test_a_volume_is_renamed(empty_engine: Engine, operator: Operator) -> None:
    create(empty_engine, "db")
    _write(empty_engine, "kept")
    operator.does(_PAGE, "Rename", 0)
    assert volumes(empty_engine) == ["db2"]
    assert _read(empty_engine, "db2") == "kept"


@AS_SERVICE
def test_old_images_and_images_without_a_record_are_found(
    empty_engine: Engine, shared_volplug: VolplugProcess, operator: Operator
) -> None:
    create(empty_engine, "db")
    image = image_of(shared_volplug, "db")
    orphan = image.with_name("orphan.img")
    orphan.touch()
    os.utime(image, (0, 0))
    assert operator.does(_PAGE, "Find unused volumes, protect others", 1) == "./db.img\norphan.img\n"
    orphan.unlink()
    _write(empty_engine, "new")
    assert operator.does(_PAGE, "Find unused volumes, protect others", 1) == ""


# Where each type has its superblock, and what is done about it.
_SUPERBLOCKS = {
    "ext4": (1024, "A damaged ext4"),
    "xfs": (0, "A damaged xfs or btrfs"),
    "btrfs": (64 * 1024, "A damaged xfs or btrfs"),
}


@AS_SERVICE
@pytest.mark.parametrize("fs_type", list(_SUPERBLOCKS))
def test_a_destroyed_superblock_is_repaired(
    empty_engine: Engine, shared_volplug: VolplugProcess, operator: Operator, fs_type: str
) -> None:
    offset, section = _SUPERBLOCKS[fs_type]
    options = (f"--opt=size={_NEXT[fs_type][0]}", f"--opt=fs={fs_type}")
    empty_engine.docker("volume", "create", "--driver=volplug", *options, "db")
    _write(empty_engine, "precious")
    with image_of(shared_volplug, "db").open("r+b") as image:
        image.seek(offset)
        image.write(bytes(1024))
    assert f"not its {fs_type} filesystem" in refusal(
        empty_engine, "run", "-v", "db:/data", "busybox", "true"
    )
    operator.knows({"32768": "8193"})
    operator.does(_PAGE, section, 1 if fs_type == "btrfs" else 0)
    assert _read(empty_engine) == "precious"


@AS_SERVICE
def test_a_lost_data_directory_is_found_again(
    empty_engine: Engine, shared_volplug: VolplugProcess, operator: Operator
) -> None:
    create(empty_engine, "db")
    _write(empty_engine, "precious")
    image = image_of(shared_volplug, "db")
    inode = operator.types(f"debugfs -R 'stat data' {image}").split()[1]
    operator.types(f"debugfs -w -R 'unlink data' {image}")
    error = refusal(empty_engine, "run", "-v", "db:/data", "busybox", "true")
    assert "lacks the directory 'data'" in error
    operator.knows({" -b 32768": "", "#12": f"#{inode}"})
    operator.does(_PAGE, "A damaged ext4")
    operator.does(_PAGE, "A filesystem without its data directory")
    assert _read(empty_engine) == "precious"


@AS_SERVICE
def test_a_lost_record_is_made_again_and_a_local_volume_in_its_place_removed(
    empty_engine: Engine, shared_volplug: VolplugProcess, operator: Operator
) -> None:
    create(empty_engine, "db")
    _write(empty_engine, "precious")
    record = record_of(shared_volplug, "db")
    was = json.loads(record.read_text())["volume"]
    record.unlink()
    _write(empty_engine, "lost")  # Docker makes a volume of its own
    operator.does(_PAGE, "An image without a record")
    assert operator.does(_PAGE, "An empty volume where there was data") == "db\n"
    assert _read(empty_engine) == "precious"
    made = json.loads(record.read_text())["volume"]
    assert made["filesystem"] == was["filesystem"]
    assert made["volume_id"] != was["volume_id"]


@MANAGED
def test_the_state_of_the_managed_plugin_moves_to_another_directory_or_is_given_up(
    engine: Engine, volplug: ManagedVolplug, tmp_path: Path
) -> None:
    create(engine, "db")
    _write(engine, "kept")
    wait_until_released(engine, volplug)
    disk = engine.directory / "disk"
    disk.mkdir()
    data_root = engine.docker("info", "--format={{.DockerRootDir}}").stdout.strip()
    names = {
        "/var/lib/volplug": str(volplug.host_dir / "volplug"),
        "/srv/disk": str(disk),
        "/var/lib/docker": data_root,
    }
    operator = Operator(engine.run, names, tmp_path)
    operator.does(_PAGE, "Move the state to a data disk", 1)
    assert _read(engine) == "kept"
    engine.docker("volume", "rm", "db")
    # Otherwise another directory is refused, see tests/engine/test_managed.py.
    empty = engine.directory / "empty"
    empty.mkdir()
    for directory in (empty, volplug.host_dir):
        volplug.stop()
        operator.does("docs/errors.md", "state-unusable", 1)
        volplug.start({"state.source": str(directory)})
        create(engine, "db2")
        engine.docker("volume", "rm", "db2")
    assert _read(engine) == "kept"  # the copy that was left behind
    engine.docker("volume", "rm", "db")


@AS_SERVICE
def test_a_service_has_a_name_with_a_slash_by_the_path_of_its_socket(engine: Engine) -> None:
    """As in docs/from-rexray.md."""
    with VolplugProcess(engine, socket=Path("/run/docker/plugins/rexray/ebs.sock")):
        run(engine, "--volume-driver=rexray/ebs", "-v", "db:/data", script="echo kept >/data/file")
        engine.restart()
        assert inspect(engine, "volume", "db")["Driver"] == "rexray/ebs"
        assert _read(engine) == "kept"
        engine.docker("volume", "rm", "db")
