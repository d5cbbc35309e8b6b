"""`volplug check-config`, the doubt of a default backend, and what the log warns of at the start."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.lab.programs import clean_environment
from volplug.config import Settings, load_settings
from volplug.config.checks import (
    DRIVER_VARIABLES,
    doubt_of,
    warn_of_scope,
    warn_of_unusable_backends,
    warn_of_variables,
)
from volplug.drivers.base import Driver
from volplug.drivers.loop.driver import LoopDriver
from volplug.errors import BackendUnavailable, ConfigurationError
from volplug.testing.memory import MemoryCloud, MemoryDriver


def only_with(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Set variables, and remove all of this machine that are read here."""
    clouds = [prefix for prefixes, *_ in DRIVER_VARIABLES for prefix in prefixes]
    for name in os.environ:
        if name.startswith(("VOLPLUG_", "REXRAY_", *clouds)):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


# The command


def checked(*arguments: str, **variables: str) -> tuple[int, list[str]]:
    """Run the command, without variables of this machine that concern clouds."""
    environment = {
        name: value
        for name, value in clean_environment().items()
        if not name.startswith(("REXRAY_", "EBS_", "AWS_", "OS_"))
    }
    argv = [sys.executable, "-m", "volplug", *arguments]
    ended = subprocess.run(
        argv, env=environment | variables, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.stderr == ""
    return ended.returncode, ended.stdout.splitlines()


_MISTAKEN = """
backnd = "disks"
linger_s = "soon"
[backends.disks]
driver = "loop"
dir = "/x"
[backends.cloud]
driver = "ebs"
regoin = "eu-west-1"
force_detach = "maybe"
[backends.other]
driver = "lop"
[profiles.db]
sise = "5GiB"
size = "much"
profile = "other"
"""


def test_all_mistakes_are_told_at_once_with_source_nearest_match_and_what_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(_MISTAKEN)
    code, lines = checked(
        "--config",
        str(file),
        "check-config",
        "--colour=red",
        "--default-fs",
        "ntfs",
        VOLPLUG_ANSWER_S="0",
        VOLPLUG_LOGLEVEL="debug",
        REXRAY_PREEMPT="yes",
    )
    assert code == 1
    whole = "\n".join(lines).replace(f" in {file}", "")
    # Nothing is cut: a terminal has room.
    assert "regoin. Did you mean region? Allowed are access_key, availability_zone, driver, " in whole
    assert "session_token, tags\n" in whole
    starts = [
        "wrong: unknown flag --colour. Did you mean --cluster? Allowed are --answer-s, ",
        "wrong: flag --default-fs: 'ntfs' is not allowed. Write one of btrfs, ext4, xfs",
        "wrong: linger_s: 'soon' is not a number. Write a number",
        "wrong: variable VOLPLUG_ANSWER_S: '0' is not above 0. Write a number above 0",
        "wrong: variable REXRAY_PREEMPT: 'yes' is not allowed. Write true, false, 1, 0",
        "wrong: unknown key backnd. Did you mean backend? Allowed are answer_s, ",
        "wrong: unknown key backends.disks.dir. Allowed are directory, driver, overcommit",
        "wrong: unknown key backends.cloud.regoin. Did you mean region? Allowed are ",
        "wrong: backends.cloud.force_detach: 'maybe' is neither true nor false. Write true or false",
        "wrong: backends.other.driver: driver 'lop' is not installed. Did you mean loop? ",
        "wrong: backends: none of cloud, disks, other is the default. ",
        "wrong: profiles.db.size: size 'much' cannot be read. ",
        "wrong: profiles.db.profile: profiles cannot set 'profile'",
        "warning: unknown variable VOLPLUG_LOGLEVEL is ignored, did you mean VOLPLUG_LOG_LEVEL?",
    ]
    assert len(whole.splitlines()) == len(starts)
    assert [start for start in starts if f"\n{start}" not in f"\n{whole}"] == []


def test_a_right_configuration_is_told_with_what_is_in_force(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        'backend = "b"\n[backends.a]\ndriver = "loop"\n[backends.b]\ndriver = "loop"\n[profiles.p]\n'
    )
    assert checked("check-config", f"--config={file}", f"--state-dir={tmp_path}/none") == (
        0,
        [
            f"configuration file: {file}",
            "backend a: driver loop",
            "backend b: driver loop, the default",
            "profile p",
            "no mistakes found",
        ],
    )
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    ("variables", "code", "told"),
    [
        ({"VOLPLUG_BACKEND": "ebs", "VOLPLUG_CLUSTER": "prod"}, 0, "backend ebs: driver ebs, the default"),
        (
            {"VOLPLUG_BACKEND": "ebs"},
            1,
            "wrong: backend ebs: volumes in a cloud belong to a cluster, and none is",
        ),
        (
            {"VOLPLUG_BACKEND": "ebz"},
            1,
            "wrong: variable VOLPLUG_BACKEND: driver 'ebz' is not installed. Did",
        ),
        (
            {"VOLPLUG_BACKEND": "ebs", "EBS_MAXRETRIES": "x"},
            1,
            "wrong: variable EBS_MAXRETRIES: 'x' is not a whole number. Write a whole number",
        ),
        (
            {"EBS_ACCESSKEY": "x"},
            0,
            "warning: no backend is chosen, but variables of ebs are set (EBS_ACCESSKEY). "
            "Set VOLPLUG_BACKEND=ebs, or VOLPLUG_BACKEND=loop for this host's disk. Until then Create",
        ),
    ],
)
def test_the_environment_is_checked(variables: Mapping[str, str], code: int, told: str) -> None:
    ended, lines = checked("check-config", **variables)
    assert ended == code
    assert [line for line in lines if line.startswith(told)] != []


