"""Settings: the table, OpenStack's variables and REX-Ray's; and what Keystone is given."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from volplug.drivers.base import BackendConfig
from volplug.drivers.cinder.settings import CinderSettings, load_settings
from volplug.errors import ConfigurationError
from volplug.masking import masked

UNTOLD = "verysecret"
OS = {
    "OS_AUTH_URL": "http://k:5000",
    "OS_USERNAME": "demo",
    "OS_PASSWORD": UNTOLD,
    "OS_PROJECT_NAME": "web",
}
REXRAY = {
    "CINDER_AUTHURL": "http://r:5000/v3",
    "CINDER_USERNAME": "rex",
    "CINDER_PASSWORD": UNTOLD,
    "CINDER_TENANTNAME": "ray",
    "CINDER_DOMAINNAME": "d",
}
APPLICATION = {
    "OS_AUTH_URL": "http://k:5000/v3",
    "OS_APPLICATION_CREDENTIAL_ID": "42",
    "OS_APPLICATION_CREDENTIAL_SECRET": UNTOLD,
}


def settings_of(environment: Mapping[str, str] | None = None, **table: object) -> CinderSettings:
    return load_settings(BackendConfig("cloud", "host1", "", Path("/state"), table), environment or {})


@pytest.mark.parametrize(
    ("environment", "table", "setting", "value"),
    [
        (OS, {}, "auth_url", "http://k:5000"),
        (REXRAY, {}, "auth_url", "http://r:5000/v3"),
        ({**OS, **REXRAY}, {}, "username", "demo"),
        ({**OS, "OS_CLOUD": "c"}, {}, "cloud", "c"),
        ({**OS, "OS_CLOUD": "c"}, {}, "username", ""),
        ({**OS, "OS_CLOUD": ""}, {}, "cloud", ""),
        (OS, {"cloud": "mine"}, "cloud", "mine"),
        (OS, {"cloud": "mine"}, "password", ""),
        ({**OS, "OS_REGION_NAME": "one", "CINDER_REGIONNAME": "two"}, {}, "region_name", "one"),
        ({**REXRAY, "CINDER_REGIONNAME": "two"}, {}, "region_name", "two"),
        ({**REXRAY, "CINDER_AVAILABILITYZONENAME": "z"}, {}, "availability_zone", "z"),
        ({**OS, "OS_CLIENT_CONFIG_FILE": "/c.yaml"}, {}, "clouds_file", "/c.yaml"),
        ({**OS, "OS_INTERFACE": "internalURL"}, {}, "interface", "internal"),
        ({**OS, "OS_CACERT": "/ca.pem"}, {}, "cacert", "/ca.pem"),
        (OS, {"metadata": {"team": "web"}}, "metadata", {"team": "web"}),
        (OS, {}, "max_retries", 8),
    ],
)
def test_the_table_wins_over_the_environment_and_credentials_come_from_one_source(
    environment: Mapping[str, str], table: Mapping[str, object], setting: str, value: object
) -> None:
    assert getattr(settings_of(environment, **table), setting) == value


@pytest.mark.parametrize(
    ("environment", "auth"),
    [
        (
            OS,
            {
                "auth_url": "http://k:5000",
                "password": UNTOLD,
                "project_domain_name": "Default",
                "project_name": "web",
                "user_domain_name": "Default",
                "username": "demo",
            },
        ),
        (
            REXRAY,
            {
                "auth_url": "http://r:5000/v3",
                "password": UNTOLD,
                "project_domain_name": "d",
                "project_name": "ray",
                "user_domain_name": "d",
                "username": "rex",
            },
        ),
        (
            {**APPLICATION, "OS_PASSWORD": "other-secret", "OS_PROJECT_NAME": "web"},
            {
                "application_credential_id": "42",
                "application_credential_secret": UNTOLD,
                "auth_url": "http://k:5000/v3",
            },
        ),
        ({"OS_CLOUD": "c"}, {}),
    ],
)
def test_keystone_is_given_what_it_needs_and_no_more(
    environment: Mapping[str, str], auth: Mapping[str, str]
) -> None:
    assert settings_of(environment).auth() == auth


@pytest.mark.parametrize(
    ("environment", "table", "text"),
    [
        ({}, {}, "auth_url .* or cloud .* is needed"),
        ({"OS_AUTH_URL": "http://k"}, {}, "an application credential, or a user and its password"),
        ({**OS, "OS_PROJECT_NAME": ""}, {}, "project_id or project_name"),
        ({**APPLICATION, "OS_APPLICATION_CREDENTIAL_SECRET": ""}, {}, "application_credential_secret"),
        (
            {**APPLICATION, "OS_APPLICATION_CREDENTIAL_ID": "", "OS_APPLICATION_CREDENTIAL_NAME": "n"},
            {},
            "needs the user",
        ),
        (OS, {"passwort": "x"}, "backends.cloud.passwort"),
        (OS, {"interface": "private"}, "backends.cloud.interface"),
        ({**OS, "OS_INTERFACE": "private"}, {}, "variable OS_INTERFACE"),
        ({**OS, "OS_INTERFACE": "private"}, {"interface": "secret"}, "backends.cloud.interface"),
        (OS, {"metadata": {"a/b": "x"}}, "letters, digits"),
        (OS, {"metadata": {"volplug:x": "x"}}, "reserved"),
        (OS, {"metadata": {"a": "x" * 256}}, "at most 255"),
    ],
)
def test_wrong_settings_are_named_without_secrets(
    environment: Mapping[str, str], table: Mapping[str, object], text: str
) -> None:
    with pytest.raises(ConfigurationError, match=text) as refused:
        settings_of(environment, **table)
    assert UNTOLD not in str(refused.value)


def test_secrets_are_read_from_files_and_masked(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-a-file\n")
    settings = settings_of(
        {
            **APPLICATION,
            "OS_APPLICATION_CREDENTIAL_SECRET": "",
            "OS_APPLICATION_CREDENTIAL_SECRET_FILE": str(file),
        }
    )
    assert settings.application_credential_secret == "from-a-file"  # noqa: S105  # of the test
    assert masked("it is from-a-file") == "it is ***"
    assert "from-a-file" not in repr(settings)


def test_what_rexray_has_and_volplug_has_not_is_warned_of() -> None:
    with capture_logs() as logs:
        settings_of(
            {**REXRAY, "CINDER_ATTACHTIMEOUT": "1m", "CINDER_TRUSTID": "t", "CINDER_CREATETIMEOUT": ""}
        )
    assert [each["variable"] for each in logs] == ["CINDER_ATTACHTIMEOUT", "CINDER_TRUSTID"]
