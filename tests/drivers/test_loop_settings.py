from pathlib import Path

import pytest

from tests.drivers.loop_volumes import driver_of, spec_of
from volplug.drivers.base import BackendConfig, Scope
from volplug.drivers.loop import build
from volplug.errors import BackendUnavailable, ConfigurationError, InvalidOption


def config_of(state_dir: Path, **settings: object) -> BackendConfig:
    return BackendConfig("disks", "host1", "", state_dir, settings)


async def test_volumes_lie_below_the_state_directory_by_default(tmp_path: Path) -> None:
    await build(config_of(tmp_path)).create(spec_of())
    files = sorted(path.name for path in (tmp_path / "backends" / "disks").iterdir())
    assert files == [".backend-id", "v.img", "v.json"]


async def test_an_empty_directory_in_place_of_the_one_used_before_concludes_nothing(tmp_path: Path) -> None:
    """As when the disk that was mounted there is not."""
    place = tmp_path / "disk"
    config = config_of(tmp_path / "state", directory=str(place))
    volume = await build(config).create(spec_of())
    place.rename(tmp_path / "unmounted")
    place.mkdir()
    driver = build(config)
    for question in (driver.get("v"), driver.list(), driver.create(spec_of())):
        with pytest.raises(BackendUnavailable) as refused:
            await question
        head = f"directory {place} is not the one used before: it has no id, "
        assert refused.value.cause.startswith(f"{head}that one had ")
        assert refused.value.remedy.endswith(f"remove {tmp_path}/state/backends/disks.id")
    assert list(place.iterdir()) == []
    place.rmdir()
    (tmp_path / "unmounted").rename(place)
    assert await driver.get("v") == volume


async def test_volumes_lie_where_the_setting_says(tmp_path: Path) -> None:
    driver = build(config_of(tmp_path, directory=str(tmp_path / "big"), overcommit=2))
    volume = await driver.create(spec_of())
    assert (volume.backend, driver.node_id) == ("disks", "host1")
    assert (tmp_path / "big" / "v.img").exists()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"overcommit": 0}, "backends.disks.overcommit: 0 is not above 0. Write a number above 0."),
        ({"overcommit": True}, "backends.disks.overcommit: true is not a number. Write a number."),
        ({"overcommit": "much"}, "backends.disks.overcommit: 'much' is not a number. Write a number."),
        ({"path": "/x"}, "unknown key backends.disks.path. Allowed are directory, driver, overcommit."),
        (
            {"directroy": "/x"},
            "unknown key backends.disks.directroy. Did you mean directory? "
            "Allowed are directory, driver, overcommit.",
        ),
        (
            {"directory": "here"},
            "backends.disks.directory: 'here' is not an absolute path. Write one that begins with /.",
        ),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, settings: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        build(config_of(tmp_path, **settings))
    assert str(wrong.value) == text


@pytest.mark.parametrize("value", ["thin", "", "SPARSE"])
def test_an_unknown_allocation_is_refused(tmp_path: Path, value: str) -> None:
    driver = driver_of(tmp_path)
    spec = spec_of(allocation="sparse")
    driver.check_spec(spec)
    wrong_spec = type(spec)(spec.name, spec.size_bytes, driver_options=(("allocation", value),))
    with pytest.raises(InvalidOption) as wrong:
        driver.check_spec(wrong_spec)
    assert str(wrong.value) == f"option 'allocation' is {value!r}. Use preallocated or sparse."


def test_loop_volumes_are_local_and_detached_at_once(tmp_path: Path) -> None:
    info = driver_of(tmp_path).info
    assert (info.driver, info.scope, info.remote, info.default_linger_s) == ("loop", Scope.LOCAL, False, 0)
    assert info.profiles["sparse"] == {"allocation": "sparse"}
