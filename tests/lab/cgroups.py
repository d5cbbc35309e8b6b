"""The lab's control groups: the one resource of a container that does not end with its namespaces."""

import os
from collections.abc import Collection
from pathlib import Path

from tests.lab.waiting import wait_until

PARENT = "volplug-lab"
_ROOT = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """The mounted cgroup trees: one with cgroup v2, one for each controller with v1."""
    if (_ROOT / "cgroup.procs").exists():
        return [_ROOT]
    return [d for d in sorted(_ROOT.iterdir()) if d.is_dir() and not d.is_symlink()] if _ROOT.is_dir() else []


def lab_groups() -> set[str]:
    """Names of the labs that have control groups now."""
    groups: set[str] = set()
    for hierarchy in hierarchies():
        parent = hierarchy / PARENT
        if parent.is_dir():
            groups |= {entry.name for entry in parent.iterdir() if entry.is_dir()}
    return groups


def remove(name: str, timeout_s: float = 10.0) -> None:
    """Remove the control groups of the lab ``name``, whose processes were ended."""
    wait_until(lambda: _removed(name), timeout_s, f"the control groups {PARENT}/{name} are empty")


def remove_of_plugins(names: Collection[str], timeout_s: float = 10.0) -> None:
    """Remove the control groups of managed plugins, which dockerd puts elsewhere and names by their ids."""
    for hierarchy in hierarchies() if names else []:
        for directory, below, _ in os.walk(hierarchy):
            for name in set(names) & set(below):
                _remove_tree(Path(directory) / name, timeout_s)


def remove_of_lanes(directory: Path, timeout_s: float = 10.0) -> None:
    """Remove the control groups of the lanes below a directory, whose processes were ended (see lane.sh)."""
    names = "-".join(directory.parts[1:])
    for hierarchy in hierarchies():
        for group in hierarchy.glob(f"{names}-*/"):
            _remove_tree(group, timeout_s)


def _remove_tree(group: Path, timeout_s: float) -> None:
    def is_removed() -> bool:
        for directory, _, _ in os.walk(group, topdown=False):
            _remove_if_empty(Path(directory))
        return not group.exists()

    wait_until(is_removed, timeout_s, f"the control group {group} is empty")


def _removed(name: str) -> bool:
    for hierarchy in hierarchies():
        top = hierarchy / PARENT
        for directory, _, _ in os.walk(top / name, topdown=False):
            _remove_if_empty(Path(directory))
        _remove_if_empty(top)
    return name not in lab_groups()


def _remove_if_empty(group: Path) -> None:
    try:
        group.rmdir()
    except OSError:
        return  # removed already, a process is still ending in it, or another lab's group is in it
