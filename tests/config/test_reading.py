import os
from pathlib import Path

import pytest

from volplug.config import TABLES, Settings, load_settings, read_settings, reading
from volplug.config.reading import ignored_variables
from volplug.errors import ConfigurationError
from volplug.masking import keep_secret

_SIZE = "Write a number and a unit, such as 10GiB or 512MiB."
_SECRET = "Settings-Secret-" + "k" * 30
_PASSWORD = "settings-password-" + "p" * 30
_KEYS = "answer_s, backend, backends, cluster, "


@pytest.fixture(autouse=True)
def without_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("VOLPLUG_", "REXRAY_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(reading, "DEFAULT_CONFIG", tmp_path / "none" / "config.toml")


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


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - TABLES))
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
    assert settings.configured_backends["fast"].model_extra == {"directory": "/nvme", "overcommit": 2}
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
        ("default_size", "much", f"size 'much' cannot be read. {_SIZE}"),
        ("default_size", "0", f"size '0' is not above zero. {_SIZE}"),
        ("linger_s", "-1", "'-1' is below 0. Write 0 or more."),
        ("linger_s", "soon", "'soon' is not a number. Write a number."),
        ("linger_s", "inf", "'inf' is not a number. Write a number."),
        ("answer_s", "0", "'0' is not above 0. Write a number above 0."),
        ("slow_answer_s", "-5", "'-5' is not above 0. Write a number above 0."),
        ("log_level", "loud", "'loud' is not allowed. Write debug, info, warning or error."),
        ("takeover", "always", "'always' is not allowed. Write proof, fence or never."),
        ("default_fs", "zfs", "'zfs' is not allowed. Write one of btrfs, ext4, xfs."),
    ],
)
@pytest.mark.parametrize("source", ["flag", "environment"])
def test_a_wrong_value_is_reported_with_its_flag_or_variable(
    name: str, value: str, text: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == "environment":
        monkeypatch.setenv(f"VOLPLUG_{name.upper()}", value)
    where = f"flag --{name.replace('_', '-')}" if source == "flag" else f"variable VOLPLUG_{name.upper()}"
    assert problem({name: value} if source == "flag" else {}) == f"{where}: {text}"


@pytest.mark.parametrize("name", ["socket", "state_dir", "state_marker", "mount_root"])
@pytest.mark.parametrize("source", ["flag", "file"])
def test_an_empty_path_is_not_the_current_directory(name: str, source: str, file: Path) -> None:
    file.write_text(f'{name} = ""\n' if source == "file" else "")
    flags = {"config": str(file)} | ({name: ""} if source == "flag" else {})
    where = f"{name} in {file}" if source == "file" else f"flag --{name.replace('_', '-')}"
    assert problem(flags) == f"{where}: the path is empty. Leave it out for the default."


def test_the_default_filesystem_ignores_case() -> None:
    assert load_settings({"default_fs": "EXT4 "}).default_fs == "ext4"


@pytest.mark.parametrize("name", ["BACKENDS", "PROFILES"])
def test_a_table_in_the_environment_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"VOLPLUG_{name}", "{}")
    assert problem().startswith(
        f"variable VOLPLUG_{name}: {name.lower()} are set in the configuration file only."
    )


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("xyz = 'red'\n", f"unknown key xyz in FILE. Allowed are {_KEYS}"),
        ("backnd = 'loop'\n", f"unknown key backnd in FILE. Did you mean backend? Allowed are {_KEYS}"),
        ("default-fs = 'xfs'\n", "unknown key default-fs in FILE. Did you mean default_fs? Allowed are "),
        ("[backend.disks]\n", "backend in FILE is a table. Did you mean [backends.disks]?"),
        ("[backend]\n", "backend in FILE is a table. Did you mean [backends.NAME]?"),
        ("[backends.x]\n", "backends.x.driver in FILE is missing."),
        ("[backends.x]\ndriver = 5\n", "backends.x.driver in FILE: 5 is not a text. Write it in quotes."),
        ("backends = 3\n", "backends in FILE: 3 is not a table. "),
        ("[backends]\nx = 3\n", "backends.x in FILE: 3 is not a table. "),
        ("profiles = 3\n", "profiles in FILE: 3 is not a table. "),
        ("node_id = 5\n", "node_id in FILE: 5 is not a text. Write it in quotes."),
        ("cluster = [1]\n", "cluster in FILE: a list is not a text. Write it in quotes."),
        ("default_fs = true\n", "default_fs in FILE: true is not a text. Write it in quotes."),
        ("linger_s = 'soon'\n", "linger_s in FILE: 'soon' is not a number. Write a number."),
        ("linger_s = true\n", "linger_s in FILE: true is not a number. Write a number."),
        ("linger_s = {}\n", "linger_s in FILE: a table is not a number. Write a number."),
        ("state_dir = 5\n", "state_dir in FILE: 5 is not a path. Write a path in quotes."),
        ("takeover = 5\n", "takeover in FILE: 5 is not allowed. Write proof, fence or never."),
        (
            '[backends."UP"]\ndriver = "loop"\n',
            "backends.UP in FILE: the name is not allowed. Use a-z 0-9 _ - and at most 32 characters.",
        ),
        (
            'backend = "fats"\n[backends.fast]\ndriver = "loop"\n[backends.b]\ndriver = "loop"\n',
            "backend in FILE: there is no backend 'fats'. Did you mean fast? Backends are b, fast.",
        ),
        (
            '[backends.a]\ndriver = "loop"\n[backends.b]\ndriver = "loop"\n',
            "backends in FILE: none of a, b is the default. Set backend to one of a, b.",
        ),
    ],
)
def test_a_wrong_file_is_reported_with_key_and_file_and_what_is_allowed(
    file: Path, text: str, output: str
) -> None:
    file.write_text(text)
    assert problem({"config": str(file)}).startswith(output.replace("FILE", str(file)))


