"""What a creation does about volumes that the lab cannot make: encrypted and superfluous ones."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.cinder.recorded import TOKEN, Answering, refusal, volume
from volplug.drivers.cinder.creation import CinderCreator
from volplug.drivers.cinder.notes import CreationNotes
from volplug.drivers.cinder.openstack import Call
from volplug.drivers.cinder.settings import CinderSettings
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cinder.volumes import CinderVolumes, read_volume
from volplug.errors import (
    BackendUnavailable,
    HostError,
    LimitExceeded,
    UnexpectedState,
    Unsupported,
    VolumeExists,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.models import VolumeSpec
from volplug.sizes import GIB
from volplug.steps import unannounced

MINE = "22222222-0000-4000-8000-000000000000"
OLDER = "11111111-0000-4000-8000-000000000000"
UNVERIFIED = (("blank", "unverified"), ("type", "luks"))
LIMITS = CinderTimeouts(poll_first_s=0.01, poll_longest_s=0.01, create_s=1.0, delete_s=1.0)


class Volumes(Answering):
    """The volumes of a project, by id, as the requests for them have left them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            {
                "GET /volumes/detail": lambda _: {"volumes": list(self.volumes.values())},
                "GET /volumes/ID": self._show,
                "POST /volumes": self._create,
                "POST /volumes/ID/metadata": self._describe,
                "DELETE /volumes/ID": self._delete,
            }
        )
        self.volumes: dict[str, dict[str, Any]] = {}
        self.made: Mapping[str, object] = {}
        self.slept: list[float] = []
        self.notes = CreationNotes(directory / "notes.json", unannounced)
        self.found = CinderVolumes(self, "prod", "cloud", LIMITS, lambda: 0.0)
        self.creator = CinderCreator(
            self, self.found, self.notes, CinderSettings(cloud="c"), LIMITS, self._sleep
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def _show(self, call: Call) -> Mapping[str, Any] | Exception:
        found = self.volumes.get(_id_of(call))
        return {"volume": found} if found else refusal("show a volume that does not exist")

    def _create(self, call: Call) -> Mapping[str, Any]:
        assert call.body is not None
        self.volumes[MINE] = volume(
            "available", id=MINE, metadata=call.body["volume"]["metadata"], **self.made
        )
        return {"volume": self.volumes[MINE]}

    def _describe(self, call: Call) -> Mapping[str, Any]:
        assert call.body is not None
        self.volumes[_id_of(call)]["metadata"] |= call.body["metadata"]
        return {"metadata": self.volumes[_id_of(call)]["metadata"]}

    def _delete(self, call: Call) -> Mapping[str, Any]:
        del self.volumes[_id_of(call)]
        return {}

    def add(self, volume_id: str, state: str = "available", token: str = TOKEN, **metadata: str) -> None:
        """Add another host's volume, older than any that is created here."""
        self.volumes[volume_id] = volume(state, id=volume_id, created_at="2026-11-29T00:00:00.000000")
        self.volumes[volume_id]["metadata"] |= {"volplug:name": "db", "volplug:token": token} | metadata


def _id_of(call: Call) -> str:
    return call.path.split("/")[2]


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(tmp_path)


def spec_of(*driver_options: tuple[str, str]) -> VolumeSpec:
    return VolumeSpec("db", GIB, driver_options=driver_options)


async def test_an_encrypted_volume_is_refused_and_deleted_for_it_never_reads_as_blank(
    volumes: Volumes,
) -> None:
    volumes.made = {"encrypted": True, "volume_type": "luks"}
    with pytest.raises(
        Unsupported, match="type luks is encrypted: a new volume reads as random data"
    ) as refused:
        await volumes.creator.create(spec_of(("type", "luks")), "")
    assert "blank=unverified" in refused.value.remedy
    assert volumes.volumes == {}


@pytest.mark.parametrize("status", ["available", "error"])
async def test_of_a_creation_that_ends_without_a_volume_no_note_is_left(
    volumes: Volumes, status: str
) -> None:
    volumes.made = {"encrypted": True, "volume_type": "luks", "status": status}
    volumes.answers["GET /messages"] = {"messages": []}
    with pytest.raises((Unsupported, UnexpectedState)):
        await volumes.creator.create(spec_of(("type", "luks")), "")
    assert volumes.volumes == {}
    assert await volumes.notes.find("db") is None


async def test_an_encrypted_volume_is_accepted_if_that_was_chosen_and_its_first_attach_is_noted(
    volumes: Volumes,
) -> None:
    volumes.made = {"encrypted": True, "volume_type": "luks"}
    made = await volumes.creator.create(spec_of(*UNVERIFIED), "")
    assert "volplug:attached" not in volumes.volumes[MINE]["metadata"]
    for _ in range(2):
        await volumes.creator.before_attach(made)
    assert volumes.volumes[MINE]["metadata"]["volplug:attached"] == "true"
    assert [call.action for call in volumes.calls].count("POST /volumes/ID/metadata") == 1


async def test_no_zone_is_asked_for_if_cinder_does_not_have_this_servers(volumes: Volumes) -> None:
    zones = {"availabilityZoneInfo": [{"zoneName": "az1", "zoneState": {"available": True}}]}
    volumes.answers["GET /os-availability-zone"] = zones
    for server_zone, expected in (("nova", None), ("az1", "az1")):
        await volumes.creator.create(spec_of(), server_zone)
        (request,) = [
            call.body["volume"] for call in volumes.calls if call.action == "POST /volumes" and call.body
        ]
        assert request.get("availability_zone") == expected
        volumes.volumes.clear()
        volumes.calls.clear()


async def test_creations_that_come_together_ask_for_the_zones_once(volumes: Volumes) -> None:
    """A hundred questions at once would keep a small Cinder busy for longer than a call waits."""
    volumes.answers["GET /os-availability-zone"] = {"availabilityZoneInfo": [{"zoneName": "az1"}]}
    volumes.answers["POST /volumes"] = refusal("one volume over the quota")
    creations = [volumes.creator.create(VolumeSpec(f"db-{each}", GIB), "az1") for each in range(9)]
    for each in await asyncio.gather(*creations, return_exceptions=True):
        assert isinstance(each, LimitExceeded)
    assert [call.action for call in volumes.calls].count("GET /os-availability-zone") == 1


async def test_before_the_first_attach_of_its_own_volume_a_host_waits_and_gives_up_a_younger_one(
    volumes: Volumes,
) -> None:
    made = await volumes.creator.create(spec_of(), "")
    await volumes.creator.before_attach(made)
    assert 0 < volumes.slept[-1] <= LIMITS.race_s
    volumes.add(OLDER, token="of-another-host")  # noqa: S106  # of a creation
    with pytest.raises(VolumeInUse, match=f"{OLDER} is"):
        await volumes.creator.before_attach(made)
    assert set(volumes.volumes) == {OLDER}


async def test_the_volume_of_another_host_is_attached_without_a_wait_if_it_is_the_chosen_one(
    volumes: Volumes,
) -> None:
    volumes.add(OLDER)
    await volumes.creator.before_attach(read_volume(volumes.volumes[OLDER], "cloud").volume)
    assert volumes.slept == []
    volumes.volumes.clear()
    with pytest.raises(VolumeNotFound):
        await volumes.creator.before_attach(read_volume(volume("available"), "cloud").volume)


@pytest.mark.parametrize("metadata", [{"volplug:attached": "true"}, {"volplug:fs": "formatting:ext4:x"}])
async def test_a_volume_that_may_have_been_used_is_not_deleted_as_superfluous(
    volumes: Volumes, metadata: dict[str, str]
) -> None:
    """It was attached between the choice and the deletion."""
    made = await volumes.creator.create(spec_of(), "")
    volumes.add(OLDER, token="of-another-host")  # noqa: S106  # of a creation
    show = volumes.answers["GET /volumes/ID"]
    assert callable(show)

    def attached_meanwhile(call: Call) -> Mapping[str, Any] | Exception:
        volumes.volumes[MINE]["metadata"] |= metadata
        return show(call)

    volumes.answers["GET /volumes/ID"] = attached_meanwhile
    with pytest.raises(VolumeInUse):
        await volumes.creator.before_attach(made)
    assert set(volumes.volumes) == {MINE, OLDER}


async def test_a_superfluous_volume_is_deleted_also_once_another_host_has_formatted_the_chosen_one(
    volumes: Volumes,
) -> None:
    """The answer to its creation was lost, and it appeared late."""
    token = await volumes.notes.begin("db")
    volumes.add(MINE, token=token)
    formatted = {"volplug:fs": "ext4", "volplug:fs-uuid": str(uuid.UUID(int=1))}
    volumes.add(OLDER, token="of-another-host", **formatted)  # noqa: S106  # of a creation
    await volumes.creator.before_attach(read_volume(volumes.volumes[OLDER], "cloud").volume)
    assert set(volumes.volumes) == {OLDER}
    assert volumes.slept == []


async def test_a_superfluous_volume_that_is_not_deleted_stays_in_the_list(volumes: Volumes) -> None:
    made = await volumes.creator.create(spec_of(), "")
    volumes.add(OLDER, token="of-another-host")  # noqa: S106  # of a creation

    def fail(call: Call) -> Mapping[str, Any]:
        volumes.volumes[_id_of(call)]["status"] = "error_deleting"
        return {}

    volumes.answers["DELETE /volumes/ID"] = fail
    with pytest.raises(VolumeInUse, match=f"{OLDER} is"):
        await volumes.creator.before_attach(made)
    assert {each.volume_id for each in await volumes.found.all()} == {MINE, OLDER}


async def test_a_slow_deletion_of_a_superfluous_volume_delays_no_attach(volumes: Volumes) -> None:
    made = await volumes.creator.create(spec_of(), "")
    volumes.add(OLDER, token="of-another-host")  # noqa: S106  # of a creation

    def begin(call: Call) -> Mapping[str, Any]:
        volumes.volumes[_id_of(call)]["status"] = "deleting"
        volumes.answers["GET /volumes/ID"] = AssertionError("nothing waits for its end")
        return {}

    volumes.answers["DELETE /volumes/ID"] = begin
    with pytest.raises(VolumeInUse, match=f"{OLDER} is"):
        await volumes.creator.before_attach(made)


async def test_a_new_volume_that_is_not_listed_is_no_other_hosts(volumes: Volumes) -> None:
    volumes.answers["GET /volumes/detail"] = {"volumes": []}
    with pytest.raises(BackendUnavailable, match=f"does not list {MINE}"):
        await volumes.creator.create(spec_of(), "")


async def test_a_volume_that_was_used_meanwhile_is_not_created_again(volumes: Volumes) -> None:
    """This host was killed before it noted the success; another one has attached the volume since."""
    token = await volumes.notes.begin("db")
    volumes.add(OLDER, token=token, **{"volplug:fs": "formatting:ext4:x"})
    with pytest.raises(VolumeExists, match=OLDER):
        await volumes.creator.create(read_volume(volumes.volumes[OLDER], "cloud").volume.spec, "")


async def test_without_a_note_nothing_is_requested(volumes: Volumes, tmp_path: Path) -> None:
    (tmp_path / ".notes.json.new").mkdir()
    with pytest.raises(HostError, match="cannot be written"):
        await volumes.creator.create(spec_of(), "")
    assert volumes.volumes == {}


async def test_an_attach_is_not_requested_unless_cinder_has_noted_it(volumes: Volumes) -> None:
    """A proxy may answer without having passed the request on."""
    made = await volumes.creator.create(spec_of(*UNVERIFIED), "")
    volumes.answers["POST /volumes/ID/metadata"] = {}
    with pytest.raises(BackendUnavailable):
        await volumes.creator.before_attach(made)


@pytest.mark.parametrize("metadata", [{}, {"volplug:fs": "ext4", "volplug:fs-uuid": str(uuid.UUID(int=1))}])
async def test_the_note_is_dropped_once_the_volume_is_attached(
    volumes: Volumes, metadata: dict[str, str]
) -> None:
    """Also if another host has formatted it before."""
    made = await volumes.creator.create(spec_of(), "")
    volumes.volumes[MINE]["metadata"] |= metadata
    (found,) = await volumes.found.by_name(made.name)
    assert await volumes.notes.find("db") is not None
    await volumes.creator.after_attach(found.volume)
    assert await volumes.notes.find("db") is None


@pytest.mark.parametrize(
    ("options", "is_ours", "metadata", "is_noise"),
    [
        (UNVERIFIED, True, {}, True),
        ((), True, {}, False),
        (UNVERIFIED, False, {}, False),
        (UNVERIFIED, True, {"volplug:attached": "true"}, False),
        (UNVERIFIED, True, {"volplug:fs": "ext4", "volplug:fs-uuid": str(uuid.UUID(int=1))}, False),
    ],
)
async def test_only_the_first_attach_of_an_own_volume_may_find_noise(
    volumes: Volumes,
    options: tuple[tuple[str, str], ...],
    is_ours: bool,
    metadata: dict[str, str],
    is_noise: bool,
) -> None:
    made = await volumes.creator.create(spec_of(*options), "")
    volumes.volumes[MINE]["metadata"] |= metadata
    if not is_ours:
        await volumes.notes.drop("db")
    made = read_volume(volumes.volumes[made.volume_id], "cloud").volume
    assert await volumes.creator.before_attach(made) is is_noise
    assert await volumes.creator.before_attach(made) is False, "it may have been attached by the first"
