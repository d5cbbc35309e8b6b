import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sound_volumes import CONTENTS, specs
from volplug.drivers.cloud.tags import filesystem_tags
from volplug.drivers.ebs.tags import as_list, tags_of
from volplug.drivers.ebs.volumes import read_volume
from volplug.errors import InvalidOption
from volplug.models import FilesystemPhase, FilesystemTag, Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB

VOLUME_ID = "vol-0123456789abcdef0"
INSTANCE = "i-0123456789abcdef0"
UUID = "6f1c2b1e-0d6c-4a52-8f0a-0c3f4c1d9b77"
CREATED = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPEC = VolumeSpec("todolist", 10 * GIB, mkfs_options=("-m", "0"), driver_options=(("type", "gp3"),))
SPEC_TAG = next(tag["Value"] for tag in tags_of(SPEC, "prod", {}) if tag["Key"] == "volplug:spec")
PERMITS_MKFS = {FilesystemPhase.PENDING, FilesystemPhase.FORMATTING}

_specs = specs(
    sizes_bytes=st.integers(1, 65_536).map(lambda size_gib: size_gib * GIB),
    driver_options=st.dictionaries(
        st.sampled_from(["iops", "tags", "type"]), st.text(st.characters(codec="utf-8"), max_size=40)
    ).map(lambda chosen: tuple(sorted(chosen.items()))),
    profiles=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
)


def described(tags: list[dict[str, str]] | None = None, **changes: object) -> dict[str, Any]:
    """An item of a DescribeVolumes answer, as boto3 returns it."""
    return {
        "VolumeId": VOLUME_ID,
        "Size": 10,
        "State": "available",
        "Attachments": [],
        "CreateTime": CREATED,
        "Tags": tags_of(SPEC, "prod", {}) if tags is None else tags,
    } | changes


def read(description: dict[str, Any]) -> Volume:
    return read_volume(description, "cloud").volume


def attached(state: str, instance_id: str = INSTANCE) -> dict[str, str]:
    return {"State": state, "InstanceId": instance_id, "VolumeId": VOLUME_ID, "Device": "/dev/sdf"}


def changed(**values: str | None) -> list[dict[str, str]]:
    """The tags of the volume with some of volplug's changed; None takes one away; `_` stands for `-`."""
    tags = {tag["Key"]: tag["Value"] for tag in tags_of(SPEC, "prod", {})}
    new = {f"volplug:{key.replace('_', '-')}": value for key, value in values.items()}
    return [{"Key": key, "Value": value} for key, value in (tags | new).items() if value is not None]


