"""What tests with engines, hosts or machines need: the marks ENGINE, MULTIHOST, PLUGIN, VM and ZFS."""

import os
import platform
import shutil

import pytest

from tests.lab.programs import clean_environment

_PROGRAMS = ("dockerd", "containerd", "runc", "docker", "busybox", "nsenter", "unshare", "ip", "losetup")
# `make test-zfs`: on a machine with OpenZFS, its pools are made by that.
HAS_OPENZFS = os.environ.get("VOLPLUG_TEST_ZFS") == "1"
_ZFS_PROGRAMS = ("zfs", "zpool", "mount", "umount", "unshare", *([] if HAS_OPENZFS else ["zfs-fuse"]))
_VM_PROGRAMS = ("qemu-system-x86_64", "debootstrap", "setpriv", "mkfs.ext4", "chroot")


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


def _missing_for_podman() -> str:
    """Why podman cannot be run here, in one line; empty if it can."""
    found = shutil.which("podman", path=clean_environment()["PATH"])
    return missing_for_engine() or ("" if found else "not installed: podman (make setup as root)")


PODMAN = [
    pytest.mark.engine,
    pytest.mark.skipif(bool(_missing_for_podman()), reason=_missing_for_podman() or "-"),
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
    # The first such test builds it.
    pytest.mark.timeout(1800),
]


def _missing_for_vm() -> str:
    """Why no virtual machine can be made and run here, in one line; empty if one can."""
    if os.geteuid() != 0:
        return "needs root"
    if platform.machine() != "x86_64":
        return "the guests are for x86-64"
    path = clean_environment()["PATH"]
    missing = [program for program in _VM_PROGRAMS if shutil.which(program, path=path) is None]
    return f"not installed: {', '.join(missing)} (make setup as root)" if missing else ""


VM = [
    pytest.mark.vm,
    pytest.mark.skipif(bool(_missing_for_vm()), reason=_missing_for_vm() or "-"),
    # An emulated processor on a busy machine.
    pytest.mark.timeout(900),
]


def _missing_for_zfs() -> str:
    """Why no ZFS can be started here, in one line; empty if one can."""
    if os.geteuid() != 0:
        return "needs root"
    path = f"{clean_environment()['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
    missing = [program for program in _ZFS_PROGRAMS if shutil.which(program, path=path) is None]
    return f"not installed: {', '.join(missing)} (make setup as root)" if missing else ""


ZFS = [
    pytest.mark.zfs,
    pytest.mark.skipif(bool(_missing_for_zfs()), reason=_missing_for_zfs() or "-"),
]
