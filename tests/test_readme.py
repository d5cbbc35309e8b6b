"""Every command in the README is run as written: those of Docker in tests/engine/test_readme.py."""

import re
import subprocess
import sys
from pathlib import Path

from tests.lab import lane

ROOT = Path(__file__).parents[1]
COMMANDS = [line.strip() for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("    ")]
DOCKER = [command for command in COMMANDS if command.startswith("docker ") and "mysql" not in command]

# Run elsewhere: two of make by continuous integration, `make plugin` by tests/lab/built.py. Running mysql
# needs its image; tests/engine runs the same line with another.
ELSEWHERE = r"make (demo|test) .*|make plugin|docker run .* mysql"


def test_every_command_is_known_to_a_test() -> None:
    unknown = [
        command for command in COMMANDS if command not in DOCKER and not re.fullmatch(ELSEWHERE, command)
    ]
    assert unknown == []
    assert len(DOCKER) >= 5


def test_the_package_installs_with_everything_it_needs_to_serve(tmp_path: Path) -> None:
    """As in docs/install.md, but with the dependencies that are installed already."""
    argv = [
        *lane.with_network_outside(),  # pip fetches what builds the package
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(argv, check=True)
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".dist-info"} == {"bin", "volplug"}
    run = [sys.executable, "-m", "volplug", "--version"]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    said = subprocess.run(
        run, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert re.fullmatch(r"volplug \d+\.\d+\.\d+\n", said)
    imports = "import volplug.app, volplug.drivers.loop, volplug.testing.host as h; print(h.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", imports],
        env=environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.startswith(str(tmp_path))