@settings(deadline=None)
@given(_specs, CONTENTS, st.sampled_from(["data", "", "elsewhere"]))
def test_what_is_written_is_read_and_ec2_takes_it(
    spec: VolumeSpec, contents: FilesystemTag, subpath: str
) -> None:
    later = [*as_list(filesystem_tags(contents)), {"Key": "volplug:subpath", "Value": subpath}]
    written = [*tags_of(spec, "prod", {"team": "web"}), *later]
    tags = list({tag["Key"]: tag for tag in written}.values())
    assert all(len(tag["Key"]) <= 128 and len(tag["Value"]) <= 256 for tag in tags)
    assert all(tag["Value"] == tag["Value"].strip() for tag in tags)
    volume = read(described(tags, Size=spec.size_bytes // GIB))
    assert volume == Volume(
        name=spec.name,
        volume_id=VOLUME_ID,
        backend="cloud",
        size_bytes=spec.size_bytes,
        state=VolumeState.AVAILABLE,
        spec=spec,
        filesystem=contents,
        subpath=subpath,
        created_at=CREATED,
    )


def test_tags_of_a_new_volume() -> None:
    """Pinned: volumes that exist have to stay readable, and hosts of different versions ask for the same."""
    spec = '{"fs":"ext4","gid":0,"mkfs":["-m","0"],"mode":493,"options":{"type":"gp3"},"profile":"default",'
    assert {tag["Key"]: tag["Value"] for tag in tags_of(SPEC, "prod", {"team": "web"})} == {
        "Name": "todolist",
        "team": "web",
        "volplug:cluster": "prod",
        "volplug:fs": "pending",
        "volplug:fs-uuid": "",
        "volplug:name": "todolist",
        "volplug:spec": spec + '"size":10737418240,"uid":0}',
        "volplug:subpath": "data",
        "volplug:version": "1",
    }


def test_tags_are_sorted_so_that_every_host_sends_the_same() -> None:
    one = tags_of(SPEC, "prod", {"b": "1", "a": "2"})
    assert one == tags_of(SPEC, "prod", {"a": "2", "b": "1"})
    assert [tag["Key"] for tag in one] == sorted(tag["Key"] for tag in one)


def test_users_may_choose_another_display_name_but_none_of_volplugs_tags() -> None:
    tags = tags_of(SPEC, "prod", {"Name": "shown", "volplug:name": "other"})
    assert {"Key": "Name", "Value": "shown"} in tags
    assert {"Key": "volplug:name", "Value": "todolist"} in tags


def test_more_tags_than_ec2_takes_are_refused() -> None:
    with pytest.raises(InvalidOption, match="would have 54 tags, but EC2 takes 50"):
        tags_of(SPEC, "prod", {f"k{number}": "" for number in range(46)})


@settings(deadline=None)
@given(CONTENTS)
def test_a_format_is_recorded_with_its_uuid_in_one_go(contents: FilesystemTag) -> None:
    tags = {tag["Key"]: tag["Value"] for tag in as_list(filesystem_tags(contents))}
    assert tags == {"volplug:fs": contents.to_text(), "volplug:fs-uuid": contents.uuid}


@pytest.mark.parametrize(
    ("description", "state", "holder"),
    [
        ({"State": "creating"}, VolumeState.CREATING, None),
        ({"State": "available"}, VolumeState.AVAILABLE, None),
        ({"State": "available", "Attachments": [attached("detached")]}, VolumeState.AVAILABLE, None),
        ({"State": "in-use", "Attachments": [attached("attaching")]}, VolumeState.ATTACHING, INSTANCE),
        ({"State": "in-use", "Attachments": [attached("attached")]}, VolumeState.IN_USE, INSTANCE),
        ({"State": "in-use", "Attachments": [attached("busy")]}, VolumeState.DETACHING, INSTANCE),
        ({"State": "in-use", "Attachments": [attached("detaching")]}, VolumeState.DETACHING, INSTANCE),
        # The two change at different moments.
        ({"State": "available", "Attachments": [attached("attaching")]}, VolumeState.ATTACHING, INSTANCE),
        ({"State": "available", "Attachments": [attached("detaching")]}, VolumeState.DETACHING, INSTANCE),
        ({"State": "in-use", "Attachments": []}, VolumeState.DETACHING, None),
        ({"State": "deleting"}, VolumeState.DELETING, None),
        ({"State": "deleted"}, VolumeState.DELETING, None),
    ],
)
def test_states_are_translated(description: dict[str, Any], state: VolumeState, holder: str | None) -> None:
    volume = read(described(**description))
    assert (volume.state, volume.holder, volume.detail) == (state, holder, "")


@pytest.mark.parametrize(
    ("description", "detail"),
    [
        ({"State": "error"}, "EC2 could not create the volume"),
        (
            {"State": "error", "KmsKeyId": "arn:k"},
            "EC2 could not create the volume, most often because it may not use the KMS key arn:k",
        ),
        ({"State": "sleeping"}, "EC2 calls the volume's state 'sleeping'"),
        (
            {"MultiAttachEnabled": True},
            "the volume can be attached to several instances at once, which is not supported",
        ),
        (
            {"State": "in-use", "Attachments": [attached("attached"), attached("attached", "i-2")]},
            "the volume can be attached to several instances at once, which is not supported",
        ),
    ],
)
def test_a_volume_in_error_says_why(description: dict[str, Any], detail: str) -> None:
    volume = read(described(**description))
    assert (volume.name, volume.state, volume.detail) == ("todolist", VolumeState.ERROR, detail)


@pytest.mark.parametrize(
    ("tags", "name", "detail"),
    [
        ([], VOLUME_ID, "the volume's tag volplug:name is missing"),
        (changed(name=None), VOLUME_ID, "the volume's tag volplug:name is missing"),
        (changed(spec=None), "todolist", "the volume's tag volplug:spec cannot be read (1 errors)"),
        (changed(spec="{"), "todolist", "the volume's tag volplug:spec cannot be read (1 errors)"),
        (
            changed(spec='{"fs":"ext4"}'),
            "todolist",
            "the volume's tag volplug:spec cannot be read (5 errors)",
        ),
        (changed(fs=None), "todolist", "the volume's tag volplug:fs is missing"),
        (changed(fs=""), "todolist", "the volume's filesystem tag '' cannot be read"),
        (
            changed(fs="formatting:ext4"),
            "todolist",
            "the volume's filesystem tag 'formatting:ext4' cannot be read",
        ),
        (
            changed(name="../../x", spec=SPEC_TAG),
            VOLUME_ID,
            "the volume's tag volplug:name cannot be used: volume name '../../x' is not allowed",
        ),
        (
            changed(subpath="../.."),
            "todolist",
            "the volume's tag volplug:subpath cannot be used: '../..' is not the name of one directory",
        ),
        (
            changed(spec=SPEC_TAG.replace('"-m","0"', '"-d","/etc"')),
            "todolist",
            "the volume's tag volplug:spec cannot be used: option 'mkfs-opts' has '-d', "
            "which is not allowed for ext4",
        ),
        (
            changed(fs="formatting:ext4:-F"),
            "todolist",
            "the volume's tag volplug:fs cannot be used: '-F' is no UUID of a filesystem",
        ),
    ],
)
def test_a_volume_that_cannot_be_read_or_believed_says_so_and_permits_nothing(
    tags: list[dict[str, str]], name: str, detail: str
) -> None:
    volume = read(described(tags))
    assert (volume.name, volume.volume_id, volume.detail) == (name, VOLUME_ID, detail)
    assert volume.state is VolumeState.ERROR
    assert volume.filesystem.phase not in PERMITS_MKFS


def test_additional_tags_of_a_later_version_are_ignored() -> None:
    tags = {tag["Key"]: tag["Value"] for tag in changed()}
    spec = json.loads(tags["volplug:spec"]) | {"later": 1}
    assert read(described(changed(spec=json.dumps(spec), later="x"))).spec == SPEC


def test_a_volume_from_before_the_tag_of_its_directory_has_the_usual_one() -> None:
    assert read(described(changed(subpath=None))).subpath == "data"
