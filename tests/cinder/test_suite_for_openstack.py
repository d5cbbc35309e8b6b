"""The suite of `make test-openstack` works, as far as that shows on the lab's OpenStack."""

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

from tests.cinder.sites import LIMITS
from tests.lab.openstack.configs import APPLICATION_SECRET, REGION
from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.shared import CINDER
from tests.openstack import test_cinder_on_openstack as suite
from volplug.drivers.cinder import CinderDriver
from volplug.testing.conformance import ClusterConformance, DescriptionConformance, DuplicateConformance
from volplug.testing.conformance.attachment import AttachmentCases
from volplug.testing.conformance.interruption import InterruptionCases

_ROOT = Path(__file__).parents[2]
_SUITE = _ROOT / "tests/openstack"

pytestmark = CINDER


@pytest.fixture(scope="module")
def settings(lab: OpenStackLab) -> dict[str, object]:
    """The settings of the backend on a server, whose id is in its firmware; its project has a usual quota."""
    lab.storage.set_quota(volumes=10)
    server = lab.servers.create("suite", node="node1")
    return {
        "auth_url": lab.auth_url,
        "region_name": REGION,
        "username": "demo",
        "application_credential_name": "volplug",
        "application_credential_secret": APPLICATION_SECRET,
        "sys_root": server.sys_root,
        "dev_root": server.dev_root,
    }


@pytest.fixture(autouse=True)
def served(
    lab: OpenStackLab, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, object]]:
    """The suite finds the lab, and polls often; nothing may be left."""
    monkeypatch.setattr(suite, "_SETTINGS", settings)
    monkeypatch.setattr(suite, "CinderDriver", partial(CinderDriver, limits=LIMITS))
    yield settings
    assert lab.storage.volumes() == []


class TestOneOfEachKind(suite.OpenStackFixtures):
    """A case for each of the suite's fixtures."""

    test_cluster = ClusterConformance.test_clusters_do_not_share_names
    test_begun = InterruptionCases.test_creation_that_was_begun_is_finished
    test_duplicate = DuplicateConformance.test_deletion_of_one_duplicate_leaves_the_other
    test_description = DescriptionConformance.test_spoilt_description_does_not_hide_the_device
    test_device = AttachmentCases.test_data_survives_detach_and_restart
    test_type = suite.TestOnThisServer.test_a_type_that_does_not_exist_is_named


@pytest.mark.parametrize(("asked", "is_left_out"), [("", True), ("1", False)])
def test_it_runs_only_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: str, is_left_out: bool
) -> None:
    monkeypatch.setenv("VOLPLUG_TEST_OPENSTACK", asked)
    ignored = runpy.run_path(str(_SUITE / "conftest.py"))["collect_ignore_glob"]
    modules = [path.name for path in _SUITE.glob("test_*.py")]
    assert modules
    assert [any(fnmatch(name, glob) for glob in ignored) for name in modules] == [is_left_out] * len(modules)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_passes_as_make_runs_it(served: dict[str, object]) -> None:
    """All of it, but in the network that this test has."""
    environment = {"VOLPLUG_TEST_OPENSTACK": "1", "VOLPLUG_TEST_OPENSTACK_SETTINGS": json.dumps(served)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/openstack", "-q", "-n0", "-p", "no:cacheprovider"],
        cwd=_ROOT,
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
