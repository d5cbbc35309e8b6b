from pathlib import Path

import pytest

from volplug import config
from volplug.config import Settings, load_settings
from volplug.errors import ConfigurationError


@pytest.fixture(autouse=True)
def without_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"VOLPLUG_{name.upper()}", raising=False)
    for name in ("VOLPLUG_CONFIG", "REXRAY_FSTYPE", "REXRAY_LOGLEVEL", "REXRAY_PREEMPT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(config, "DEFAULT_CONFIG", tmp_path / "none" / "config.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def problem(flags: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as wrong:
        load_settings(flags)
    return str(wrong.value)


# Nothing configured


def test_with_no_configuration_at_all_there_is_one_loop_backend() -> None:
    settings = load_settings()
    assert settings.socket == Path("/run/docker/plugins/volplug.sock")
    assert (settings.state_dir, settings.resolved_mount_root) == (
        Path("/var/lib/volplug"),
        Path("/var/lib/volplug/mounts"),
    )
    assert (settings.slow_answer_s, settings.answer_s, settings.linger_s) == (110, 50, None)
    assert settings.default_backend == "loop"
    assert {name: table.driver for name, table in settings.configured_backends.items()} == {"loop": "loop"}
    assert settings.node_id


def test_naming_a_driver_alone_makes_a_backend_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLPLUG_BACKEND", "ebs")
    settings = load_settings()
    assert settings.default_backend == "ebs"
    assert {name: table.driver for name, table in settings.configured_backends.items()} == {"ebs": "ebs"}


@pytest.mark.parametrize(
    ("flags", "marker"),
    [
        ({}, Path("/etc/volplug/state-id")),
        ({"state_dir": "/other"}, None),
        ({"state_dir": "/other", "state_marker": "/run/marker"}, Path("/run/marker")),
        ({"state_marker": "/run/marker"}, Path("/run/marker")),
    ],
)
def test_only_the_default_state_directory_is_marked_by_default(
    flags: dict[str, str], marker: Path | None
) -> None:
    assert load_settings(flags).resolved_state_marker == marker


def test_mounts_move_with_the_state_directory_unless_they_have_a_place_of_their_own() -> None:
    assert load_settings({"state_dir": "/s"}).resolved_mount_root == Path("/s/mounts")
    assert load_settings({"state_dir": "/s", "mount_root": "/m"}).resolved_mount_root == Path("/m")


# Where settings come from


def test_flags_take_precedence_over_the_environment_and_that_over_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('node_id = "file"\ncluster = "file"\ndefault_fs = "xfs"\nlinger_s = 1\n')
    monkeypatch.setenv("VOLPLUG_NODE_ID", "environment")
    monkeypatch.setenv("VOLPLUG_CLUSTER", "environment")
    settings = load_settings({"config": str(file), "node_id": "flag"})
    assert (settings.node_id, settings.cluster, settings.default_fs) == ("flag", "environment", "xfs")
    assert settings.linger_s == 1


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_an_empty_variable_is_unset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"VOLPLUG_{name.upper()}", "")
    assert load_settings() == load_settings({})
    assert getattr(load_settings(), name) == (
        Settings.model_fields[name].get_default(call_default_factory=True)
    )


def test_an_empty_variable_does_not_hide_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('default_size = "7GiB"\n')
    monkeypatch.setenv("VOLPLUG_CONFIG", str(file))
    monkeypatch.setenv("VOLPLUG_DEFAULT_SIZE", "")
    assert load_settings().default_size == "7GiB"


def test_the_file_has_tables_for_backends_and_profiles(file: Path) -> None:
    file.write_text(
        'backend = "fast"\n'
        '[backends.fast]\ndriver = "loop"\ndirectory = "/nvme"\novercommit = 2\n'
        '[backends.slow]\ndriver = "loop"\n'
        "[profiles.gold]\nsize = 10\nmode = '0750'\n"
    )
    settings = load_settings({"config": str(file)})
    assert settings.default_backend == "fast"
    assert sorted(settings.configured_backends) == ["fast", "slow"]
    assert settings.configured_backends["fast"].driver_settings == {"directory": "/nvme", "overcommit": 2}
    assert settings.profiles == {"gold": {"size": "10", "mode": "0750"}}


def test_the_only_backend_is_the_default_one(file: Path) -> None:
    file.write_text('[backends.disks]\ndriver = "loop"\n')
    assert load_settings({"config": str(file)}).default_backend == "disks"


def test_the_level_of_the_log_ignores_case() -> None:
    assert load_settings({"log_level": "WARNING"}).log_level == "warning"


# What is wrong


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("default_size", "much", "setting default_size: size 'much' cannot be read."),
        ("default_size", "0", "setting default_size: size '0' is not above zero."),
        ("linger_s", "-1", "setting linger_s: Input should be greater than or equal to 0."),
        (
            "linger_s",
            "soon",
            "setting linger_s: Input should be a valid number, unable to parse string as a number.",
        ),
        ("answer_s", "0", "setting answer_s: Input should be greater than 0."),
        ("slow_answer_s", "-5", "setting slow_answer_s: Input should be greater than 0."),
        ("log_level", "loud", "setting log_level: is one of debug, info, warning, error."),
    ],
)
@pytest.mark.parametrize("source", ["flag", "environment"])
def test_a_wrong_value_is_reported_with_its_setting(
    name: str, value: str, text: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == "environment":
        monkeypatch.setenv(f"VOLPLUG_{name.upper()}", value)
    assert problem({name: value} if source == "flag" else {}) == text


@pytest.mark.parametrize("name", ["socket", "state_dir", "state_marker", "mount_root"])
@pytest.mark.parametrize("source", ["flag", "file"])
def test_an_empty_path_is_not_the_current_directory(name: str, source: str, file: Path) -> None:
    file.write_text(f'{name} = ""\n' if source == "file" else "")
    flags = {"config": str(file)} | ({name: ""} if source == "flag" else {})
    assert problem(flags) == f"setting {name}: is an empty path; leave it out for the default."


@pytest.mark.parametrize("value", ["zfs", "ext3", "EXT4 "])
def test_an_unknown_default_filesystem_is_reported_at_start(value: str) -> None:
    if value.strip().lower() == "ext4":
        assert load_settings({"default_fs": value}).default_fs.strip().lower() == "ext4"
    else:
        assert problem({"default_fs": value}).startswith("setting default_fs: ")


@pytest.mark.parametrize("name", ["BACKENDS", "PROFILES"])
@pytest.mark.parametrize("value", ["{", "loop"])
def test_a_table_in_the_environment_that_is_no_json_is_reported(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"VOLPLUG_{name}", value)
    assert name.lower() in problem()


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("colour = 'red'\n", "setting colour: Extra inputs are not permitted."),
        ("[backends.x]\n", "setting backends.x.driver: Field required."),
        ("backends = 3\n", "setting backends: Input should be a valid dictionary."),
        ("profiles = 3\n", "setting profiles: Input should be a valid dictionary."),
        (
            '[backends."UP"]\ndriver = "loop"\n',
            "settings: backend name 'UP' is not allowed: use a-z 0-9 _ - and at most 32 characters.",
        ),
        (
            'backend = "c"\n[backends.a]\ndriver = "loop"\n[backends.b]\ndriver = "loop"\n',
            "settings: backend is 'c', but there are a, b.",
        ),
        (
            '[backends.a]\ndriver = "loop"\n[backends.b]\ndriver = "loop"\n',
            "settings: backend names none of a, b as the default.",
        ),
    ],
)
def test_a_wrong_file_is_reported_with_the_setting(file: Path, text: str, output: str) -> None:
    file.write_text(text)
    assert problem({"config": str(file)}) == output


