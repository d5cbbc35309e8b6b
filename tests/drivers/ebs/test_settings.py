from collections.abc import Mapping
from pathlib import Path

import pytest

from volplug.drivers.base import BackendConfig
from volplug.drivers.ebs.settings import EbsSettings, load_settings
from volplug.errors import ConfigurationError

UNTOLD = "verysecret"


def settings_of(environment: Mapping[str, str] | None = None, **table: object) -> EbsSettings:
    return load_settings(BackendConfig("cloud", "host1", "", Path("/state"), table), environment or {})


@pytest.mark.parametrize(
    ("environment", "table", "setting", "value"),
    [
        ({"AWS_REGION": "eu-west-1"}, {}, "region", "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, {}, "region", "eu-west-1"),
        ({"EBS_REGION": "eu-west-1"}, {}, "region", "eu-west-1"),
        ({"AWS_REGION": "eu-west-1", "EBS_REGION": "us-east-1"}, {}, "region", "eu-west-1"),
        ({"AWS_REGION": "", "EBS_REGION": "us-east-1"}, {}, "region", "us-east-1"),
        ({"AWS_REGION": "eu-west-1"}, {"region": "us-west-2"}, "region", "us-west-2"),
        ({"AWS_REGION": "eu-west-1"}, {"region": ""}, "region", "eu-west-1"),
        ({"EBS_ENDPOINT": "http://e", "AWS_ENDPOINT_URL": "http://a"}, {}, "endpoint", "http://e"),
        ({"AWS_ENDPOINT_URL_EC2": "http://c", "AWS_ENDPOINT_URL": "http://a"}, {}, "endpoint", "http://c"),
        ({"AWS_ENDPOINT_URL": "http://a"}, {}, "endpoint", "http://a"),
        ({"AWS_PROFILE": "ops"}, {}, "profile", "ops"),
        ({"EBS_KMSKEYID": "alias/k"}, {}, "kms_key_id", "alias/k"),
        ({"EBS_MAXRETRIES": "3"}, {}, "max_retries", 3),
        ({}, {"max_retries": 0}, "max_retries", 0),
        ({}, {"tags": {"team": "web"}}, "tags", {"team": "web"}),
        ({}, {}, "region", ""),
    ],
)
def test_the_table_wins_over_the_environment_and_empty_is_unset(
    environment: Mapping[str, str], table: Mapping[str, object], setting: str, value: object
) -> None:
    assert getattr(settings_of(environment, **table), setting) == value


@pytest.mark.parametrize(
    ("environment", "table", "keys"),
    [
        (
            {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"},
            {},
            ("a", "s", "t"),
        ),
        ({"EBS_ACCESSKEY": "ea", "EBS_SECRETKEY": "es"}, {}, ("ea", "es", "")),
        # What fits to other keys is left alone.
        ({"EBS_ACCESSKEY": "ea", "EBS_SECRETKEY": "es", "AWS_SESSION_TOKEN": "t"}, {}, ("ea", "es", "")),
        (
            {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"},
            {"access_key": "ta", "secret_key": "ts"},
            ("ta", "ts", ""),
        ),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, {}, ("", "", "")),
        # A profile that the table names has keys of its own.
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}, {"profile": "ops"}, ("", "", "")),
    ],
)
def test_keys_come_as_a_whole_from_one_place(
    environment: Mapping[str, str], table: Mapping[str, object], keys: tuple[str, str, str]
) -> None:
    found = settings_of(environment, **table)
    assert (found.access_key, found.secret_key, found.session_token) == keys


def test_secrets_may_lie_in_files_and_are_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{UNTOLD}\n")
    found = settings_of({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY_FILE": str(secret)})
    assert found.secret_key == UNTOLD
    assert UNTOLD not in repr(found)


def test_a_secret_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        settings_of({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY_FILE": str(tmp_path / "none")})
    assert str(wrong.value).startswith(
        "AWS_SECRET_ACCESS_KEY_FILE names a file that cannot be read: No such file or directory"
    )


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"regoin": "x"}, "unknown key backends.cloud.regoin. Did you mean region? Allowed are access_key, "),
        ({"access_key": "a"}, "backends.cloud: access_key and secret_key are needed together."),
        (
            {"endpoint": "http://me:pass/word@host"},
            "backends.cloud.endpoint: it is no URL. In a password, write %2F for /.",
        ),
        ({"max_retries": -1}, "backends.cloud.max_retries: -1 is below 0. Write 0 or more."),
        ({"max_retries": True}, "backends.cloud.max_retries: true is not a number. Write a number."),
        ({"max_retries": 51}, "backends.cloud.max_retries: 51 is above 50. Write 50 or less."),
        ({"max_retries": 1.5}, "backends.cloud.max_retries: 1.5 is not a whole number."),
        ({"force_detach": "maybe"}, "backends.cloud.force_detach: 'maybe' is neither true nor false. "),
        ({"tags": 3}, "backends.cloud.tags: 3 is not a table."),
        ({"tags": {"team": 3}}, "backends.cloud.tags.team: 3 is not a text. Write it in quotes."),
        (
            {"region": 1, "zone": 2},
            "backends.cloud.region: 1 is not a text (and 1 more mistake, see volplug check-config).",
        ),
        (
            {"tags": {"aws:x": "1"}},
            "backends.cloud.tags: tag 'aws:x': keys with aws: or volplug: are reserved.",
        ),
        (
            {"tags": {"volplug:name": "1"}},
            "backends.cloud.tags: tag 'volplug:name': keys with aws: or volplug: are reserved.",
        ),
        ({"tags": {"": "1"}}, "backends.cloud.tags: tag '': a key has 1 to 128 characters."),
        ({"tags": {"k": "v" * 257}}, "backends.cloud.tags: tag 'k': a value has at most 256 characters."),
    ],
)
def test_a_wrong_setting_is_named(table: Mapping[str, object], text: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        settings_of(None, **table)
    assert str(wrong.value).startswith(text)


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(ConfigurationError) as wrong:
        settings_of({"EBS_MAXRETRIES": "many"})
    assert wrong.value.cause == "variable EBS_MAXRETRIES: 'many' is not a whole number"


def test_a_secret_of_a_wrong_type_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as wrong:
        settings_of(None, access_key="a", secret_key=98765430)
    assert wrong.value.cause == "backends.cloud.secret_key: its value is not a text"


def test_a_wrong_setting_is_named_without_the_secrets_of_its_table() -> None:
    with pytest.raises(ConfigurationError) as wrong:
        settings_of(None, secret_key=UNTOLD)
    shown = [wrong.value, wrong.value.__cause__]
    assert UNTOLD not in repr(shown)
    assert wrong.value.__suppress_context__
