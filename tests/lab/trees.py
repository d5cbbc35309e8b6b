"""Debian systems as directory trees, made once by debootstrap and kept between runs."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab import lane
from tests.lab.kept import kept
from tests.lab.programs import clean_environment, find_program, tail

_MAX_AGE_S = 14 * 24 * 3600.0
_TIMEOUT_S = 1800.0
_DEBIAN = "http://deb.debian.org/debian"


def tree(suite: str, include: Sequence[str] = (), components: Sequence[str] = ()) -> Path:
    """A minimal Debian system with further packages, such as ``tree("trixie", include=["docker.io"])``.

    It is made if there is none, or none that is younger than two weeks; that takes half a minute and
    needs a package mirror. Callers must not change it.

    Args:
        suite: Debian's release.
        include: the packages.
        components: further parts of the archive that packages come from, such as contrib.
    """
    packages = sorted(set(include))
    key = hashlib.sha256(json.dumps([suite, packages, *components]).encode()).hexdigest()[:12]
    archive = ",".join(["main", *components])
    return kept(suite, key, lambda directory: _debootstrap(suite, archive, packages, directory), _MAX_AGE_S)


def _debootstrap(suite: str, components: str, packages: Sequence[str], target: Path) -> None:
    # A mount namespace of its own, so that mounts of debootstrap in the tree end with it in any case.
    command = [
        *lane.with_network_outside(),
        "unshare",
        "--mount",
        "--propagation=private",
        find_program("debootstrap"),
        "--variant=minbase",
        f"--components={components}",
    ]
    command += [f"--include={','.join(packages)}"] if packages else []
    log = target.with_name("log")
    with log.open("wb") as output:
        done = subprocess.run(
            [*command, suite, str(target), _mirror()],
            env=clean_environment(DEBIAN_FRONTEND="noninteractive"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=_TIMEOUT_S,
            check=False,
            umask=0o022,
        )
    if done.returncode != 0:
        details = target / "debootstrap" / "debootstrap.log"
        raise RuntimeError(f"debootstrap of {suite} failed:\n{tail(log)}\n{tail(details)}")
    target.chmod(0o755)


def _mirror() -> str:
    """The mirror that this machine uses, if it is a Debian."""
    if shutil.which("apt-get") is None:
        return _DEBIAN
    command = ["apt-get", "indextargets", "--format=$(REPO_URI)"]
    wanted = ["Created-By: Packages", "Label: Debian", "Component: main"]
    asked = subprocess.run([*command, *wanted], check=False, capture_output=True, text=True)
    return next(iter(asked.stdout.split()), _DEBIAN)
