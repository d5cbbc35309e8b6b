"""Checks of this host: kernel, programs, rights, mounts, device nodes, clock."""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from volplug.doctor.examination import Examination
from volplug.errors import CommandFailed
from volplug.findings import Finding, Level
from volplug.host import libc, mountinfo
from volplug.host.filesystems import FILESYSTEMS
from volplug.host.mountinfo import MountEntry
from volplug.host.process import run, search_path

_LOOP_CONTROL: Final = Path("/dev/loop-control")
_FIRST_LINUX: Final = (5, 8)  # LOOP_CONFIGURE
_CAP_SYS_ADMIN: Final = 21  # linux/capability.h
_INSIDE: Final = "/mnt/volplug/volumes"  # the mount root as the managed plugin sees it, of config.json
_ENGINE: Final = "dockerd"
_VERSION: Final = re.compile(r"\d+\.\d+[\w.+-]*")
_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)  # volplug is younger


# Kernel


async def check_kernel(examination: Examination) -> Sequence[Finding]:
    """Check what the configured drivers need of the kernel."""
    uses_loop = any(driver.info.driver == "loop" for driver in examination.drivers.values())
    has_control = await examination.quickly("/dev", _LOOP_CONTROL.exists)
    return [judge_kernel(platform.release(), uses_loop=uses_loop, has_loop_control=has_control)]


def judge_kernel(release: str, *, uses_loop: bool, has_loop_control: bool) -> Finding:
    """Judge the kernel's version, and whether it gives loop devices. Pure."""
    found = partial(Finding, "kernel", subject=f"Linux {release}")
    number = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if uses_loop and number < _FIRST_LINUX:
        return found(
            level=Level.RED,
            message="it cannot attach images as the driver loop does",
            remedy="Install Linux 5.8 or newer",
        )
    if uses_loop and not has_loop_control:
        return found(
            level=Level.RED,
            message=f"it gives no loop devices: there is no {_LOOP_CONTROL}",
            remedy="Load the module, modprobe loop, and let volplug see the host's /dev",
        )
    return found(level=Level.GREEN, message="has what the configured drivers need")


# Filesystems and programs


async def check_filesystem(examination: Examination) -> Sequence[Finding]:
    """Check kernel and mkfs for the filesystem types that new volumes get."""
    settings = examination.settings
    wanted = {settings.default_fs, *(each.get("fs", "") for each in settings.profiles.values())}
    kernel = await examination.quickly("/proc and /lib/modules", _kernel_filesystems)
    findings = []
    for fs_type, filesystem in FILESYSTEMS.items():
        version = await _version(examination, f"mkfs.{fs_type}", filesystem.version_flag)
        findings.append(judge_filesystem(fs_type, kernel, version, is_wanted=fs_type in wanted))
    return findings


def judge_filesystem(
    fs_type: str, kernel: frozenset[str] | None, version: str, *, is_wanted: bool
) -> Finding:
    """Judge one filesystem type. Pure.

    Args:
        fs_type: Its name.
        kernel: What the kernel has or can load; None if that is not known.
        version: Of its mkfs; empty if that is not installed.
        is_wanted: Whether the default or a profile asks for it.
    """
    found = partial(Finding, "filesystem", subject=fs_type)
    serious = Level.RED if is_wanted else Level.GREEN
    if not version:
        unused = "" if is_wanted else ", and no setting asks for it"
        return found(
            level=serious,
            message=f"mkfs.{fs_type} is not installed{unused}",
            remedy=f"Install the package {FILESYSTEMS[fs_type].package}" if is_wanted else "",
        )
    if kernel is not None and fs_type not in kernel:
        unused = "" if is_wanted else ", and no setting asks for it"
        return found(
            level=serious,
            message=f"this kernel does not have it{unused}",
            remedy=f"Install a kernel with the module {fs_type}" if is_wanted else "",
        )
    return found(level=Level.GREEN, message=f"the kernel has it, mkfs.{fs_type} is {version}")


