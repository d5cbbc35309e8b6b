"""What doctor concludes of what it reads of an engine, where a real one is not needed for that."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from volplug.config import Settings, read_settings
from volplug.doctor.docker_engine import (
    EngineContainer,
    EngineFacts,
    EngineVolume,
    EngineVolumes,
    InstalledPlugin,
)
from volplug.doctor.docker_sdk import EnginePlace
from volplug.doctor.engine import (
    by_name,
    check_engine_at,
    judge_deadlines,
    judge_live_restore,
    judge_version,
)
from volplug.doctor.engine_volumes import count_differences, described_difference, wrong_drivers
from volplug.doctor.examination import Examination
from volplug.doctor.installed_form import InstalledForm, installed_form
from volplug.doctor.managed_plugin import is_volplug, managed_settings
from volplug.doctor.volumes import KnownVolume
from volplug.findings import Level
from volplug.volumes.ledger import Desired

_PLACE = EnginePlace("unix:///run/docker.sock", Path("/run"))
_FACTS = EngineFacts("26.1.5+dfsg1", True, False, "6.12.1-amd64", "/data/docker", ("local", "volplug"))
_PLUGIN = InstalledPlugin(
    "volplug:latest",
    "0a1b",
    True,
    ("/opt/volplug/bin/volplug", "serve", "--socket=/run/docker/plugins/volplug.sock"),
    {"VOLPLUG_STATE_DIR": "", "VOLPLUG_CONFIG": "", "AWS_CONFIG_FILE": "/var/lib/aws", "AWS_REGION": "eu"},
    {"/dev": "/dev", "/var/lib": "/srv/disk"},
)
_EXAMINATION = Examination(Settings(), {}, None, is_managed=False)


def _form(
    *plugins: InstalledPlugin, facts: EngineFacts = _FACTS, run: Path = Path("/nowhere")
) -> InstalledForm:
    return installed_form(plugins, Settings(), facts, run)


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("19.03.15", Level.YELLOW),
        ("20.10.24+dfsg1", Level.GREEN),
        ("29.0.0-rc.1", Level.GREEN),
        ("library-import", Level.GREEN),
    ],
)
def test_the_version_of_the_engine(version: str, level: Level) -> None:
    assert judge_version(replace(_FACTS, version=version), _PLACE).level is level


@pytest.mark.parametrize(
    ("live_restore", "managed", "version", "kernel", "level"),
    [
        (True, True, "20.10.24", "6.1.0-44-amd64", Level.YELLOW),
        (False, True, "20.10.24", "6.1.0-44-amd64", Level.GREEN),
        (True, False, "20.10.24", "6.1.0-44-amd64", Level.GREEN),
        (True, True, "26.1.5", "6.1.0-44-amd64", Level.GREEN),
        (True, True, "20.10.24", "6.12.1", Level.GREEN),
    ],
)
def test_live_restore_loses_unmounts_of_plugins_on_old_engines_and_kernels(
    live_restore: bool, managed: bool, version: str, kernel: str, level: Level
) -> None:
    facts = replace(_FACTS, has_live_restore=live_restore, version=version, kernel=kernel)
    assert judge_live_restore(facts, is_managed=managed).level is level


@pytest.mark.parametrize(
    ("settings", "late"),
    [
        (Settings(), ""),
        (Settings(slow_answer_s=120), "slow_answer_s is 120, and Docker waits 120 s"),
        (Settings(answer_s=60), "answer_s is 60, and Docker waits 60 s"),
    ],
)
def test_volplug_answers_before_docker_gives_up(settings: Settings, late: str) -> None:
    finding = judge_deadlines(settings, is_managed=True)
    assert finding.level is (Level.YELLOW if late else Level.GREEN)
    assert finding.message == late or "--timeout, which Docker does not show" in finding.message


@pytest.mark.parametrize(
    ("given", "sockets", "address"),
    [
        ({}, ["run"], "unix://{}/run/docker.sock"),
        ({}, ["host"], "unix://{}/host/docker.sock"),
        ({}, ["run", "host"], "unix://{}/run/docker.sock"),
        ({}, [], "unix://{}/host/docker.sock"),
        ({"DOCKER_HOST": "tcp://node1:2376"}, ["run"], "tcp://node1:2376"),
    ],
)
def test_where_the_engine_is(
    tmp_path: Path, given: Mapping[str, str], sockets: list[str], address: str
) -> None:
    for name in ("run", "host"):
        (tmp_path / name).mkdir()
    for name in sockets:
        (tmp_path / name / "docker.sock").touch()
    found = EnginePlace.found(given, [tmp_path / "run", tmp_path / "host"])
    assert found.address == address.format(tmp_path)


async def test_without_an_engine_it_says_so(tmp_path: Path) -> None:
    place = EnginePlace(f"unix://{tmp_path}/docker.sock", tmp_path)
    (finding,) = await check_engine_at(place, _EXAMINATION)
    assert (finding.check, finding.level) == ("engine", Level.YELLOW)
    assert finding.message == f"no Docker Engine answers at {place.address}: No such file or directory"
    assert "DOCKER_HOST" in finding.remedy


async def test_without_the_sdk_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    (finding,) = await check_engine_at(_PLACE, _EXAMINATION)
    assert (finding.level, finding.message) == (
        Level.YELLOW,
        "Docker's SDK is not installed (package docker)",
    )
    assert "pipx inject volplug docker" in finding.remedy


# How volplug is installed


def test_a_service_has_the_name_of_its_socket_and_those_of_links_to_it(tmp_path: Path) -> None:
    sockets = tmp_path / "docker/plugins"
    sockets.mkdir(parents=True)
    for name in ("volplug:latest.sock", "other.sock"):
        (sockets / name).symlink_to("volplug.sock" if name[0] == "v" else "else.sock")
    form = _form(run=tmp_path)
    assert (form.drivers, form.is_managed, form.is_served) == (("volplug", "volplug:latest"), False, True)
    assert [finding.level for finding in form.findings] == [Level.GREEN]


def test_a_service_that_the_engine_does_not_find() -> None:
    form = _form(facts=replace(_FACTS, volume_drivers=("local",)))
    assert not form.is_served
    assert [(finding.check, finding.level) for finding in form.findings] == [("engine-driver", Level.RED)]


def test_a_former_name_of_the_plugin_beside_the_one_that_is_enabled() -> None:
    former = replace(_PLUGIN, name="rexray/ebs:latest", is_enabled=False)
    form = _form(former, _PLUGIN)
    assert (form.driver, form.drivers, form.is_served) == ("volplug", ["volplug:latest"], True)
    assert {finding.subject: finding.level for finding in form.findings} == {
        "volplug:latest": Level.GREEN,
        "rexray/ebs:latest": Level.YELLOW,
    }


def test_a_disabled_plugin_hides_the_service_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "docker/plugins").mkdir(parents=True)
    (tmp_path / "docker/plugins/volplug.sock").touch()
    form = _form(replace(_PLUGIN, is_enabled=False), run=tmp_path)
    (finding,) = form.findings
    assert not form.is_served
    assert finding.level is Level.RED
    assert "hides the service" in finding.message


def test_another_plugin_is_not_taken_for_volplug() -> None:
    assert is_volplug(_PLUGIN)
    assert not is_volplug(replace(_PLUGIN, command=("/rexray/rexray", "start")))


def test_settings_of_the_plugin_have_the_hosts_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLPLUG_DEFAULT_FS", "xfs")  # of the shell, and not of the plugin
    read = managed_settings(_PLUGIN, _FACTS)
    assert read.environment["AWS_CONFIG_FILE"] == "/srv/disk/aws"
    for name, value in read.environment.items():
        monkeypatch.setitem(os.environ, name, value)
    settings = read_settings(read.flags).settings
    assert settings.state_dir == Path("/srv/disk/volplug")
    assert settings.socket == Path("/run/docker/plugins/0a1b/volplug.sock")
    assert settings.default_fs == "ext4"


# Volumes


def _container(name: str, state: str, *mounts: tuple[str, str]) -> EngineContainer:
    return EngineContainer(name, name, state, tuple(EngineVolume(*mount) for mount in mounts))


def _volume(name: str, count: int | None) -> KnownVolume:
    is_claimed = count is None or count > 0
    return KnownVolume(name, "", "loop", None, Desired.NONE, is_claimed, mount_count=count)


def _own(**counts: int | None) -> Mapping[str, KnownVolume]:
    return {name: _volume(name, count) for name, count in counts.items()}


def test_of_volumes_of_one_name_the_mounted_one_counts() -> None:
    assert by_name([_volume("db", 2), _volume("db", 0)]) == _own(db=2)
    assert by_name([_volume("db", None)]) == _own(db=None)


@pytest.mark.parametrize(
    ("known", "warnings", "message"),
    [
        ([("db", "volplug:latest")], (), ""),
        ([("db", "rexray/ebs:latest")], (), "of the driver rexray/ebs:latest, and does not use volplug's"),
        ([], (), "a driver that has gone, rexray/ebs:latest, and cannot use it"),
        ([], ("volplug did not answer",), ""),
    ],
)
def test_a_volume_that_docker_knows_under_a_former_name(
    known: list[tuple[str, str]], warnings: tuple[str, ...], message: str
) -> None:
    users = [_container("web", "exited", ("db", "rexray/ebs:latest"))]
    volumes = EngineVolumes([EngineVolume(*each) for each in known], warnings)
    findings = wrong_drivers(_own(db=0), volumes, users, _form(_PLUGIN))
    assert [message in finding.message for finding in findings] == [True] * bool(message)
    for finding in findings:
        assert finding.level is Level.RED
        assert "docker rm --force web; " in finding.remedy
        assert (
            "docker plugin disable --force volplug:latest; systemctl restart docker; docker plugin enable "
            "--timeout 120 volplug:latest" in finding.remedy
        )


def test_mounts_are_compared_where_both_sides_are_known() -> None:
    containers = [
        _container("web", "running", ("more", "volplug"), ("more", "volplug"), ("other", "local")),
        _container("job", "paused", ("same", "volplug")),
        _container("loop", "restarting", ("flips", "volplug")),
        _container("old", "exited", ("less", "volplug")),
    ]
    own = _own(more=1, same=1, flips=1, less=2, other=0, lost=None)
    less, more = count_differences(own, containers, ["volplug"])
    assert (less.name, less.counted, less.mounted, less.containers) == ("less", 2, 0, ())
    assert (more.name, more.counted, more.mounted, more.containers) == ("more", 1, 2, ("web",))
    service = _form()
    assert "systemctl restart volplug.service" in described_difference(less, service).remedy
    assert described_difference(more, service).remedy.endswith("docker restart web")