_LONG = "9x" * 500
_CUT = f"'{'9x' * 19}9..."


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("linger_s", f"{_CUT} is not a number"),
        ("default_size", f"size {_CUT} cannot be read"),
        ("default_fs", f"{_CUT} is not allowed"),
        ("takeover", f"{_CUT} is not allowed"),
    ],
)
def test_a_long_value_is_cut(setting: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        load_settings({setting: _LONG})
    assert wrong.value.cause == f"flag --{setting.replace('_', '-')}: {text}"


@pytest.mark.parametrize("setting", ["linger_s", "default_size", "default_fs", "log_level"])
@pytest.mark.parametrize("value", [f"http://me:{_PASSWORD}@host", f"key-of-the-backend={_SECRET}"])
def test_a_wrong_value_is_masked_before_it_is_cut(
    setting: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_secret(_SECRET)
    monkeypatch.setenv(f"VOLPLUG_{setting.upper()}", value)
    told = problem()
    assert "***" in told
    assert _PASSWORD[:6] not in told
    assert _SECRET[:6].lower() not in told.lower()


def test_a_default_backend_that_is_none_is_masked_and_cut(file: Path) -> None:
    keep_secret(_SECRET)
    file.write_text(f"backend = 'key-of-the-backend={_SECRET}{_LONG}'\n[backends.a]\ndriver = 'loop'\n")
    told = problem({"config": str(file)})
    assert ": there is no backend 'key-of-the-backend=***9x" in told
    assert len(told) < 150 + len(str(file))


def test_a_number_too_long_to_be_read_is_a_mistake_of_the_file(file: Path) -> None:
    file.write_text(f"linger_s = {'9' * 5000}\n")
    told = f"the configuration file {file} cannot be read: a number in it is too long."
    assert problem({"config": str(file)}) == told


def test_all_mistakes_are_found_and_the_rest_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(
        "backnd = 'x'\nlinger_s = 'soon'\nbackend = 'none'\ncluster = 'kept'\n"
        "[backends.whole]\ndriver = 'loop'\n[backends.half]\n[profiles.kept]\nsize = 1\n"
    )
    monkeypatch.setenv("VOLPLUG_ANSWER_S", "0")
    read = read_settings({"config": str(file), "takeover": "always"})
    places = {mistake.cause.split(":")[0].replace(f" in {file}", "") for mistake in read.mistakes}
    assert places == {
        "unknown key backnd",
        "linger_s",
        "backend",
        "backends.half.driver is missing",
        "variable VOLPLUG_ANSWER_S",
        "flag --takeover",
    }
    assert (read.settings.cluster, read.settings.takeover, [*read.settings.profiles]) == (
        "kept",
        "proof",
        ["kept"],
    )
    assert ([*read.settings.backends], read.has_all_backends) == (["whole"], False)


def test_of_several_mistakes_the_first_is_told_and_the_others_are_counted(file: Path) -> None:
    file.write_text("backnd = 'x'\nlinger_s = 'soon'\nanswer_s = 0\n")
    assert problem({"config": str(file)}) == (
        f"linger_s in {file}: 'soon' is not a number (and 2 more mistakes, see volplug check-config). "
        "Write a number."
    )


def test_a_wrong_value_that_another_takes_precedence_over_is_none(file: Path) -> None:
    file.write_text("linger_s = 'soon'\n")
    assert load_settings({"config": str(file), "linger_s": "3"}).linger_s == 3


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"size = \n", "Invalid value"),
        (b"\xff\xfe", "it is not UTF-8."),
        (b"[[[", "Invalid initial character"),
    ],
)
def test_a_file_that_is_no_toml_is_reported_with_its_path(file: Path, content: bytes, why: str) -> None:
    file.write_bytes(content)
    assert problem({"config": str(file)}).startswith(f"the configuration file {file} cannot be read: {why}")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert problem({"config": str(tmp_path)}).startswith(
        f"the configuration file {tmp_path} cannot be read: "
    )


