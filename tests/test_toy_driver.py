"""The example driver: its guide shows its code, and its installed package works as the guide describes."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.dockerd import Dockerd
from tests.lab import leftovers, loops
from tests.lab.plugin import VolplugProcess
from tests.lab.programs import clean_environment
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine, local_machine

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "toy-driver"
CODE = [EXAMPLE / "volplug_toy.py", EXAMPLE / "pyproject.toml", EXAMPLE / "tests" / "test_toy.py"]
GUIDE = (ROOT / "docs" / "writing-a-driver.md").read_text()
_FENCED = re.findall(r"^```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
# One listing is not from the package: the configuration file.
SETTINGS = [text for text in _FENCED if text.startswith("# /etc/volplug/config.toml\n")]
LISTINGS = [text for text in _FENCED if text not in SETTINGS]


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, because building it leaves files in its directory."""
    return Path(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("author") / "toy-driver"))


@pytest.fixture(scope="module")
def site(copied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which the package is installed; volplug itself is that of these tests."""
    site = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(site)]
    subprocess.run([*pip, str(copied)], check=True)
    assert (site / "volplug_toy.py").exists()
    return site


@pytest.fixture
def machine() -> Iterator[LocalMachine]:
    with local_machine() as machine:
        yield machine


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda text: " ".join(text.split()[:3]))
def test_the_listings_of_the_guide_are_the_code_of_the_example(listing: str) -> None:
    assert any(listing in path.read_text() for path in CODE)


def test_the_guide_shows_most_of_a_driver_that_is_short_enough_to_read() -> None:
    assert len(LISTINGS) > 10
    assert len(CODE[0].read_text().splitlines()) < 200


@pytest.mark.loop
@pytest.mark.contract
async def test_an_installed_package_serves_docker_through_its_entry_point(
    machine: LocalMachine, site: Path
) -> None:
    shelf, config = machine.directory / "shelf", machine.directory / "config.toml"
    shelf.mkdir()
    (shelf / ".shelf").touch()
    config.write_text(SETTINGS[0].replace("/srv/shelf", str(shelf)))
    environment = {"PYTHONPATH": str(site), "VOLPLUG_CONFIG": str(config)}
    with VolplugProcess(machine, env=environment) as process:
        async with Dockerd(machine.directory / "p.sock") as dockerd:
            await dockerd.ok("Create", Name="books", Opts={"size": "8MiB", "backend": "shelf"})
            assert sorted(path.name for path in shelf.glob("b*")) == ["books.json", "books.toy"]
            for text in ("first", "second"):
                mountpoint = Path((await dockerd.ok("Mount", Name="books", ID="a"))["Mountpoint"])
                assert str(mountpoint.parent) in leftovers.mounted_below(process.state_dir)
                kept = [path.read_text() for path in mountpoint.iterdir()]
                (mountpoint / text).write_text(text)
                await dockerd.ok("Unmount", Name="books", ID="a")
                wait_until(lambda: not loops.attached_below(shelf), 20, "books is detached")
            assert kept == ["first"]
            await dockerd.ok("Remove", Name="books")
            assert [path.name for path in shelf.iterdir()] == [".shelf"]
            assert (await dockerd.ok("List"))["Volumes"] == []


@pytest.mark.loop
@pytest.mark.conformance
def test_the_installed_driver_is_certified_by_the_suite(copied: Path, site: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")
    report, ours = tmp_path / "report.xml", tmp_path / "made"
    options = ["-q", "-c", str(copied / "pyproject.toml"), "--basetemp", str(ours), f"--junitxml={report}"]
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", *options, str(copied / "tests")],
            env=clean_environment(PYTHONPATH=str(site)),
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
    finally:
        left = loops.detach_below(tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    suite = ElementTree.parse(report).getroot().find("testsuite")  # noqa: S314 - written by ourselves
    assert suite is not None
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    certified = [case for case in suite.iter("testcase") if case.attrib["classname"].endswith("TestToy")]
    assert len(certified) > 30
    assert counts | {"tests": 0} == {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    assert left == []
