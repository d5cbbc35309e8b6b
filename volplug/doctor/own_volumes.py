"""volplug's own volumes for doctor: as the daemon knows them, else as the backends have them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from volplug.api.client import ControlClient, Endpoint, Json
from volplug.doctor.examination import Examination
from volplug.errors import VolplugError, VolumeNotFound


@dataclass(frozen=True, slots=True)
class OwnVolume:
    """A volume of volplug.

    Attributes:
        name: Docker's name of it.
        mount_count: Mounts that Docker asked this host for; None if no daemon answers, or it does not know.
    """

    name: str
    mount_count: int | None


async def own_volumes(examination: Examination) -> Mapping[str, OwnVolume]:
    """Return the volumes by name; of a backend that does not answer, those that the daemon remembers."""
    if examination.daemon is not None:
        shown = await asyncio.to_thread(_listed, examination.daemon.endpoint)
        return of_bodies(shown)
    found: dict[str, OwnVolume] = {}
    for driver in examination.drivers.values():
        try:
            listed = await driver.list()
        except VolplugError:  # the checks of the backend tell
            continue
        found |= {each.name: OwnVolume(each.name, None) for each in listed}
    return found


async def is_known_missing(examination: Examination, name: str) -> bool:
    """Tell whether it is certain that no backend has a volume of this name."""
    try:
        if examination.daemon is not None:
            await asyncio.to_thread(_shown, examination.daemon.endpoint, name)
            return False
        found = [await driver.get(name) for driver in examination.drivers.values()]
    except VolumeNotFound:
        return True
    except VolplugError:
        return False
    return bool(found) and not any(found)


# A client is for one thread at a time, and other checks run meanwhile.


def _listed(endpoint: Endpoint) -> Sequence[Json]:
    with closing(ControlClient(endpoint, restart_s=0)) as daemon:
        return list(daemon.pages("volumes"))


def _shown(endpoint: Endpoint, name: str) -> Json:
    with closing(ControlClient(endpoint, restart_s=0)) as daemon:
        return daemon.get("volumes", name)


def of_bodies(bodies: Iterable[Json]) -> Mapping[str, OwnVolume]:
    """Return volumes by name; where several backends have one of it, the one that is mounted. Pure."""
    volumes = map(_of_daemon, bodies)
    return {each.name: each for each in sorted(volumes, key=lambda each: each.mount_count or 0)}


def _of_daemon(body: Json) -> OwnVolume:
    return OwnVolume(
        name=str(body["name"]),
        mount_count=None if body["holders_unknown"] else int(body["mount_count"]),
    )
