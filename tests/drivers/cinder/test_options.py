"""Options of users, and the metadata and request that they become."""

import re

import pytest

from volplug.drivers.cinder.options import (
    check_options,
    create_body,
    is_unverified,
    metadata_of,
    user_metadata,
)
from volplug.drivers.cinder.settings import CinderSettings
from volplug.drivers.cloud.tags import read_spec
from volplug.errors import InvalidOption
from volplug.models import VolumeSpec
from volplug.sizes import GIB


def spec_of(**options: str) -> VolumeSpec:
    chosen = tuple(sorted((key.replace("_", "-"), value) for key, value in options.items()))
    return VolumeSpec("db", 3 * GIB, driver_options=chosen)


def settings_of(**values: str) -> CinderSettings:
    return CinderSettings(cloud="c", **values)  # type: ignore[arg-type]  # each value is a text


@pytest.mark.parametrize(
    "options", [{}, {"type": "ssd fast"}, {"blank": "verified"}, {"metadata": "team=web,a:b=c=d"}]
)
def test_options_are_accepted(options: dict[str, str]) -> None:
    check_options(spec_of(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"type": ""},
        {"type": "x" * 256},
        {"blank": "yes"},
        {"availability_zone": ""},
        {"metadata": "team"},
        {"metadata": "a=1,a=2"},
        {"metadata": "volplug:name=x"},
        {"metadata": "ä=x"},
    ],
)
def test_wrong_options_are_named(options: dict[str, str]) -> None:
    (name,) = options
    with pytest.raises(InvalidOption, match=name.replace("_", "-")):
        check_options(spec_of(**options))


@pytest.mark.parametrize(
    ("options", "settings", "zone", "expected"),
    [
        ({}, {}, "", {}),
        ({}, {}, "nova", {"availability_zone": "nova"}),
        (
            {},
            {"availability_zone": "b", "volume_type": "slow"},
            "nova",
            {"availability_zone": "b", "volume_type": "slow"},
        ),
        (
            {"availability_zone": "c", "type": "ssd"},
            {"availability_zone": "b", "volume_type": "slow"},
            "nova",
            {"availability_zone": "c", "volume_type": "ssd"},
        ),
    ],
)
def test_the_request_has_what_was_chosen_and_leaves_the_rest_to_cinder(
    options: dict[str, str], settings: dict[str, str], zone: str, expected: dict[str, str]
) -> None:
    body = create_body(spec_of(**options), settings_of(**settings), zone)
    assert body == {"name": "db", "size": 3, **expected}


def test_metadata_of_the_volume_wins_over_that_of_the_backend_and_volplugs_over_both() -> None:
    mine = user_metadata(spec_of(metadata="team=db"), {"team": "web", "stage": "test"})
    assert mine == {"team": "db", "stage": "test"}
    metadata = metadata_of(spec_of(), "prod", mine, "t")
    assert metadata["volplug:name"] == "db"
    assert metadata["volplug:token"] == "t"
    assert metadata["volplug:fs"] == "pending"
    assert metadata["team"] == "db"


def test_the_longest_spec_fits_into_cinders_values() -> None:
    spec = spec_of(metadata=",".join(f"key{each}={'ü' * 100}" for each in range(9)))
    metadata = metadata_of(spec, "prod", {}, "t")
    assert all(re.fullmatch(r"[a-zA-Z0-9-_:. ]{1,255}", key) for key in metadata)
    assert all(len(value) <= 255 for value in metadata.values())
    assert read_spec("db", metadata) == spec


def test_a_volume_is_unverified_only_if_that_was_chosen() -> None:
    assert not is_unverified(spec_of())
    assert not is_unverified(spec_of(blank="verified"))
    assert is_unverified(spec_of(blank="unverified"))
