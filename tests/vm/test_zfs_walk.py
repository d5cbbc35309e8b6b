"""Random walks on OpenZFS itself, with two volumes and without the exceptions of zfs-fuse."""

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.lab import wheels
from tests.lab.kept import kept
from tests.lab.requirements import VM
from tests.lab.waiting import wait_until
from tests.vm.guest import Guest
from tests.vm.guest_volplug import PYTHON
from tests.vm.image import PACKAGES, openzfs_image
from tests.walks.walk import WALKS

_REPOSITORY = Path(__file__).parents[2]
_CODE = "/opt/walks"
_LOG = "/run/walks"
_PYTHON_OF_GUEST = "python3.11"
_NEEDED = ("hypothesis", "pytest")
_MAX_AGE_S = 14 * 24 * 3600.0
_WALKS, _STEPS = 3, 20
_TIMEOUT_S = 800 + 60 * WALKS


def walkers() -> Path:
    """The packages of the walk for the guest's Python, kept between runs."""
    content = [_PYTHON_OF_GUEST, *_NEEDED, *wheels.key()]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
    return kept(
        "walkers", key, lambda target: wheels.install_named(target, _PYTHON_OF_GUEST, _NEEDED), _MAX_AGE_S
    )


pytestmark = [
    *VM,
    pytest.mark.slow,  # to make the image takes minutes, since it has a compiler compile the module
    pytest.mark.prepare(by=openzfs_image),
    pytest.mark.prepare(by=walkers),
]


def _install_walks(guest: Guest, scratch: Path) -> None:
    code = scratch / "walks"
    shutil.copytree(walkers(), code)
    for name in ("volplug", "tests"):
        shutil.copytree(_REPOSITORY / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(code, _CODE)
    guest.run(["tar", "-x", "-C", "/"], input_bytes=archive.getvalue())


@pytest.mark.timeout(_TIMEOUT_S + 100)
def test_a_host_with_openzfs_keeps_every_promise_under_random_events(
    zfs_guest: Guest, tmp_path: Path
) -> None:
    _install_walks(zfs_guest, tmp_path)
    env = {"PYTHONPATH": f"{_CODE}:{PACKAGES}", "VOLPLUG_TEST_ZFS": "1", "VOLPLUG_WALKS": str(WALKS)}
    command = [PYTHON, "-m", "tests.vm.run_zfs_walks", str(_WALKS), str(_STEPS)]
    pid = zfs_guest.spawn(command, env=env, log=_LOG)
    wait_until(lambda: not zfs_guest.is_running(pid), _TIMEOUT_S, "the walks have ended")
    assert zfs_guest.read(_LOG).endswith("kept every promise\n"), zfs_guest.read(_LOG)
