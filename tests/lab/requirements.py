"""What tests with real engines need, as pytest marks: ``pytestmark = ENGINE``, ``MULTIHOST``, ``PLUGIN``."""

import os
import shutil

import pytest

from tests.lab.programs import clean_environment

_PROGRAMS = ("dockerd", "containerd", "runc", "docker", "busybox", "nsenter", "unshare", "ip", "losetup")


def missing_for_engine() -> str:
    """Why no engine can be started here, in one line; empty if one can."""
    if os.geteuid() != 0:
        return "needs root"
    path = clean_environment()["PATH"]
    missing = [program for program in _PROGRAMS if shutil.which(program, path=path) is None]
    return f"not installed: {', '.join(missing)} (make setup as root)" if missing else ""


ENGINE = [
    pytest.mark.engine,
    pytest.mark.skipif(bool(missing_for_engine()), reason=missing_for_engine() or "-"),
]


# Several hosts, each with an engine.
MULTIHOST = [*ENGINE, pytest.mark.multihost]


def _missing_for_plugin() -> str:
    """Why no managed plugin can be built and run here, in one line; empty if one can."""
    if missing_for_engine():
        return missing_for_engine()
    debootstrap = shutil.which("debootstrap", path=clean_environment()["PATH"])
    return "" if debootstrap else "not installed: debootstrap (make setup as root)"


PLUGIN = [
    pytest.mark.engine,
    pytest.mark.plugin,
    pytest.mark.skipif(bool(_missing_for_plugin()), reason=_missing_for_plugin() or "-"),
    # The first one builds it.
    pytest.mark.timeout(1800),
]