@pytest.mark.parametrize("source", ["flag", "environment"])
def test_a_configured_file_has_to_exist(file: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLPLUG_CONFIG", str(file) if source == "environment" else "/elsewhere.toml")
    flags = {"config": str(file)} if source == "flag" else {}
    assert problem(flags) == f"the configuration file {file} cannot be read: No such file or directory."


# Coming from REX-Ray


def test_variables_of_rexray_are_read_if_ours_are_unset_and_take_precedence_over_the_file(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    file.write_text('default_fs = "ext4"\ntakeover = "fence"\n')
    for name, text in {"FSTYPE": "xfs", "LOGLEVEL": "warn", "PREEMPT": "true"}.items():
        monkeypatch.setenv(f"REXRAY_{name}", text)
    settings = load_settings({"config": str(file)})
    assert (settings.default_fs, settings.log_level, settings.takeover) == ("xfs", "warning", "proof")
    assert settings.place("takeover") == "variable REXRAY_PREEMPT"


def test_our_own_variables_take_precedence_over_those_of_rexray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REXRAY_FSTYPE", "xfs")
    monkeypatch.setenv("VOLPLUG_DEFAULT_FS", "btrfs")
    monkeypatch.setenv("REXRAY_PREEMPT", "false")
    monkeypatch.setenv("REXRAY_LOGLEVEL", "")
    settings = load_settings()
    assert (settings.default_fs, settings.log_level, settings.takeover) == ("btrfs", "info", "never")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("REXRAY_PREEMPT", "yes", "true, false, 1, 0"),
        ("REXRAY_LOGLEVEL", "trace", "debug, info, warn, warning, error"),
        ("REXRAY_FSTYPE", "zfs", "btrfs, ext4, xfs"),
    ],
)
def test_an_invalid_variable_of_rexray_is_reported_with_its_own_words(
    name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert problem() == f"variable {name}: {value!r} is not allowed. Write {allowed}."


# Other variables


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("VOLPLUG_LOGLEVEL", "debug", {"VOLPLUG_LOGLEVEL": "VOLPLUG_LOG_LEVEL"}),
        ("VOLPLUG_LINGER", "3", {"VOLPLUG_LINGER": "VOLPLUG_LINGER_S"}),
        ("volplug_linger_s", "3", {"volplug_linger_s": "VOLPLUG_LINGER_S"}),
        ("VOLPLUG_XYZ", "red", {"VOLPLUG_XYZ": ""}),
        ("VOLPLUG_LOGLEVEL", "", {}),
        ("VOLPLUG_LOG_LEVEL", "debug", {}),
        ("VOLPLUG_CONFIG", "/x", {}),
        ("OTHER", "1", {}),
    ],
)
def test_unknown_variables_are_found_with_what_may_be_meant(
    name: str, value: str, meant: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert ignored_variables() == meant
