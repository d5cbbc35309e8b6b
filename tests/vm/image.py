"""The boot images of guests: a kernel, and a disk with a minimal Debian and volplug's dependencies.

The kernel is Debian's for clouds. NVMe and ext4 are part of it, so it needs no initramfs. One image has
OpenZFS and a Docker Engine, too.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import trees, wheels
from tests.lab.kept import kept
from tests.lab.programs import checked, find_program

PACKAGES = "/opt/packages"
_MAX_AGE_S = 14 * 24 * 3600.0
_DISK_SIZE_BYTES = 2 << 30
_DEBIAN = ["e2fsprogs", "iproute2", "linux-image-cloud-amd64", "python3", "udev"]
# zfs-dkms compiles the kernel module when it is installed, here and not in the slow guest.
_OPENZFS = ["zfs-dkms", "zfsutils-linux", "linux-headers-cloud-amd64"]
_ENGINE = ["docker.io", "containerd", "runc", "iptables", "ca-certificates"]
_EXTRAS = ["ebs"]
_NOT_NEEDED = [
    "boot",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
]
_NOT_NEEDED_COMPILED = ["usr/include", "usr/lib/gcc", "usr/src", "var/lib/dkms"]
_OURS = {
    "opt/init": Path(__file__).with_name("init.sh"),
    "opt/agent.py": Path(__file__).with_name("agent.py"),
}


@dataclass(frozen=True)
class GuestImage:
    """A kernel and a root disk, neither of which may be changed."""

    kernel: Path
    disk: Path


def guest_image() -> GuestImage:
    """The image, kept between runs; to make it takes a minute and a package mirror."""
    return _image("guest", trees.tree("bookworm", _DEBIAN), _NOT_NEEDED)


def openzfs_image() -> GuestImage:
    """The image with OpenZFS, its kernel module and a Docker Engine; to make it takes five minutes."""
    tree = trees.tree("bookworm", [*_DEBIAN, *_OPENZFS, *_ENGINE], components=["contrib"])
    return _image("openzfs", tree, [*_NOT_NEEDED, *_NOT_NEEDED_COMPILED])


def _image(kind: str, tree: Path, not_needed: Sequence[str]) -> GuestImage:
    content = [tree.name, wheels.key(_EXTRAS), Path(__file__).read_text()]
    content += [path.read_text() for path in _OURS.values()]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
    made = kept(kind, key, lambda directory: _make(tree, not_needed, directory), _MAX_AGE_S)
    return GuestImage(made / "vmlinuz", made / "disk")


def _make(tree: Path, not_needed: Sequence[str], target: Path) -> None:
    root = target / "root"
    # Links, not copies; so files in it may be added and removed but not changed.
    checked(_run("cp", "-al", str(tree), str(root)))
    shutil.copy(max(root.glob("boot/vmlinuz-*")), target / "vmlinuz")
    for name in not_needed:
        shutil.rmtree(root / name)
    for place, source in _OURS.items():
        shutil.copy(source, root / place)
        (root / place).chmod(0o755)
    python = (root / "usr/bin/python3").readlink().name
    wheels.install(root / PACKAGES.lstrip("/"), python, _EXTRAS)
    # Once here instead of slowly in every guest.
    compiling = ["-m", "compileall", "-q", PACKAGES]
    checked(_run("chroot", str(root), f"/usr/bin/{python}", *compiling))
    disk = target / "disk"
    with disk.open("wb") as file:
        file.truncate(_DISK_SIZE_BYTES)
    checked(_run("mkfs.ext4", "-q", "-F", "-d", str(root), str(disk)))
    shutil.rmtree(root)


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [find_program(program), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)
