"""Test runs and their lanes do not disturb each other, and nothing is left over of them."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.lab import lane, loops
from tests.lab.leftovers import difference, settled_difference, snapshot
from tests.lab.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

_REPOSITORY = Path(__file__).parents[1]
_TIMEOUT_S = 60.0
_BEGINNING = """
    import os, subprocess, time
    from pathlib import Path
    import pytest
    from tests.lab import lane, loops
    from tests.lab.leftovers import difference, snapshot
    from tests.lab.waiting import wait_until

    SHARED = Path(__file__).parent

    def meet(*names):
        (SHARED / names[0]).touch()
        for name in names[1:]:
            wait_until((SHARED / name).exists, 30, f"{name} is there")
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A test suite of its own, with an empty cache."""
    (tmp_path / "conftest.py").write_text(
        'pytest_plugins = ["tests.lab.parts", "tests.lab.parallel", "tests.lab.prepared"]\n'
    )
    markers = "".join(f"    {name}: -\n" for name in ("lane", "spread", "alone", "prepare"))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nmarkers =\n{markers}")
    return tmp_path


def _start(suite: Path, *options: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONPATH": str(_REPOSITORY),
        "VOLPLUG_TEST_CACHE": str(suite / "cache"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    plugins = ("-p", "xdist", "-p", "pytest_timeout", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *options]
    return subprocess.Popen(command, cwd=suite, env=environment, stdout=subprocess.PIPE, text=True)


def _run(suite: Path, **modules: str) -> str:
    """Run modules in two lanes, and return the output; the run has to succeed."""
    _write(suite, modules)
    with _start(suite, "-n2") as run:
        shown, _ = run.communicate(timeout=_TIMEOUT_S)
    assert run.returncode == 0, shown
    return shown


def _write(suite: Path, modules: dict[str, str]) -> None:
    for name, text in modules.items():
        beginning = textwrap.dedent(_BEGINNING)
        (suite / f"test_{name}.py").write_text(beginning + textwrap.dedent(text))


def test_lanes_see_nothing_of_each_other(suite: Path) -> None:
    one_lane = """
        def test_it(tmp_path):
            before = snapshot()
            meet("{me}-observed", "{other}-observed")
            image = tmp_path / "image"
            image.write_bytes(bytes(1 << 20))
            subprocess.run(["losetup", "--find", str(image)], check=True)
            subprocess.run(["mount", "-t", "tmpfs", "{me}", "/mnt"], check=True)
            subprocess.run(["ip", "link", "add", "{me}", "type", "bridge"], check=True)
            Path("/run/docker/plugins/{me}.sock").touch()
            for group in Path("/sys/fs/cgroup").glob("*/cgroup.procs"):
                (group.parent / "volplug-lab" / "{me}").mkdir(parents=True)
                break
            for namespace in ("mnt", "pid", "net", "uts", "cgroup"):
                (SHARED / f"{me}-{{namespace}}").write_text(os.readlink(f"/proc/self/ns/{{namespace}}"))
            process = subprocess.Popen(["sleep", "1000"])
            meet("{me}-made", "{other}-made")
            found = "".join(difference(before, snapshot()))
            assert "{me}" in found and f" of {{image}}" in found
            assert "{other}" not in found
            assert found.count("loop device left") == 1
            assert "{other}" not in Path("/proc/net/dev").read_text()
            assert len([pid for pid in Path("/proc").glob("[0-9]*")]) < 10
            process.kill()
            process.wait()
            loops.detach_below(tmp_path)
    """
    _run(
        suite,
        a=one_lane.format(me="lane-a", other="lane-b"),
        b=one_lane.format(me="lane-b", other="lane-a"),
    )
    for namespace in ("mnt", "pid", "net", "uts", "cgroup"):
        made = {(suite / f"lane-{each}-{namespace}").read_text() for each in ("a", "b")}
        assert len(made | {os.readlink(f"/proc/self/ns/{namespace}")}) == 3, namespace


def test_units_are_modules_unless_marks_change_that(suite: Path) -> None:
    module = """
        def note(name):
            with (SHARED / name).open("a") as file:
                file.write(f"{os.environ['PYTEST_XDIST_WORKER']}\\n")

        @pytest.mark.parametrize("number", range(5))
        def test_of_the_module(number): note(__name__)

        @pytest.mark.lane("shared")
        def test_of_a_lane(): note("shared")

        @pytest.mark.spread
        @pytest.mark.parametrize("number", range(5))
        def test_spread(number):
            note("spread")
            lanes = lambda: len(set((SHARED / "spread").read_text().split()))
            wait_until(lambda: lanes() == 2, 30, "the other lane takes one, too")
    """
    _run(suite, one=module, two=module)
    for name, lanes in {"test_one": 1, "test_two": 1, "shared": 1, "spread": 2}.items():
        assert len(set((suite / name).read_text().split())) == lanes, name


def test_a_test_marked_alone_waits_for_the_others_and_they_for_it(suite: Path) -> None:
    busy = """
        @pytest.mark.parametrize("number", range(20))
        def test_busy(number):
            (SHARED / f"running-{me}").touch()
            time.sleep(0.01)  # for a while, which is the subject
            assert not (SHARED / "alone").exists()
            (SHARED / f"running-{me}").unlink()
    """
    _run(
        suite,
        a=busy.replace("{me}", "a"),
        b=busy.replace("{me}", "b"),
        c="""
            @pytest.mark.alone
            @pytest.mark.parametrize("number", range(3))
            def test_alone(number):
                (SHARED / "alone").touch()
                time.sleep(0.05)
                assert not list(SHARED.glob("running-*"))
                (SHARED / "alone").unlink()
        """,
    )


def test_slow_preparations_are_made_once_and_outside_of_the_time_limit(suite: Path) -> None:
    module = """
        from tests.lab.kept import kept

        def make():
            kept("thing", "it", lambda directory: (time.sleep(1.5), (directory / "made").touch()), 1000)

        @pytest.mark.timeout(1)
        @pytest.mark.prepare(by=make)
        def test_it(): make()
    """
    _run(suite, a=module, b=module)
    assert len(list((suite / "cache").glob("thing-it-*/"))) == 1


def test_the_report_has_the_time_of_each_part_and_the_ids_of_tests(suite: Path) -> None:
    shown = _run(suite, a="def test_short(): pass\n", b="def test_longer(): time.sleep(0.1)\n")
    assert "unit and contract" in shown
    assert shown.index("test_b.py::test_longer\n") < shown.index("test_a.py::test_short\n")


_ENDLESS = """
    def test_endless(tmp_path):
        image = tmp_path / "image"
        image.write_bytes(bytes(1 << 20))
        subprocess.run(["losetup", "--find", str(image)], check=True)
        subprocess.Popen(["dockerd-of-a-test", "1000"], executable="sleep", start_new_session=True)
        meet("begun", "never")
"""


def test_nothing_is_left_of_a_run_that_is_interrupted(suite: Path) -> None:
    before = snapshot()
    _write(suite, {"it": _ENDLESS})
    with _start(suite, "-n1") as run:
        wait_until((suite / "begun").exists, _TIMEOUT_S, "the test has begun")
        assert any("dockerd-of-a-test" in line for line in difference(before, snapshot()))
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=_TIMEOUT_S)
    assert settled_difference(before) == []


def test_no_process_is_left_of_a_run_that_is_killed(suite: Path) -> None:
    before = snapshot()
    _write(suite, {"it": _ENDLESS})
    with _start(suite, "-n1") as run:
        wait_until((suite / "begun").exists, _TIMEOUT_S, "the test has begun")
        run.kill()
        run.communicate(timeout=_TIMEOUT_S)

    def only_the_image_is_left() -> bool:
        left = difference(before, snapshot())
        return bool(left) and all(line.startswith("loop device left: ") for line in left)

    wait_until(only_the_image_is_left, _TIMEOUT_S, "all processes of the run have ended")
    loops.detach_below(lane.directory())
