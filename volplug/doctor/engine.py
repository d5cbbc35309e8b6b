"""Checks of the Docker Engine: it and volplug agree about plugins, volumes and mounts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from volplug.config import Settings
from volplug.doctor.docker_engine import (
    EngineContainer,
    EngineFacts,
    EngineReader,
    EngineVolumes,
)
from volplug.doctor.docker_sdk import HOST_RUN, DockerSdk, EnginePlace
from volplug.doctor.engine_volumes import (
    CountDifference,
    count_differences,
    described_difference,
    missing_references,
    missing_volume,
    wrong_drivers,
)
from volplug.doctor.examination import Examination
from volplug.doctor.installed_form import InstalledForm, installed_form
from volplug.doctor.managed_plugin import is_volplug
from volplug.doctor.volumes import KnownVolume, all_volumes
from volplug.errors import HostError, VolplugError, VolumeNotFound
from volplug.findings import Finding, Level

_UNKNOWN: Final = (0, 0)
_OLDEST: Final = (20, 10)
# Later engines send the unmounts that they missed; from this kernel on, volplug notices their restart.
_FORGETS_BEFORE: Final = (23, 0)
_NOTICED_FROM_KERNEL: Final = (6, 9)
# Docker's own limits for volume drivers, whatever a plugin's --timeout is.
_SLOW_CALLS_S: Final = 120
_CALLS_S: Final = 60
# Longer than dockerd takes from a Mount's answer until the container runs, and from its end to Unmount.
_SETTLE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is read of an engine at once."""

    known: EngineVolumes
    facts: EngineFacts
    form: InstalledForm
    containers: Sequence[EngineContainer]


async def check_engine(examination: Examination) -> Sequence[Finding]:
    """Check the engine of this host, or the one that `DOCKER_HOST` names.

    Raises:
        VolplugError: If volplug's own volumes cannot be listed.
    """
    return await check_engine_at(await examination.blocking(EnginePlace.found), examination)


async def check_engine_at(place: EnginePlace, examination: Examination) -> Sequence[Finding]:
    """Check an engine; raises as `check_engine`."""
    try:
        with closing(await examination.blocking(DockerSdk, place.address)) as reader:
            return await _check(reader, place, examination)
    except HostError as error:
        return [_not_checked(error, place)]


def _not_checked(error: HostError, place: EnginePlace) -> Finding:
    if place.run == HOST_RUN:
        way = (
            "While the plugin is disabled: docker plugin set volplug engine.source=/run, where the socket is"
        )
    else:
        way = "Start Docker, run this as root, or name the engine by DOCKER_HOST"
    return Finding("engine", Level.YELLOW, "", error.cause, error.remedy or way)


async def _check(reader: EngineReader, place: EnginePlace, examination: Examination) -> Sequence[Finding]:
    before = await _own_volumes(examination)
    seen = await examination.blocking(_see, reader, examination.settings, place)
    if not seen.facts.is_docker:
        message = "podman answers there, and no Docker Engine"
        return [Finding("engine", Level.YELLOW, place.address, message, "See docs/podman.md")]
    form = seen.form
    findings = [
        judge_version(seen.facts, place),
        judge_live_restore(seen.facts, is_managed=form.is_managed),
        judge_deadlines(examination.settings, is_managed=form.is_managed),
        *form.findings,
    ]
    if not form.is_served:
        return findings  # without its driver, Docker shows nothing of volplug's volumes
    after = await _own_volumes(examination)
    own = {name: volume for name, volume in after.items() if name in before}  # none of this moment
    wrong = wrong_drivers(own, seen.known, seen.containers, form)
    missing = await _missing(examination, seen)
    return [
        *findings,
        *_or_well(wrong, "volume-driver", f"Docker has {len(own)} volumes of volplug under its name"),
        *_or_well(missing, "volume-references", "all volumes of volplug that containers have exist"),
        *await _counts(reader, examination, form),
    ]


def _see(reader: EngineReader, settings: Settings, place: EnginePlace) -> _Seen:
    known = reader.volumes()  # first: it makes the engine look for services' drivers, which its facts list
    facts = reader.facts()
    plugins = reader.plugins() if facts.is_docker else ()  # podman has none, and no such call
    form = installed_form([each for each in plugins if is_volplug(each)], settings, facts, place.run)
    return _Seen(known, facts, form, reader.containers())


def _or_well(findings: Sequence[Finding], check: str, well: str) -> Sequence[Finding]:
    return findings or [Finding(check, Level.GREEN, "", well)]


