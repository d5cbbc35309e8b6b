"""Other Debian systems, in which an engine and volplug run as on a machine of their own.

    with Engine(system=system("trixie")) as engine:
        ...

Everything inside is that system's: dockerd, the docker command, Python, mkfs and mount. Of this machine
it sees the kernel, the lab's directory, this repository and the cache of trees.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab import trees, wheels
from tests.lab.kept import cache, kept

_MAX_AGE_S = 14 * 24 * 3600.0
_REPOSITORY = Path(__file__).parents[2]
_EXTRAS = ("engine",)  # for doctor
_ENGINE = {
    "bookworm": ["docker.io"],
    "trixie": ["docker.io", "docker-cli", "docker-compose", "curl"],  # the last two for compose.py
}
_VOLPLUG = ["btrfs-progs", "e2fsprogs", "iproute2", "libudev1", "mount", "python3", "xfsprogs"]


@dataclass(frozen=True)
class System:
    """A system tree, and paths of this machine that appear in it (path here to path there)."""

    root: Path
    binds: Mapping[Path, Path]


def system(suite: str) -> System:
    """The Debian release ``suite`` with its Docker Engine and volplug's dependencies; kept between runs.

    The path of this test run's interpreter is that of the system's own interpreter there.
    """
    if sys.prefix == sys.base_prefix:
        raise RuntimeError("another system needs a virtual environment that it can replace by its own")
    root = trees.tree(suite, [*_ENGINE[suite], "ca-certificates", "iptables", *_VOLPLUG])
    same = {path: path for path in (_REPOSITORY, cache())}
    return System(root, {**same, _environment(root): Path(sys.prefix)})


def _environment(root: Path) -> Path:
    """A virtual environment for the tree's Python with volplug's dependencies, and volplug from here."""
    python = (root / "usr/bin/python3").readlink().name
    name = Path(sys.executable).name
    key = json.dumps([python, name, wheels.key(_EXTRAS), str(_REPOSITORY)])
    short = hashlib.sha256(key.encode()).hexdigest()[:12]
    return kept("interpreter", short, lambda directory: _make_environment(directory, python), _MAX_AGE_S)


def _make_environment(target: Path, python: str) -> None:
    packages = target / "lib" / python / "site-packages"
    wheels.install(packages, python, _EXTRAS)
    (packages / "volplug.pth").write_text(f"{_REPOSITORY}\n")
    (target / "bin").mkdir()
    (target / "bin" / Path(sys.executable).name).symlink_to(f"/usr/bin/{python}")
    (target / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