_URL = "http://me:CANARY-and-so-many-more-letters-that-it-is-cut@host"
_SECRETS = f"""
cluster = ["CANARY"]
socket = {{a = "CANARY"}}
[backends.cloud]
driver = "ebs"
access_key = {{key = "CANARY"}}
secret_key = ["CANARY"]
session_token = 2026112900
secret_kye = "CANARY"
region = ["CANARY"]
endpoint = "http://me:CANARY/@host"
tags = "{_URL}"
"""


def test_no_mistake_shows_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(_SECRETS)
    code, lines = checked(
        f"--config={file}",
        "check-config",
        "--secret-key=CANARY",
        f"--linger-s={_URL}",
        VOLPLUG_SECRET_KEY="CANARY",  # noqa: S106  # of a test
        VOLPLUG_ANSWER_S=_URL,
        EBS_MAXRETRIES=_URL,
    )
    whole = "\n".join(lines)
    assert (code, len(lines)) == (1, 14), whole
    assert "CANARY" not in whole
    assert "2026112900" not in whole


_PROFILES = """
backend = "disks"
[backends.disks]
driver = "loop"
[backends.cloud]
driver = "ebs"
[profiles.right]
volumeType = "io2"
iops = 3000
encrypted = true
size = 5
[profiles.wrong]
iosp = 3000
mount-opts = "ro"
"""