async def check_program(examination: Examination) -> Sequence[Finding]:
    """Check the programs that every mount needs."""
    programs = {"blkid": "util-linux"}
    programs |= {each.check.argv[0]: each.package for each in FILESYSTEMS.values() if each.check is not None}
    return [
        judge_program(name, await _version(examination, name, "-V"), package)
        for name, package in programs.items()
    ]


def judge_program(name: str, version: str, package: str) -> Finding:
    """Judge one program, by its version; an empty one means that it is not installed. Pure."""
    if version:
        return Finding("program", Level.GREEN, name, version)
    message = "it is not installed, and no volume can be mounted without it"
    return Finding("program", Level.RED, name, message, f"Install the package {package}")


async def _version(examination: Examination, program: str, version_flag: str) -> str:
    """Return the version of a program, "" if it is not installed, or what can be said instead."""
    if await examination.quickly("PATH", shutil.which, program, path=search_path()) is None:
        return ""
    try:
        ended = await run(examination.pool, (program, version_flag), ok=range(256))
    except CommandFailed:
        return "of unknown version"
    found = _VERSION.search(ended.stdout + ended.stderr)
    return found[0] if found else "of unknown version"


def _kernel_filesystems() -> frozenset[str] | None:
    """Return the types that the kernel has, or can load; None if its modules cannot be seen."""
    lines = Path("/proc/filesystems").read_text(encoding="ascii").splitlines()
    loaded = frozenset(line.split()[-1] for line in lines if line.strip())
    if loaded >= FILESYSTEMS.keys():
        return loaded
    try:
        modules = Path(f"/lib/modules/{platform.release()}/modules.dep").read_text(encoding="ascii")
    except OSError:
        return None
    loadable = re.findall(r"/([\w-]+)\.ko[\w.]*:", modules)
    return loaded | frozenset(loadable)


# Rights


async def check_capabilities(examination: Examination) -> Sequence[Finding]:
    """Check that this process may mount: otherwise most of the other checks say little."""
    status = await examination.quickly("/proc", Path("/proc/self/status").read_text, encoding="ascii")
    return [judge_capabilities(status, os.geteuid())]


def judge_capabilities(status: str, uid: int) -> Finding:
    """Judge the effective capabilities in /proc/PID/status. Pure."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if found and int(found[1], 16) >> _CAP_SYS_ADMIN & 1:
        return Finding("capabilities", Level.GREEN, f"user {uid}", "may mount (CAP_SYS_ADMIN)")
    message = "may not mount (CAP_SYS_ADMIN), nor see all that doctor checks"
    return Finding("capabilities", Level.RED, f"user {uid}", message, "Run it as root: sudo volplug doctor")


# Mounts that the engine sees


async def check_mount_propagation(examination: Examination) -> Sequence[Finding]:
    """Check that the engine sees mounts below the mount root: else containers get an empty directory."""
    return [await examination.quickly("/proc, or the mount root", _propagation, examination)]


def _propagation(examination: Examination) -> Finding:
    root = os.path.realpath(examination.settings.resolved_mount_root)
    if not examination.daemon_pid:
        return Finding("mount-propagation", Level.GREEN, root, "is not known while volplug does not run")
    own = str(examination.daemon_pid)
    is_inside = examination.is_managed and not os.path.samefile(f"/proc/{own}/ns/mnt", "/proc/self/ns/mnt")
    ours = mountinfo.entry_of(mountinfo.read(own), _INSIDE if is_inside else root)
    seen = {}
    for pid in _processes(_ENGINE):
        try:
            if not os.path.samefile(f"/proc/{pid}/ns/pid", "/proc/self/ns/pid"):
                continue  # an engine inside of a container, with plugins of its own
            shares = os.path.samefile(f"/proc/{pid}/ns/mnt", f"/proc/{own}/ns/mnt")
            seen[pid] = None if shares else mountinfo.entry_of(mountinfo.read(pid), root)
        except OSError:
            continue  # ended
    return judge_propagation(root, ours, seen)


def judge_propagation(root: str, ours: MountEntry | None, engines: dict[str, MountEntry | None]) -> Finding:
    """Judge whether mounts below the mount root reach the engines. Pure.

    Args:
        root: The mount root.
        ours: The mount that it lies on, for volplug.
        engines: By process id: the mount that it lies on for that engine; None if it shares our namespace.
    """
    found = partial(Finding, "mount-propagation", subject=root)
    if not engines:
        return found(level=Level.GREEN, message="no Docker engine runs in sight")
    group = ours.peer_group if ours is not None else 0
    if any(entry is None or (group and entry.peer_group == group) for entry in engines.values()):
        return found(level=Level.GREEN, message="the engine sees what is mounted there")
    return found(
        level=Level.RED,
        message=f"the engine (process {', '.join(engines)}) does not see what volplug mounts there: "
        "they have mount namespaces of their own, and mounts do not propagate",
        remedy="Remove what gives the unit of volplug a namespace: PrivateTmp, ProtectSystem and the like",
    )


def _processes(name: str) -> Iterable[str]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip() == name:
                yield pid
        except OSError:
            continue  # ended


# Device nodes and clock


async def check_devices(examination: Examination) -> Sequence[Finding]:
    """Check that /dev is the host's: nodes of new disks have to appear in it."""
    entry, missing = await examination.quickly("/dev", _read_dev)
    is_remote = any(driver.info.remote for driver in examination.drivers.values())
    return [judge_dev(entry.fs_type if entry else "", missing, needs_new_disks=is_remote)]


