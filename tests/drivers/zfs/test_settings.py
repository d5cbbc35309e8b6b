"""The table of a ZFS backend, and the variable in its place."""

from pathlib import Path

import pytest

from volplug.drivers.base import BackendConfig
from volplug.drivers.zfs.settings import load_settings
from volplug.errors import ConfigurationError
from volplug.sizes import MIB


def _config(**table: object) -> BackendConfig:
    return BackendConfig("tank", "n", "c", Path("/s"), table, file="config.toml")


def test_only_the_pool_is_needed() -> None:
    settings = load_settings(_config(pool="tank/volplug"))
    assert (settings.pool, settings.reserve_bytes) == ("tank/volplug", 16 * MIB)
    assert load_settings(_config(pool="tank", reserve="")).reserve_bytes == 0


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "pool"),
        ({"pool": "tank/"}, "not the name of a dataset"),
        ({"pool": "/tank"}, "not the name of a dataset"),
        ({"pool": "-o/x"}, "not the name of a dataset"),
        ({"pool": "tank/../x"}, "not the name of a dataset"),
        ({"pool": "tank@s"}, "not the name of a dataset"),
        ({"pool": "tank/" + "x" * 80}, "longer than"),
        ({"pool": "tank", "reserve": "1K"}, "less than 1MiB"),
        ({"pool": "tank", "reserve": "much"}, "much"),
        ({"pool": "tank", "timeout_s": 0}, "timeout_s"),
        ({"pool": "tank", "compresion": "lz4"}, "compresion"),
    ],
)
def test_mistakes_are_named_with_their_place(table: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_settings(_config(**table))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("table", "pool"), [({}, "data/volumes"), ({"reserve": ""}, "data/volumes"), ({"pool": "tank"}, "tank")]
)
def test_a_variable_names_the_pool_where_the_table_does_not(table: dict[str, object], pool: str) -> None:
    assert load_settings(_config(**table), {"ZFS_POOL": "data/volumes"}).pool == pool


@pytest.mark.parametrize(
    ("value", "mistake"),
    [
        ("tank/", "variable ZFS_POOL: 'tank/' is not the name of a dataset"),
        # As the managed plugin has it that was not set.
        ("", "backends.tank.pool in config.toml, or variable ZFS_POOL, is missing"),
    ],
)
def test_a_mistake_names_the_variable(value: str, mistake: str) -> None:
    with pytest.raises(ConfigurationError, match=mistake):
        load_settings(_config(), {"ZFS_POOL": value})