def test_a_profile_may_have_the_options_of_every_backend_and_no_others(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(_PROFILES)
    code, lines = checked("check-config", f"--config={file}", "--cluster=prod")
    assert code == 1
    assert [line.split(". ")[0] for line in lines] == [
        f"wrong: profiles.wrong.iosp in {file}: unknown option 'iosp'",
        f"wrong: profiles.wrong.mount-opts in {file}: option 'mount-opts' has 'ro', which is not allowed",
        "warning: backend disks is local to this host, so that Docker takes the volumes of all backends for"
        " local ones; Swarm needs a plugin for those that hosts share, and another for the rest",
    ]


# A default that was not chosen

_LOOP = "VOLPLUG_BACKEND=loop"


@pytest.mark.parametrize(
    ("variables", "cause", "remedy", "is_refused"),
    [
        (
            ("EBS_ACCESSKEY", "EBS_REGION", "EBS_SECRETKEY", "EBS_X"),
            "variables of ebs are set (EBS_ACCESSKEY, EBS_REGION, EBS_SECRETKEY, ...)",
            f"Set VOLPLUG_BACKEND=ebs, or {_LOOP} for this host's disk",
            True,
        ),
        (
            ("CINDER_AUTHURL",),
            "variables of cinder are set (CINDER_AUTHURL)",
            "Set VOLPLUG_BACKEND=cinder",
            True,
        ),
        (("AWS_PROFILE",), "(AWS_PROFILE)", "Set VOLPLUG_BACKEND=ebs", False),
        (("AWS_PROFILE", "EBS_REGION"), "(EBS_REGION)", "Set VOLPLUG_BACKEND=ebs", True),
        (("OS_CLOUD",), "(OS_CLOUD)", "Set VOLPLUG_BACKEND=cinder", False),
        (("ZFS_POOL",), "variables of zfs are set (ZFS_POOL)", "Set VOLPLUG_BACKEND=zfs", True),
    ],
)
def test_a_default_is_doubted(
    variables: tuple[str, ...],
    cause: str,
    remedy: str,
    is_refused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only_with(dict.fromkeys(variables, "x"), monkeypatch)
    doubt = doubt_of(Settings())
    assert doubt is not None
    assert doubt[0].cause.startswith("no backend is chosen, but ")
    assert doubt[0].cause.endswith(cause)
    assert doubt[0].remedy.startswith(remedy)
    assert doubt[1] is is_refused


@pytest.mark.parametrize(
    "settings",
    [{"backend": "loop"}, {"backend": "ebs"}, {"backends": {"disks": {"driver": "loop"}}}],
)
def test_a_backend_that_was_chosen_is_not_doubted(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EBS_ACCESSKEY", "x")
    assert doubt_of(Settings.model_validate(settings)) is None


# The log at the start


class _Unusable(MemoryDriver):
    """A driver whose backend cannot be used."""

    def __init__(self, fault: Exception | None = None, unmet: Sequence[ConfigurationError] = ()) -> None:
        super().__init__(MemoryCloud(), "node-a")
        self._fault, self._unmet = fault, unmet

    def unmet_requirements(self) -> Sequence[ConfigurationError]:
        return self._unmet

    async def health(self) -> None:
        assert not self._unmet, "asked although something is missing"
        if self._fault is None:
            await asyncio.Event().wait()
        else:
            raise self._fault


async def test_each_backend_that_cannot_be_used_is_warned_of_and_no_other() -> None:
    cloud = MemoryCloud()
    missing = (ConfigurationError("no cluster", "Name it"), ConfigurationError("no SDK"))
    with capture_logs() as logged:
        await warn_of_unusable_backends(
            {
                "right": MemoryDriver(cloud, "node-a"),
                "unset": _Unusable(unmet=missing),
                "away": _Unusable(BackendUnavailable("it does not answer")),
                "hung": _Unusable(),
                "bug": _Unusable(ZeroDivisionError()),
            },
            timeout_s=0.05,
        )
    assert cloud.calls == ["health"]
    shown = {(entry["backend"], entry["event"], entry.get("error", "")) for entry in logged}
    assert shown == {
        ("unset", "backend cannot be used", "no cluster. Name it."),
        ("unset", "backend cannot be used", "no SDK."),
        ("away", "backend cannot be used", "it does not answer."),
        ("hung", "backend does not answer", ""),
        ("bug", "backend cannot be checked", ""),
    }


@pytest.mark.parametrize(
    ("of_which", "is_warned"), [("local", False), ("shared", False), ("local shared", True)]
)
def test_a_local_backend_beside_one_that_hosts_share_is_warned_of(
    of_which: str, is_warned: bool, tmp_path: Path
) -> None:
    known: Mapping[str, Driver] = {
        "local": LoopDriver("local", "node-a", tmp_path),
        "shared": MemoryDriver(MemoryCloud()),
    }
    with capture_logs() as logged:
        warn_of_scope({name: known[name] for name in of_which.split()})
    assert [(entry["event"], entry["log_level"]) for entry in logged] == [
        ("scope of all volumes is local", "warning")
    ] * is_warned
    assert all(entry["reason"].startswith("backend local is local to this host") for entry in logged)


_DOUBT = "loop is the default backend, which was not chosen"
_PREEMPT = "REXRAY_PREEMPT takes volumes only from hosts that are proven dead"
_IN_FORCE = "variables of REX-Ray are in force"


@pytest.mark.parametrize(
    ("variables", "events"),
    [
        ({}, []),
        ({"VOLPLUG_LOGLEVEL": "debug"}, ["unknown variable ignored"]),
        ({"REXRAY_LOGLEVEL": "info"}, [_IN_FORCE]),
        ({"REXRAY_PREEMPT": "true"}, [_IN_FORCE, _PREEMPT]),
        ({"REXRAY_PREEMPT": "false"}, [_IN_FORCE]),
        ({"REXRAY_PREEMPT": "true", "VOLPLUG_TAKEOVER": "proof"}, []),
        ({"AWS_PROFILE": "me"}, [_DOUBT]),
        ({"EBS_ACCESSKEY": "x"}, [_DOUBT]),
        ({"EBS_ACCESSKEY": "x", "VOLPLUG_BACKEND": "loop"}, []),
    ],
)
def test_variables_that_may_mean_something_else_are_warned_of(
    variables: dict[str, str], events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    only_with(variables, monkeypatch)
    with capture_logs() as logged:
        warn_of_variables(load_settings())
    assert [entry["event"] for entry in logged] == events
    is_warning = {entry["event"]: entry["log_level"] == "warning" for entry in logged}
    assert is_warning == {event: event != _IN_FORCE for event in events}
    assert [entry["did_you_mean"] for entry in logged if "did_you_mean" in entry] == (
        ["VOLPLUG_LOG_LEVEL"] if "VOLPLUG_LOGLEVEL" in variables else []
    )
