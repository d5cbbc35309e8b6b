"""Debian systems as directory trees, made once by debootstrap and kept between runs.

They lie below VOLPLUG_TEST_CACHE (by default ~/.cache/volplug-tests), which may be deleted at any time
when no test runs. Whoever gets a tree must not change it: others use it, too.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.programs import clean_environment, find_program, tail

_MAX_AGE_S = 14 * 24 * 3600.0
_TIMEOUT_S = 1800.0
_DEBIAN = "http://deb.debian.org/debian"

# One open descriptor for each tree that this process uses; closed by the kernel at its end.
_in_use: dict[Path, int] = {}


def tree(suite: str, include: Sequence[str] = ()) -> Path:
    """A minimal Debian system with further packages, such as ``tree("trixie", include=["docker.io"])``.

    It is made if there is none, or none that is younger than two weeks; that takes half a minute and a
    package mirror. Processes that ask for the same one at the same time make it once.
    """
    key = hashlib.sha256(json.dumps([suite, sorted(set(include))]).encode()).hexdigest()[:12]
    with _alone(cache() / f"{suite}-{key}.lock"):
        for abandoned in cache().glob(f"unfinished-{suite}-{key}-*/"):
            shutil.rmtree(abandoned)
        trees = sorted(cache().glob(f"{suite}-{key}-*/"))
        young = [each for each in trees if _age_s(each) < _MAX_AGE_S]
        newest = young[-1] if young else _build(suite, include, cache() / f"{suite}-{key}-{int(time.time())}")
        _use(newest)
        for old in trees:
            if old != newest:
                _remove_unless_used(old)
    return newest


def cache() -> Path:
    """Where trees and other things that are expensive to make are kept between runs."""
    named = os.environ.get("VOLPLUG_TEST_CACHE")
    directory = Path(named) if named else Path.home() / ".cache" / "volplug-tests"
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def _build(suite: str, include: Sequence[str], target: Path) -> Path:
    unfinished = Path(tempfile.mkdtemp(prefix=f"unfinished-{target.name}-", dir=target.parent))
    try:
        made = unfinished / "tree"
        _debootstrap(suite, include, made, unfinished / "log")
        made.chmod(0o755)
        made.rename(target)
    finally:
        shutil.rmtree(unfinished)
    return target


def _debootstrap(suite: str, include: Sequence[str], target: Path, log: Path) -> None:
    # A mount namespace of its own: what debootstrap mounts in the tree ends with it, however that ends.
    command = [
        "unshare",
        "--mount",
        "--propagation=private",
        find_program("debootstrap"),
        "--variant=minbase",
    ]
    command += [f"--include={','.join(include)}"] if include else []
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


def _mirror() -> str:
    """The mirror that this machine uses, if it is a Debian."""
    command = ["apt-get", "indextargets", "--format=$(REPO_URI)"]
    wanted = ["Created-By: Packages", "Label: Debian", "Component: main"]
    asked = subprocess.run([*command, *wanted], check=False, capture_output=True, text=True)
    return next(iter(asked.stdout.split()), _DEBIAN)


def _age_s(built: Path) -> float:
    return time.time() - int(built.name.rpartition("-")[2])


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _use(built: Path) -> None:
    if built not in _in_use:
        _in_use[built] = os.open(built, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(_in_use[built], fcntl.LOCK_SH)


def _remove_unless_used(old: Path) -> None:
    descriptor = os.open(old, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(old)
    except BlockingIOError:
        return  # whoever uses it removes nothing either; the next run does
    finally:
        os.close(descriptor)
