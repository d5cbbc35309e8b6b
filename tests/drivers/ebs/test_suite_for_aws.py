"""The suite of `make test-aws` works, as far as it can without AWS: on a served EC2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.drivers.ebs.clouds import settings_of
from volplug.testing.ec2 import Ec2Cloud, Slow

_ROOT = Path(__file__).parents[3]

pytestmark = [pytest.mark.loop, pytest.mark.ebs]


_SOME_OF_EACH_KIND = "constants or key or begun or cluster"


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "tests/aws", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=_ROOT,
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
    )


def test_the_suite_for_aws_passes_on_a_served_ec2_and_leaves_nothing(loop_cloud: Ec2Cloud) -> None:
    instance = loop_cloud.add_instance("i-0123456789abcdef9")
    table = {key: str(value) for key, value in settings_of(loop_cloud, instance).items()}
    # As AWS does: it takes a while, and finds out about a key late.
    loop_cloud.set_plan(creating=Slow(0.5), bad_kms_keys=frozenset({"alias/volplug-test-no-such-key"}))
    settings = {"VOLPLUG_TEST_AWS": "1", "VOLPLUG_TEST_AWS_SETTINGS": json.dumps(table)}
    done = _run("-k", _SOME_OF_EACH_KIND, **settings)
    loop_cloud.end_faults()
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
    assert loop_cloud.volumes() == []


def test_without_being_asked_for_nothing_of_it_runs() -> None:
    assert "no tests ran" in _run(VOLPLUG_TEST_AWS="", VOLPLUG_TEST_STRICT="").stdout
