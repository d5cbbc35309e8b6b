"""Secrets appear neither in the log nor in the text of an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from volplug.__main__ import serving_settings
from volplug.api.access import make_token
from volplug.drivers.base import BackendConfig
from volplug.drivers.ebs.settings import load_settings
from volplug.errors import CommandFailed, ConfigurationError, ErrorContext, VolplugError
from volplug.masking import MASK, keep_secret, mask_event, masked

SECRET = "hunter2/Kx+0"  # noqa: S105  # not a real key
LONGER = f"{SECRET}-and-more"


@pytest.fixture(autouse=True)
def _known() -> None:
    """Secrets are kept for the whole process, also for later tests, so no other text contains these."""
    keep_secret(SECRET)
    keep_secret(LONGER)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nothing to hide", "nothing to hide"),
        (f"key {SECRET} is wrong", "key *** is wrong"),
        (f"x-amz-security-token:{LONGER}\nhost:x", "x-amz-security-token:***\nhost:x"),
        (f"{SECRET}{SECRET}", "******"),
        ('connect to "http://me:pass@word@host:1/"', 'connect to "http://me:***@host:1/"'),
        ("https://me@corp:p/a?s#s://@host/x", "https://me@corp:***@host/x"),
        ("http://host/,https://me:pass@host", "http://host/,https://me:***@host"),
        ("https://:pw@host", "https://:***@host"),
        (
            "https://ec2.eu-west-1.amazonaws.com:443/ of me@host",
            "https://ec2.eu-west-1.amazonaws.com:443/ of me@host",
        ),
        ("http://[::1]:80/", "http://[::1]:80/"),
        ("12:30 me@host", "12:30 me@host"),
    ],
)
def test_what_is_masked_and_what_is_not(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_a_secret_that_is_part_of_an_ordinary_word_is_not_masked() -> None:
    for short in ("", "a", "12345"):
        keep_secret(short)
    assert masked("a volume of 12345 bytes") == "a volume of 12345 bytes"


def test_of_rotating_secrets_the_latest_are_kept() -> None:
    keep_secret("token-first", is_temporary=True)
    for number in range(100):
        keep_secret(f"token-{number:05}", is_temporary=True)
    assert masked("token-00099 token-00050 token-first") == "*** *** token-first"
    assert masked(SECRET) == "***", "a permanent secret is never dropped"


def test_an_error_never_contains_secrets_however_it_is_shown_or_cut() -> None:
    error = VolplugError("x" * 290 + LONGER, f"Replace {SECRET}")
    assert error.cause == "x" * 290 + "***"
    for shown in (str(error), repr(error), str(error.in_context(ErrorContext("mount", "db")))):
        assert "hunter2" not in shown
    assert str(CommandFailed(("mkfs",), 1, f"no {SECRET}")) == "mkfs ended with exit code 1: no ***."


def test_an_event_never_contains_secrets_and_other_values_are_unchanged() -> None:
    path = Path("/x")
    event = {"event": f"a {SECRET}", "error": KeyError(SECRET), "list": [SECRET], "path": path, "count": 1}
    assert mask_event(None, "info", event) == {
        "event": "a ***",
        "error": "'***'",
        "list": "['***']",
        "path": path,
        "count": 1,
    }


def test_the_secrets_of_a_backend_are_known_once_its_settings_are_read(tmp_path: Path) -> None:
    in_file = tmp_path / "secret"
    in_file.write_text("secret-in-a-file\n")
    variables = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY_FILE": str(in_file)}
    variables["AWS_SESSION_TOKEN"] = "token-with-an-end\r"  # noqa: S105  # of a test
    for table in (
        {},
        {"access_key": "AKIA2", "secret_key": "secret-of-table", "session_token": "token-of-table"},
    ):
        load_settings(BackendConfig("ebs", "host1", "", tmp_path, table), variables)
    shown = masked("secret-in-a-file token-with-an-end secret-of-table token-of-table AKIA1 AKIA2")
    assert shown == "*** *** *** *** AKIA1 AKIA2"


_LOGS = f"""
import logging, structlog
from volplug.log import configure_logging
from volplug.masking import keep_secret
configure_logging("info")
keep_secret({SECRET!r})
log = structlog.get_logger()
log.info("quoted", message={SECRET!r})
try:
    raise ValueError("http://me:{SECRET}@host/")
except ValueError as error:
    log.exception("failed", error=error)
    logging.getLogger("urllib3").warning("retrying %s", {SECRET!r}, exc_info=True)
"""


def test_the_log_contains_secrets_neither_in_events_nor_in_tracebacks_nor_in_records_of_libraries() -> None:
    shown = subprocess.run([sys.executable, "-c", _LOGS], capture_output=True, text=True, check=True).stdout
    assert "quoted message=***" in shown
    assert shown.count("ValueError: http://me:***@host/") == 2
    assert 'level=warning event="retrying ***"' in shown
    assert "hunter2" not in shown.replace("raise ValueError(", "")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([f"--secret-access-key={SECRET}"], "unknown flag --secret-access-key"),
        (["--secret-access-key", SECRET], "unknown flag --secret-access-key"),
        ([f"-s{SECRET}"], "unknown flag -s"),
        ([SECRET], "a value without a flag is given"),
        # Several of our flags begin like that.
        ([f"--s={SECRET}"], "unknown flag --s"),
    ],
)
def test_the_value_of_an_unknown_flag_is_not_repeated(arguments: list[str], shown: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        serving_settings(arguments)
    assert refused.value.cause == shown


@pytest.mark.parametrize(
    ("flag", "code", "shown"),
    [
        ([f"--secret-access-key={SECRET}"], 1, "unknown flag --secret-access-key"),
        (["--secret-access-key", SECRET], 1, "unknown flag --secret-access-key"),
        ([SECRET], 2, "unknown command"),
    ],
)
def test_the_value_of_an_unknown_flag_before_the_command_is_not_repeated(
    flag: list[str], code: int, shown: str
) -> None:
    argv = [sys.executable, "-m", "volplug", *flag, "serve"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert shown in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr


def test_a_token_of_the_control_api_is_masked_wherever_it_is_quoted() -> None:
    for _ in range(20):
        token, line = make_token("admin", "deployer")
        assert masked(f"Invalid header token: b'Authorization : Bearer {token}\\r' ^") == (
            f"Invalid header token: b'Authorization : Bearer {MASK}\\r' ^"
        )
        assert masked(line) == line
    assert masked("volplug_data-of-the-web-shop") == "volplug_data-of-the-web-shop"