@pytest.mark.parametrize("content", [b"size = \n", b"\xff\xfe", b"[[["])
def test_a_file_that_is_no_toml_is_reported_with_its_path(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert problem({"config": str(file)}).startswith(f"the configuration file {file} cannot be read: ")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert problem({"config": str(tmp_path)}).startswith(
        f"the configuration file {tmp_path} cannot be read: "
    )


@pytest.mark.parametrize("source", ["flag", "environment"])
def test_a_configured_file_has_to_exist(file: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLPLUG_CONFIG", str(file) if source == "environment" else "/elsewhere.toml")
    flags = {"config": str(file)} if source == "flag" else {}
    assert problem(flags) == f"the configuration file {file} does not exist."


# Coming from REX-Ray


def test_variables_of_rexray_are_read_if_ours_are_unset_and_take_precedence_over_the_file(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    file.write_text('default_fs = "ext4"\ntakeover = "fence"\n')
    for name, text in {"FSTYPE": "xfs", "LOGLEVEL": "warn", "PREEMPT": "true"}.items():
        monkeypatch.setenv(f"REXRAY_{name}", text)
    settings = load_settings({"config": str(file)})
    assert (settings.default_fs, settings.log_level, settings.takeover) == ("xfs", "warning", "proof")
    assert config.rexray_variables() == ("REXRAY_FSTYPE", "REXRAY_LOGLEVEL", "REXRAY_PREEMPT")


def test_our_own_variables_take_precedence_over_those_of_rexray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REXRAY_FSTYPE", "xfs")
    monkeypatch.setenv("VOLPLUG_DEFAULT_FS", "btrfs")
    monkeypatch.setenv("REXRAY_PREEMPT", "false")
    monkeypatch.setenv("REXRAY_LOGLEVEL", "")
    settings = load_settings()
    assert (settings.default_fs, settings.log_level, settings.takeover) == ("btrfs", "info", "never")


def test_an_invalid_variable_of_rexray_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REXRAY_PREEMPT", "perhaps")
    assert "setting takeover" in problem()
