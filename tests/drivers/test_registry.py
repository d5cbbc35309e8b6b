import sys
from pathlib import Path

import pytest

from volplug.drivers import loop
from volplug.drivers.base import BackendConfig
from volplug.drivers.registry import driver_factory
from volplug.errors import ConfigurationError
from volplug.testing.memory import MemoryDriver

MODULE = """
from volplug.testing.memory import MemoryCloud, MemoryDriver

def build(config):
    return MemoryDriver(MemoryCloud(), config.node_id, config.name)
"""
METADATA = "Metadata-Version: 2.1\nName: volplug-outside\nVersion: 1.0\n"


def install(site: Path, entry_points: str) -> None:
    """What pip leaves of an outside package."""
    (site / "volplug_outside.py").write_text(MODULE)
    information = site / "volplug_outside-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(METADATA)
    (information / "entry_points.txt").write_text(f"[volplug.drivers]\n{entry_points}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "volplug_outside", raising=False)
    return tmp_path


def test_a_driver_of_our_own_is_found_by_name() -> None:
    assert driver_factory("loop") is loop.build


def test_an_installed_package_brings_its_driver(site: Path) -> None:
    install(site, "outside = volplug_outside:build")
    driver = driver_factory("outside")(BackendConfig("far", "node-x", "", site))
    assert isinstance(driver, MemoryDriver)
    assert driver.node_id == "node-x"


def test_no_package_replaces_a_driver_of_our_own(site: Path) -> None:
    install(site, "loop = volplug_outside:build")
    assert driver_factory("loop") is loop.build


def test_the_name_of_an_unknown_driver_is_masked_and_cut() -> None:
    with pytest.raises(ConfigurationError) as refused:
        driver_factory(f"http://me:{'p' * 60}@host/{'x' * 5000}")
    assert refused.value.cause == f"driver 'http://me:***@host/{'x' * 20}... is not installed"


def test_an_unknown_driver_is_refused_naming_those_there_are(site: Path) -> None:
    install(site, "outside = volplug_outside:build")
    with pytest.raises(ConfigurationError) as refused:
        driver_factory("floppy")
    assert (
        str(refused.value) == "driver 'floppy' is not installed. Did you mean loop? "
        "Drivers here are cinder, ebs, loop, outside, zfs."
    )


@pytest.mark.parametrize(
    ("entry_point", "said"),
    [
        ("volplug_outside:missing", "module 'volplug_outside' has no attribute 'missing'"),
        ("no_such_module:build", "No module named 'no_such_module'"),
    ],
)
def test_a_driver_that_cannot_be_imported_is_reported(site: Path, entry_point: str, said: str) -> None:
    install(site, f"outside = {entry_point}")
    with pytest.raises(ConfigurationError) as refused:
        driver_factory("outside")
    assert str(refused.value) == f"driver 'outside' cannot be imported: {said}."


def test_a_driver_whose_module_breaks_on_import_is_reported(site: Path) -> None:
    install(site, "outside = volplug_outside:build")
    (site / "volplug_outside.py").write_text("raise RuntimeError('half installed')\n")
    with pytest.raises(ConfigurationError) as refused:
        driver_factory("outside")
    assert str(refused.value) == "driver 'outside' cannot be imported: half installed."