def judge_dev(fs_type: str, missing: Sequence[str], *, needs_new_disks: bool) -> Finding:
    """Judge /dev by its filesystem type, and by the disks that have no node in it. Pure."""
    if fs_type == "devtmpfs" and not missing:
        return Finding("devices", Level.GREEN, "/dev", "is the host's, new disks appear in it")
    lacks = f", {', '.join(missing[:3])} missing" if missing else ""
    is_needed = needs_new_disks or bool(missing)
    return Finding(
        "devices",
        Level.RED if is_needed else Level.YELLOW,
        "/dev",
        f"is no devtmpfs, new disks do not appear in it{lacks}"
        if fs_type != "devtmpfs"
        else f"nodes of disks were removed from it{lacks}",
        "Let volplug see the /dev of the host; its unit must not have PrivateDevices",
    )


def _read_dev() -> tuple[MountEntry | None, Sequence[str]]:
    disks = sorted(os.listdir("/sys/block"))
    missing = [name for name in disks if not os.path.exists(f"/dev/{name.replace('!', '/')}")]
    return mountinfo.entry_of(mountinfo.read(), "/dev"), missing


async def check_clock(examination: Examination) -> Sequence[Finding]:
    """Check the clock, as far as this host can tell: clouds refuse requests of a wrong one."""
    is_remote = any(driver.info.remote for driver in examination.drivers.values())
    return [judge_clock(time.time(), is_synchronised=libc.is_clock_synchronised(), is_needed=is_remote)]


def judge_clock(now_s: float, *, is_synchronised: bool, is_needed: bool) -> Finding:
    """Judge the clock. Pure."""
    now = datetime.fromtimestamp(now_s, UTC)
    found = partial(Finding, "clock", subject=now.isoformat(timespec="seconds"))
    if now < _EPOCH:
        return found(
            level=Level.RED,
            message="it is wrong: volplug is younger than that",
            remedy="Set it, and start a time service: timedatectl set-ntp true",
        )
    if not is_synchronised and is_needed:
        return found(
            level=Level.YELLOW,
            message="no time service keeps it right, and clouds refuse requests of a wrong clock",
            remedy="Start a time service: timedatectl set-ntp true",
        )
    how = "a time service keeps it right" if is_synchronised else "no time service, and no driver needs one"
    return found(level=Level.GREEN, message=how)