def judge_version(facts: EngineFacts, place: EnginePlace) -> Finding:
    """Judge the engine's version; one that has no numbers passes. Pure."""
    if _UNKNOWN < _numbers(facts.version) < _OLDEST:
        message = f"Docker {facts.version} is older than 20.10, which volplug needs"
        return Finding("engine", Level.YELLOW, place.address, message, "Upgrade Docker")
    return Finding("engine", Level.GREEN, place.address, f"Docker {facts.version} answers")


def judge_live_restore(facts: EngineFacts, *, is_managed: bool) -> Finding:
    """Judge whether unmounts may be forgotten at a restart of the engine. Pure."""
    version, kernel = _numbers(facts.version), _numbers(facts.kernel)
    is_old = _UNKNOWN < version < _FORGETS_BEFORE and _UNKNOWN < kernel < _NOTICED_FROM_KERNEL
    if facts.has_live_restore and is_managed and is_old:
        message = f"with live-restore, Docker {facts.version} on Linux {facts.kernel} forgets unmounts"
        remedy = (
            "Upgrade Docker, or Linux to 6.9; or set live-restore to false in /etc/docker/daemon.json; or "
            "disable and enable the plugin after each restart of Docker"
        )
        return Finding("live-restore", Level.YELLOW, "", message, remedy)
    state = "on, and this engine and kernel lose no unmount by it" if facts.has_live_restore else "off"
    return Finding("live-restore", Level.GREEN, "", f"live-restore is {state}")


def judge_deadlines(settings: Settings, *, is_managed: bool) -> Finding:
    """Judge whether volplug answers before Docker gives up. Pure."""
    late = [
        f"{name} is {value:g}, and Docker waits {limit_s} s"
        for name, value, limit_s in (
            ("slow_answer_s", settings.slow_answer_s, _SLOW_CALLS_S),
            ("answer_s", settings.answer_s, _CALLS_S),
        )
        if value >= limit_s
    ]
    if late:
        remedy = "Set VOLPLUG_SLOW_ANSWER_S=110 and VOLPLUG_ANSWER_S=50; else users do not see why it failed"
        return Finding("answer-deadlines", Level.YELLOW, "", "; ".join(late), remedy)
    needed_s = max(settings.slow_answer_s, settings.answer_s)
    message = f"volplug answers within {needed_s:g} s, before Docker's own limits"
    if is_managed:
        message += "; the plugin's --timeout, which Docker does not show, has to be longer, too"
    return Finding("answer-deadlines", Level.GREEN, "", message)


async def _own_volumes(examination: Examination) -> Mapping[str, KnownVolume]:
    return by_name(await all_volumes(examination))


def by_name(volumes: Sequence[KnownVolume]) -> Mapping[str, KnownVolume]:
    """Return volumes by name; where several backends have one of it, the one that is mounted. Pure."""
    return {each.name: each for each in sorted(volumes, key=lambda each: each.mount_count or 0)}


async def _is_known_missing(examination: Examination, name: str) -> bool:
    """Return whether it is certain that no backend has a volume of this name."""
    try:
        if examination.daemon is not None:
            await examination.blocking(_shown, examination, name)
            return False
        found = [await driver.get(name) for driver in examination.drivers.values()]
    except VolumeNotFound:
        return True
    except VolplugError:
        return False
    return bool(found) and not any(found)


def _shown(examination: Examination, name: str) -> None:
    if client := examination.client():
        with closing(client):
            client.get("volumes", name)


async def _missing(examination: Examination, seen: _Seen) -> Sequence[Finding]:
    own = await _own_volumes(examination)  # read after the containers: they create theirs
    missing = missing_references(own, seen.containers, seen.form.drivers)
    return [
        missing_volume(name, users)
        for name, users in missing.items()
        if await _is_known_missing(examination, name)
    ]


async def _counts(reader: EngineReader, examination: Examination, form: InstalledForm) -> Sequence[Finding]:
    """Compare counts; a difference that is seen once may be a container that starts or ends."""
    if examination.daemon is None:
        return []

    async def differences() -> Sequence[CountDifference]:
        containers = await examination.blocking(reader.containers)
        return count_differences(await _own_volumes(examination), containers, form.drivers)

    if found := await differences():
        await asyncio.sleep(_SETTLE_S)
        still = await differences()
        found = [each for each in found if each in still]
    shown = [described_difference(each, form) for each in found]
    return _or_well(shown, "mount-counts", "volplug counts the mounts that Docker has")


def _numbers(version: str) -> tuple[int, int]:
    """Return the first two numbers of a version."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else _UNKNOWN
