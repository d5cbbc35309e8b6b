"""config.json of the managed plugin fits the program that it starts, and asks for no more than that needs."""

import json
import re
from pathlib import Path, PurePath
from typing import Any

import pytest
from openstack.config.loader import CONFIG_FILES

from volplug.__main__ import serving_settings
from volplug.config import Settings
from volplug.config.reading import REXRAY_VARIABLES
from volplug.doctor.docker_sdk import HOST_RUN
from volplug.drivers.cinder.settings import VARIABLES as CINDER_VARIABLES
from volplug.drivers.ebs.settings import VARIABLES as EBS_VARIABLES
from volplug.drivers.zfs.settings import VARIABLES as ZFS_VARIABLES

_ROOT = Path(__file__).parents[2]
CONFIG: dict[str, Any] = json.loads((_ROOT / "config.json").read_text())
_PROGRAM, *_ARGUMENTS = CONFIG["entrypoint"]
_TABLES = {"backends", "nodes", "profiles"}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the plugin reads at its start, before anybody has set anything."""
    for variable in CONFIG["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    return serving_settings(_ARGUMENTS[1:])


def test_every_setting_is_either_a_settable_variable_or_fixed_by_a_flag() -> None:
    fixed = [flag.partition("=")[0].removeprefix("--").replace("-", "_") for flag in _ARGUMENTS[1:]]
    ours = [variable["name"] for variable in CONFIG["env"] if variable["name"].startswith("VOLPLUG_")]
    settable = [name.removeprefix("VOLPLUG_").lower() for name in ours]
    assert sorted([*fixed, *settable]) == sorted({*Settings.model_fields, "config"} - _TABLES)
    assert all(variable["settable"] == ["value"] for variable in CONFIG["env"])


def test_the_variables_of_rexray_and_of_the_drivers_are_settable_and_nothing_else() -> None:
    others = [variable["name"] for variable in CONFIG["env"] if not variable["name"].startswith("VOLPLUG_")]
    # Where the SDK of AWS looks for profiles; it reads these itself.
    of_ebs = {*EBS_VARIABLES, "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"}
    assert sorted(others) == sorted({*REXRAY_VARIABLES, *of_ebs, *CINDER_VARIABLES, *ZFS_VARIABLES})


def test_defaults_stand_in_the_program_because_an_upgrade_keeps_old_variables(served: Settings) -> None:
    assert {variable["value"] for variable in CONFIG["env"]} == {""}
    # What flags fix comes with the new version.
    changed = {name for name in Settings.model_fields if getattr(served, name) != getattr(Settings(), name)}
    assert changed == {"mount_root", "state_marker"}


def test_the_program_listens_where_docker_looks(served: Settings) -> None:
    assert _ARGUMENTS[0] == "serve"
    assert PurePath(_PROGRAM).is_absolute()
    assert served.socket == Path("/run/docker/plugins") / CONFIG["interface"]["socket"]
    # Docker puts it below /run/docker/plugins/<64 digits>/, and a socket's path has 107 characters at most.
    assert len(served.socket.name) <= 22
    assert CONFIG["interface"]["types"] == ["docker.volumedriver/1.0"]


def test_volumes_are_mounted_where_containers_get_them_from(served: Settings) -> None:
    assert served.resolved_mount_root.is_relative_to(CONFIG["propagatedMount"])


def test_the_state_is_the_hosts_and_its_marker_ends_with_the_plugin(served: Settings) -> None:
    state = _mount("state")
    assert served.state_dir.is_relative_to(state["destination"])
    assert state["settable"] == ["source"]
    # A directory of every host, so that nobody has to make one first.
    assert state["source"] == "/var/lib"
    # Not recursive: the engine's mounts below it stay out.
    assert state["options"] == ["bind"]
    assert served.resolved_state_marker is not None
    assert served.resolved_state_marker.is_relative_to(CONFIG["propagatedMount"])
    assert not served.resolved_state_marker.is_relative_to(served.resolved_mount_root)


def test_clouds_yaml_is_found_where_the_sdk_searches_and_nothing_new_is_shown_by_default() -> None:
    openstack = _mount("openstack")
    assert f"{openstack['destination']}/clouds.yaml" in CONFIG_FILES
    assert openstack["settable"] == ["source"]
    assert openstack["options"] == ["bind", "ro"]
    # Docker starts no plugin whose source is missing, and each host has this one.
    assert openstack["source"] == _mount("state")["source"]


def test_the_engines_socket_is_found_in_a_directory_that_stays_when_the_engine_makes_a_new_one() -> None:
    engine = _mount("engine")
    assert Path(engine["destination"]) == HOST_RUN
    assert engine["settable"] == ["source"]
    assert engine["source"] == "/run"
    # What the host mounts there later, for each of its containers and users, stays out.
    assert engine["options"] == ["bind", "ro", "private"]


def test_no_bind_overlaps_what_is_propagated() -> None:
    propagated = PurePath(CONFIG["propagatedMount"])
    places = [PurePath(mount["destination"]) for mount in CONFIG["mounts"]]
    assert [p for p in places if p.is_relative_to(propagated) or propagated.is_relative_to(p)] == []


def test_the_plugin_asks_for_exactly_what_it_needs() -> None:
    assert CONFIG["linux"] == {
        "capabilities": ["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE"],  # mount and attach; grow ext4 while mounted
        "allowAllDevices": True,
    }
    assert CONFIG["network"] == {"type": "host"}
    assert [mount["source"] for mount in CONFIG["mounts"]] == ["/dev", "/var/lib", "/var/lib", "/run"]
    assert _mount("dev")["options"] == ["rbind"]
    assert not {"pidhost", "ipchost", "PidHost", "IpcHost"} & CONFIG.keys()


@pytest.mark.parametrize("page", ["install.md", "drivers/cinder.md", "drivers/ebs.md", "drivers/zfs.md"])
def test_the_pages_set_only_what_can_be_set(page: str) -> None:
    text = (_ROOT / "docs" / page).read_text().replace("\\\n", "")
    given = [line.split() for line in re.findall(r"^ +docker plugin set volplug (.+)$", text, re.MULTILINE)]
    named = {word.partition("=")[0] for words in given for word in words}
    assert len(named) >= 2
    sources = {f"{mount['name']}.source" for mount in CONFIG["mounts"] if "settable" in mount}
    assert named <= {*(variable["name"] for variable in CONFIG["env"]), *sources}


def _mount(name: str) -> dict[str, Any]:
    (found,) = [mount for mount in CONFIG["mounts"] if mount["name"] == name]
    assert isinstance(found, dict)
    return found
