"""Volplug's dependencies, for a Python other than the one that runs the tests."""

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from tests.lab import lane
from tests.lab.programs import checked

_REPOSITORY = Path(__file__).parents[2]
_CONSTRAINTS = _REPOSITORY / "constraints.txt"


def requirements(extras: Sequence[str] = ()) -> list[str]:
    """The requirements of pyproject.toml."""
    project = tomllib.loads((_REPOSITORY / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(each for extra in extras for each in optional[extra])]


def key(extras: Sequence[str] = ()) -> list[str]:
    """A key for the installed packages."""
    return [*requirements(extras), _CONSTRAINTS.read_text()]


def install(target: Path, python: str, extras: Sequence[str] = ()) -> None:
    """Install them, in the versions that `make setup` installs, into a directory for ``python3.X``."""
    install_named(target, python, requirements(extras))


def install_named(target: Path, python: str, names: Sequence[str]) -> None:
    """Install some packages in the same way."""
    pip = [
        *lane.with_network_outside(),
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    wheels = [f"--target={target}", f"--python-version={python.removeprefix('python')}"]
    command = [*pip, *wheels, "--only-binary=:all:", *names, f"--constraint={_CONSTRAINTS}"]
    checked(subprocess.run(command, check=False, capture_output=True, text=True))
