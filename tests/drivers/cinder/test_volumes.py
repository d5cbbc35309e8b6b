"""What is read in descriptions of volumes, and how they are looked up."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drivers.cinder.recorded import SPEC, TOKEN, VOLUMES, Answering, refusal, volume
from volplug.descriptions import checked
from volplug.drivers.cinder.errors import OpenStackRefused
from volplug.drivers.cinder.openstack import Call
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cinder.volumes import CinderVolume, CinderVolumes, read_volume
from volplug.drivers.cloud import tags
from volplug.errors import BackendError, VolumeNotFound
from volplug.models import FilesystemTag, VolumeState
from volplug.sizes import GIB

SERVER = VOLUMES["in-use"]["attachments"][0]["server_id"]


def read(state: str, **changes: object) -> CinderVolume:
    return read_volume(volume(state, **changes), "cloud")


@pytest.mark.parametrize(
    ("state", "expected", "holder"),
    [
        ("created", VolumeState.CREATING, ""),
        ("available", VolumeState.AVAILABLE, ""),
        ("reserved", VolumeState.ATTACHING, ""),
        ("attaching", VolumeState.ATTACHING, ""),
        ("in-use", VolumeState.IN_USE, SERVER),
        ("detaching", VolumeState.DETACHING, SERVER),
        ("error", VolumeState.ERROR, ""),
    ],
)
def test_every_recorded_state_is_known(state: str, expected: VolumeState, holder: str) -> None:
    found = read(state)
    assert (found.state, found.holder) == (expected, holder)
    is_waited_for = state in {"created", "reserved", "attaching", "detaching"}
    assert found.is_transitional == is_waited_for


def test_an_attached_volume_that_was_set_to_available_is_neither_free_nor_in_use() -> None:
    """By `openstack volume set --state available`: Nova and Cinder refuse to attach, detach and delete it."""
    found = read("in-use", status="available")
    assert (found.state, found.holder) == (VolumeState.ERROR, SERVER)
    assert found.volume.detail.startswith("Cinder has it attached, but calls it available")
    assert f"openstack volume set --state in-use {found.volume_id}" in found.volume.detail


def test_a_volume_is_read_whole() -> None:
    found = read("available")
    assert found.volume.spec == SPEC
    assert found.volume.filesystem == FilesystemTag()
    assert found.volume.size_bytes == GIB
    assert found.volume.created_at == datetime(2026, 11, 29, 18, 39, 26, tzinfo=UTC)
    assert (found.token, found.is_encrypted, found.was_attached) == (TOKEN, False, False)
    assert dict(found.volume.details) == {"type": "files", "encrypted": False, "zone": "nova"}


def test_the_time_of_creation_is_the_same_in_every_response() -> None:
    """The first one has microseconds, which Cinder's database does not keep."""
    assert read("created").volume.created_at == read("available").volume.created_at


@pytest.mark.parametrize("status", ["extending", "retyping", "backing-up", "uploading"])
def test_work_of_cinder_leaves_an_attached_volume_in_use(status: str) -> None:
    assert read("in-use", status=status).state is VolumeState.IN_USE
    alone = read("available", status=status)
    assert alone.state is VolumeState.ERROR
    assert status in alone.volume.detail


@pytest.mark.parametrize(
    "status",
    [
        "awaiting-transfer",
        "maintenance",
        "managing",
        "restoring-backup",
        "error",
        "error_extending",
        "unheard-of",
    ],
)
def test_a_state_that_volplug_cannot_use_is_named(status: str) -> None:
    found = read("available", status=status)
    assert found.state is VolumeState.ERROR
    assert found.volume.detail


def test_a_server_that_is_migrated_has_two_attachments_of_one_volume() -> None:
    twice = VOLUMES["in-use"]["attachments"] * 2
    found = read("in-use", attachments=twice)
    assert (found.state, found.holder) == (VolumeState.IN_USE, SERVER)


def test_a_volume_that_is_stuck_has_the_command_that_repairs_it() -> None:
    found = read("in-use", status="error_extending")
    assert found.volume.detail.endswith(f"openstack volume set --state in-use {found.volume_id}")


def test_volumes_for_several_servers_and_bootable_ones_are_not_used() -> None:
    one = VOLUMES["in-use"]["attachments"][0]
    two = [one, {**one, "server_id": "another"}]
    assert "several servers" in read("multiattach").volume.detail
    assert "several servers" in read("in-use", attachments=two).volume.detail
    assert "bootable" in read("available", bootable="true").volume.detail


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("volplug:name", "../../victim"),
        ("volplug:fs", "vfat"),
        ("volplug:fs", ""),
        ("volplug:spec", "{"),
        ("volplug:subpath", "/etc"),
    ],
)
def test_metadata_that_must_not_be_believed_is_an_error(key: str, value: str) -> None:
    description = volume("available")
    description["metadata"][key] = value
    found = read_volume(description, "cloud")
    assert found.state is VolumeState.ERROR
    assert not found.is_untouched


_KEYS = st.sampled_from(
    [
        tags.CLUSTER,
        tags.NAME,
        tags.SPEC,
        f"{tags.SPEC}.1",
        tags.FS,
        tags.FS_UUID,
        tags.SUBPATH,
        "volplug:token",
    ]
)
# Of JSON, paths, UUIDs and names; None stands for a missing key.
_TEXTS = st.text("{}[]\"',:./\\ -0ext4fä\0\n\N{PILE OF POO}", max_size=300)
_VALUES = st.none() | _TEXTS | st.dictionaries(_TEXTS, _TEXTS, max_size=2)


