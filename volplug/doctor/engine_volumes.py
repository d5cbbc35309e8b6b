"""What doctor concludes of an engine's volumes and containers; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from volplug.doctor.docker_engine import EngineContainer, EngineVolumes
from volplug.doctor.installed_form import InstalledForm
from volplug.doctor.volumes import KnownVolume
from volplug.findings import Finding, Level

_LOCAL: Final = "local"
_MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class CountDifference:
    """A volume of which volplug counts another number of mounts than Docker has.

    Attributes:
        name: Of the volume.
        counted: What volplug counts.
        mounted: What Docker has mounted in running containers.
        containers: Those that run and use it.
    """

    name: str
    counted: int
    mounted: int
    containers: tuple[str, ...]


def wrong_drivers(
    own: Mapping[str, KnownVolume],
    known: EngineVolumes,
    containers: Sequence[EngineContainer],
    form: InstalledForm,
) -> Sequence[Finding]:
    """Find volumes of volplug that the engine knows under a driver that is not this volplug.

    Docker leaves a volume out of its list if it knows the name under another driver, and that one does not
    list it. So what is missing is known under a driver that has gone, which a container may still name.

    Args:
        own: The volumes of volplug.
        known: Those of the engine.
        containers: All of the engine's.
        form: How volplug is installed.
    """
    driver_of = {volume.name: volume.driver for volume in known.volumes}
    named = {mount.name: mount.driver for each in containers for mount in each.mounts}
    users = _users(containers)
    findings = []
    for name in sorted(own):
        driver = driver_of.get(name, "")
        if driver in form.drivers or (not driver and known.warnings):
            continue
        former = named.get(name, "")
        gone = "" if former in form.drivers else former
        findings.append(_wrong_driver(name, driver, gone, users.get(name, ()), form))
    return findings


def _wrong_driver(name: str, driver: str, gone: str, users: Sequence[str], form: InstalledForm) -> Finding:
    remove = f"docker rm --force {' '.join(users)}; " if users else ""
    if driver == _LOCAL:
        message = "Docker has a volume of its own driver local under this name, which containers get instead"
        remedy = (
            f"{remove}if what was written to it is needed, docker run --rm -v {name}:/from:ro -v OTHER:/to "
            f"busybox cp -a /from/. /to; then {_remove_local(name)}"
        )
    elif driver:
        message = f"Docker knows this name as a volume of the driver {driver}, and does not use volplug's"
        remedy = (
            f"If {driver} is a former name of volplug: {remove}remove that driver; {form.forget}; "
            "otherwise rename one of the two, see docs/operations.md"
        )
    else:
        message = f"Docker knows it under a driver that has gone{gone and f', {gone}'}, and cannot use it"
        create = f"docker volume create --driver {form.driver} {name}"
        remedy = f"{remove}{form.forget}; {create}, which changes nothing in it"
    return Finding("volume-driver", Level.RED, name, message, remedy)


def _remove_local(name: str) -> str:
    """Return the command that deletes a volume of Docker's own driver, and no other one of this name."""
    driver = f"$(docker volume inspect --format '{{{{.Driver}}}}' {name})"
    return f'[ "{driver}" = local ] && docker volume rm {name}'


def count_differences(
    own: Mapping[str, KnownVolume], containers: Sequence[EngineContainer], names: Collection[str]
) -> Sequence[CountDifference]:
    """Compare volplug's counts with the mounts of running containers.

    What a container that is being restarted has mounted is not known, and neither is a count that volplug
    itself does not know.
    """
    mounted: Counter[str] = Counter()
    users: dict[str, list[str]] = {}
    unclear: set[str] = set()
    for container in containers:
        for mount in container.mounts:
            if mount.driver not in names:
                continue
            if container.state == "restarting":
                unclear.add(mount.name)
            elif container.is_running:
                mounted[mount.name] += 1
                users.setdefault(mount.name, []).append(container.name)
    return [
        CountDifference(name, volume.mount_count, mounted[name], tuple(dict.fromkeys(users.get(name, ()))))
        for name, volume in sorted(own.items())
        if volume.mount_count is not None and name not in unclear and volume.mount_count != mounted[name]
    ]


def described_difference(difference: CountDifference, form: InstalledForm) -> Finding:
    """Return the finding for a difference."""
    used_by = _listed(difference.containers) if difference.containers else "no container that runs"
    message = f"volplug counts {difference.counted} mounts, and Docker has {difference.mounted}, of {used_by}"
    if difference.counted > difference.mounted:
        remedy = (
            f"If nothing else uses volplug, such as podman: {form.restart}. It then tests what it counts, "
            "and releases the volume once it is not in use"
        )
    else:
        remedy = (
            "Nothing is lost: volplug detaches and deletes nothing that is in use. So that it counts again: "
            f"docker restart {' '.join(difference.containers)}"
        )
    return Finding("mount-counts", Level.YELLOW, difference.name, message, remedy)


def missing_references(
    own: Mapping[str, KnownVolume], containers: Sequence[EngineContainer], names: Collection[str]
) -> Mapping[str, Sequence[str]]:
    """Return the containers by each volume that they have of this volplug and that it does not list."""
    found: dict[str, list[str]] = {}
    for container in containers:
        for name in dict.fromkeys(mount.name for mount in container.mounts if mount.driver in names):
            if name not in own:
                found.setdefault(name, []).append(container.name)
    return found


def missing_volume(name: str, users: Sequence[str]) -> Finding:
    """Return the finding for a volume that containers have and no backend."""
    message = f"no backend has this volume, and Docker has containers that use it: {_listed(users)}"
    remedy = (
        "Restore it (docs/operations.md), or correct VOLPLUG_CLUSTER if another host has it; "
        f"if it is not needed: docker rm --force {' '.join(users)}"
    )
    return Finding("volume-references", Level.YELLOW, name, message, remedy)


def _users(containers: Sequence[EngineContainer]) -> Mapping[str, Sequence[str]]:
    users: dict[str, list[str]] = {}
    for container in containers:
        for name in dict.fromkeys(mount.name for mount in container.mounts):
            users.setdefault(name, []).append(container.name)
    return users


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
