"""`volplug check-config` tells all mistakes of flags, environment and file in one go."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.lab.programs import clean_environment


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
        "wrong: variable REXRAY_PREEMPT: 'yes' is not allowed. Write true or false",
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
            "wrong: backend ebs: volumes on EBS belong to a cluster, and none is",
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
            "Set VOLPLUG_BACKEND=ebs, or VOLPLUG_BACKEND=loop for this host's disk",
        ),
    ],
)
def test_the_environment_is_checked(variables: Mapping[str, str], code: int, told: str) -> None:
    ended, lines = checked("check-config", **variables)
    assert ended == code
    assert [line for line in lines if line.startswith(told)] != []


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
    ]