@given(st.dictionaries(_KEYS, _VALUES))
def test_metadata_of_any_kind_either_passes_the_checks_or_permits_nothing(
    changes: Mapping[str, object],
) -> None:
    metadata = {**volume("available")["metadata"], **changes}
    present = {key: value for key, value in metadata.items() if value is not None}
    found = read("available", metadata=present)
    if found.state is VolumeState.ERROR:
        assert found.volume.detail
        assert not found.is_untouched
    else:
        assert found.state is VolumeState.AVAILABLE
        assert checked(found.volume, str) == found.volume


@pytest.mark.parametrize("description", [{}, {"metadata": None}, {"metadata": [], "attachments": None}])
def test_a_description_without_what_every_volume_has_is_an_error(description: Mapping[str, Any]) -> None:
    found = read_volume({"id": "0", **description}, "cloud")
    assert found.state is VolumeState.ERROR


def volumes_of(caller: Answering) -> CinderVolumes:
    return CinderVolumes(caller, "prod", "cloud", CinderTimeouts(), lambda: 0.0)


def paged(pages: Mapping[str, tuple[list[str], str]]) -> Answering:
    """Answer with pages: marker to the ids of its volumes and the next marker."""

    def page(call: Call) -> Mapping[str, Any]:
        ids, following = pages[call.query.get("marker", "")]
        links = [{"rel": "next", "href": f"http://wrong:1/v3/volumes?limit=9&marker={following}"}]
        return {
            "volumes": [volume("available", id=each) for each in ids],
            "volumes_links": links if following else [],
        }

    return Answering({"GET /volumes/detail": page})


async def test_all_pages_are_read_and_the_filter_is_a_literal_of_python() -> None:
    caller = paged({"": (["a", "b"], "b"), "b": ([], "c"), "c": (["d"], "")})
    found = await volumes_of(caller).all()
    assert [each.volume_id for each in found] == ["a", "b", "d"]
    assert ast.literal_eval(caller.calls[0].query["metadata"]) == {"volplug:cluster": "prod"}


async def test_a_list_whose_page_ends_with_a_deleted_volume_begins_anew() -> None:
    caller = paged({"": (["a"], "gone")})
    first = caller.answers["GET /volumes/detail"]
    assert callable(first)
    seen = 0

    def page(call: Call) -> Mapping[str, Any] | Exception:
        nonlocal seen
        seen += 1
        if "marker" in call.query:
            return refusal("show a volume that does not exist")
        return {"volumes": [volume("available", id="a")]} if seen > 2 else first(call)

    caller.answers["GET /volumes/detail"] = page
    assert [each.volume_id for each in await volumes_of(caller).all()] == ["a"]


async def test_a_list_that_never_ends_is_given_up() -> None:
    caller = paged({"": (["a"], "gone")})
    first = caller.answers["GET /volumes/detail"]
    assert callable(first)
    caller.answers["GET /volumes/detail"] = lambda call: (
        refusal("show a volume that does not exist") if "marker" in call.query else first(call)
    )
    with pytest.raises(BackendError, match="faster than they can be listed"):
        await volumes_of(caller).all()


async def test_a_refused_first_page_is_an_error() -> None:
    caller = Answering({"GET /volumes/detail": refusal("show a volume that does not exist")})
    with pytest.raises(VolumeNotFound):
        await volumes_of(caller).all()


async def test_names_are_compared_exactly_although_the_filter_ignores_case() -> None:
    caller = paged({"": (["a"], "")})
    assert [each.volume_id for each in await volumes_of(caller).by_name("todolist")] == ["a"]
    assert await volumes_of(caller).by_name("TODOLIST") == []


async def test_volumes_of_another_cluster_are_not_read_by_id() -> None:
    other = volume("available", metadata={"volplug:cluster": "PROD"})
    caller = Answering({"GET /volumes/ID": {"volume": other}})
    assert await volumes_of(caller).by_id(other["id"]) is None


async def test_only_cinders_own_404_means_that_a_volume_does_not_exist() -> None:
    volume_id = VOLUMES["available"]["id"]
    absent = Answering({"GET /volumes/ID": refusal("show a volume that does not exist")})
    assert await volumes_of(absent).by_id(volume_id) is None
    proxy = Answering({"GET /volumes/ID": OpenStackRefused("Cinder", "GET /volumes/ID", 404)})
    with pytest.raises(BackendError):
        await volumes_of(proxy).by_id(volume_id)


@pytest.mark.parametrize(
    "text", ["", "vol-0123456789abcdef0", "../servers", f"{VOLUMES['available']['id']}/x"]
)
async def test_what_is_no_id_of_cinder_is_not_asked_for(text: str) -> None:
    caller = Answering({})
    assert await volumes_of(caller).by_id(text) is None


async def test_many_volumes_are_read_by_one_list() -> None:
    ids = [f"00000000-0000-0000-0000-{each:012}" for each in range(9)]
    caller = paged({"": (ids, "")})
    assert set(await volumes_of(caller).by_ids(ids[:5])) == set(ids[:5])
    assert len(caller.calls) == 1
