"""The lab itself: engines are real and private, and nothing of them is left over."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.lab import loops
from tests.lab.engine import Engine
from tests.lab.leftovers import difference, settled_difference, snapshot
from tests.lab.plugin import VolplugProcess
from tests.lab.programs import CommandError
from tests.lab.requirements import ENGINE
from tests.lab.systems import system
from tests.lab.waiting import WaitTimeoutError, wait_until

pytestmark = ENGINE


def test_nothing_is_left_of_an_engine_with_a_running_container_and_an_attached_image() -> None:
    before = snapshot()
    with Engine() as engine:
        engine.import_busybox()
        engine.docker("run", "-d", "busybox:local", "sleep", "1000")
        image = engine.directory / "image"
        engine.run(["truncate", "--size=16M", str(image)], check=True)
        engine.run(["losetup", "--find", str(image)], check=True)
        assert difference(before, snapshot()) != []
    assert engine.reclaimed == [str(image)]
    assert settled_difference(before) == []


def test_a_loop_device_is_identified_by_its_image_not_by_a_path_of_another_namespace() -> None:
    before = snapshot()
    with Engine() as engine:
        image = engine.directory / "host" / "image"
        engine.run(["mkdir", str(image.parent)], check=True)
        engine.run(["truncate", "--size=16M", str(image)], check=True)
        engine.run(["mount", "--bind", str(image.parent), "/var/lib"], check=True)
        engine.run(["losetup", "--find", "/var/lib/image"], check=True)
        left = [line for line in difference(before, snapshot()) if line.startswith("loop device left")]
        assert [line.partition(" of ")[2] for line in left] == [str(image)]
    assert settled_difference(before) == []


def test_nothing_is_left_of_an_engine_that_does_not_start() -> None:
    before = snapshot()
    with (
        pytest.raises(RuntimeError, match=r"dockerd ended while starting:\n.*no-such-option"),
        Engine(extra_args=["--no-such-option"]),
    ):
        pass
    assert settled_difference(before) == []


def test_nothing_is_left_when_a_step_fails() -> None:
    before = snapshot()
    with pytest.raises(CommandError, match="No such container: nobody"), Engine() as engine:
        engine.docker("start", "nobody")
    assert settled_difference(before) == []


def test_a_killed_engine_starts_again_with_its_containers() -> None:
    with Engine() as engine:
        engine.import_busybox()
        engine.docker("run", "-d", "--stop-timeout=0", "--name=job", "busybox:local", "sleep", "1000")
        first = engine.pid
        engine.kill()
        engine.start()
        assert engine.pid != first
        assert engine.docker("inspect", "--format={{.State.Status}}", "job").stdout == "exited\n"


def test_with_live_restore_containers_survive_their_engine() -> None:
    with Engine(live_restore=True) as engine:
        engine.import_busybox()
        engine.docker("run", "-d", "--name=job", "busybox:local", "sleep", "1000")
        started = engine.docker("inspect", "--format={{.State.StartedAt}}", "job").stdout
        engine.kill()
        engine.start()
        engine.restart()
        state = engine.docker("inspect", "--format={{.State.Running}} {{.State.StartedAt}}", "job").stdout
        assert state == f"true {started}"


def test_two_engines_do_not_see_each_other() -> None:
    with Engine() as one, Engine() as other:
        one.docker("volume", "create", "here")
        assert one.docker("volume", "ls", "-q").stdout == "here\n"
        assert other.docker("volume", "ls", "-q").stdout == ""


def test_an_engine_does_not_hold_mounts_of_others(tmp_path: Path) -> None:
    image, target = tmp_path / "image", tmp_path / "target"
    target.mkdir()
    for command in (
        f"truncate --size=32M {image}",
        f"mkfs.ext4 -q {image}",
        f"mount -o loop {image} {target}",
    ):
        subprocess.run(command.split(), check=True)
    try:
        with Engine():
            subprocess.run(["umount", str(target)], check=True)
            # mount has set autoclear: the device ends with its last use.
            wait_until(lambda: not loops.attached_below(tmp_path), 5, "the loop device is gone")
    finally:
        subprocess.run(["umount", str(target)], check=False, capture_output=True)


@pytest.mark.prepare(by=partial(system, "trixie"))
def test_another_system_is_complete_and_not_changed() -> None:
    before = snapshot()
    other = system("trixie")
    with Engine(system=other) as engine:
        assert "VERSION_CODENAME=trixie\n" in engine.run(["cat", "/etc/os-release"]).stdout
        engine.run(["touch", "/etc/changed"], check=True)
        engine.import_busybox()
        engine.docker("run", "-d", "--name=job", "busybox:local", "sleep", "1000")
        # Docker enters the container by its mount namespace, whose root has to be the container's.
        assert engine.docker("exec", "job", "ls", "/etc/os-release", check=False).returncode == 1
    assert not (other.root / "etc/changed").exists()
    assert settled_difference(before) == []


def test_an_image_contains_its_files() -> None:
    with Engine() as engine:
        image = engine.import_image("cached:local", {"/data/nginx/cache/index": b"page\n"}, "ENV COLOUR=red")
        shown = engine.docker("run", "--rm", image, "sh", "-c", "cat /data/nginx/cache/index; echo $COLOUR")
        assert shown.stdout == "page\nred\n"


def test_a_plugin_process_that_ends_while_starting_is_reported_with_its_output() -> None:
    program = [sys.executable, "-c", "print('no such backend'); raise SystemExit(3)"]
    with Engine() as engine:
        plugin = VolplugProcess(engine, argv=program)
        with pytest.raises(RuntimeError, match="volplug ended with 3 while starting:\nno such backend"):
            plugin.start()


def test_difference_names_a_mount_a_process_a_namespace_and_a_loop_device(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    before = snapshot()
    script = "echo ready; exec -a volplug-of-a-test sleep 1000"
    subprocess.run(["mount", "-t", "tmpfs", "nobody", str(target)], check=True)
    subprocess.run(["losetup", "--find", str(image)], check=True)
    with subprocess.Popen(["unshare", "-n", "bash", "-c", script], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            wait_until(
                lambda: "(volplug-of-a-test 1000)" in "".join(difference(before, snapshot())), 5, "renamed"
            )
            found = difference(before, snapshot())
        finally:
            process.kill()
            subprocess.run(["umount", str(target)], check=True)
            loops.detach_below(tmp_path)
    assert f"mount left: {target} (tmpfs, nobody)" in found
    assert f"process left: {process.pid} (volplug-of-a-test 1000)" in found
    assert any(
        line.startswith("namespace left: net:") and f"held by {process.pid} " in line for line in found
    )
    assert any(line.startswith("loop device left: ") and line.endswith(f" of {image}") for line in found)
    assert settled_difference(before) == []


def test_a_wait_ends_with_an_error_that_names_the_condition() -> None:
    with pytest.raises(WaitTimeoutError, match="waited 0 s in vain until pigs fly"):
        wait_until(lambda: False, 0, "pigs fly")


def test_difference_names_a_loop_device_that_was_taken_from_its_owner(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    subprocess.run(["losetup", "--find", str(image)], check=True)
    before = snapshot()
    loops.detach_below(tmp_path)
    found = difference(before, snapshot())
    assert any(line.startswith("loop device gone: ") and line.endswith(f" of {image}") for line in found)
    image.unlink()
    assert not any(str(image) in line for line in difference(before, snapshot()))
