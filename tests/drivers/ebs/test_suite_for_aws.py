"""The suite of `make test-aws` works, as far as it can without AWS: on a simulated EC2."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import pytest

from tests.aws import test_ebs_on_aws as suite
from tests.drivers.ebs.clouds import IMPATIENT, settings_of
from tests.ec2sim import Ec2Cloud, Slow
from volplug.drivers.ebs import EbsDriver
from volplug.testing.conformance import ClusterConformance, DuplicateConformance
from volplug.testing.conformance.attachment import AttachmentCases
from volplug.testing.conformance.interruption import InterruptionCases

_ROOT = Path(__file__).parents[3]
_SUITE = _ROOT / "tests/aws"

pytestmark = [pytest.mark.loop, pytest.mark.ebs]


@pytest.fixture(scope="module")
def settings(loop_cloud: Ec2Cloud) -> dict[str, str]:
    """The settings of the backend on an instance of that cloud."""
    instance = loop_cloud.add_instance("i-0123456789abcdef9")
    return {key: str(value) for key, value in settings_of(loop_cloud, instance).items()}


@pytest.fixture(autouse=True)
def served(
    loop_cloud: Ec2Cloud, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The suite finds the simulated EC2, which rejects a key late, as AWS does; nothing may be left."""
    monkeypatch.setattr(suite, "_SETTINGS", settings)
    monkeypatch.setattr(suite, "EbsDriver", partial(EbsDriver, limits=IMPATIENT))
    loop_cloud.set_plan(creating=Slow(looks=3), bad_kms_keys=frozenset({suite._NO_KEY}))
    yield settings
    loop_cloud.end_faults()
    assert loop_cloud.volumes() == []


class TestOneOfEachKind(suite.AwsFixtures):
    """A case for each of the suite's fixtures; the driver does not wait as long for what never comes."""

    test_cluster = ClusterConformance.test_clusters_do_not_share_names
    test_begun = InterruptionCases.test_creation_that_was_begun_is_finished
    test_duplicate = DuplicateConformance.test_deletion_of_one_duplicate_leaves_the_other
    test_device = AttachmentCases.test_data_survives_detach_and_restart
    test_key = suite.TestOnThisInstance.test_a_key_that_does_not_exist_is_named


@pytest.mark.parametrize(("asked", "is_left_out"), [("", True), ("1", False)])
def test_it_runs_only_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: str, is_left_out: bool
) -> None:
    monkeypatch.setenv("VOLPLUG_TEST_AWS", asked)
    ignored = runpy.run_path(str(_SUITE / "conftest.py"))["collect_ignore_glob"]
    modules = [path.name for path in _SUITE.glob("test_*.py")]
    assert modules
    assert [any(fnmatch(name, glob) for glob in ignored) for name in modules] == [is_left_out] * len(modules)


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it as make does, but in the network that this test has."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "tests/aws", "-q", "-n0", "-p", "no:cacheprovider", *arguments],
        cwd=_ROOT,
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_it_passes_as_make_runs_it(loop_cloud: Ec2Cloud, served: dict[str, str]) -> None:
    loop_cloud.set_plan(creating=Slow(0.5))
    environment = {"VOLPLUG_TEST_AWS": "1", "VOLPLUG_TEST_AWS_SETTINGS": json.dumps(served)}
    done = _run("-k", "constants or key or begun or cluster", **environment)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


@pytest.mark.slow
def test_without_being_asked_for_nothing_of_it_runs() -> None:
    assert "no tests ran" in _run(VOLPLUG_TEST_AWS="", VOLPLUG_TEST_STRICT="").stdout
