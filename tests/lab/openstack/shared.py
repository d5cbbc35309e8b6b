"""The lab that all tests of a run share; named in tests/conftest.py: ``pytest_plugins``.

    pytestmark = CINDER

    def test_it(openstack_lab: OpenStackLab) -> None: ...

Its tests run in one lane. Several hosts (tests/lab/host.py) reach it after
``hosts.network.plug_in_caller(LAB_NUMBER)``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import pytest

from tests.lab.leftovers import settled_difference, snapshot
from tests.lab.network import Wire
from tests.lab.openstack import software
from tests.lab.programs import find_program

if TYPE_CHECKING:
    from tests.lab.openstack.lab import OpenStackLab

LAB_NUMBER: Final = 2  # of its address; the hosts' begin later
_ADDRESS: Final = Wire.CLOUD.address(LAB_NUMBER)


def prepare() -> None:
    """Make what is kept between runs; that takes a minute."""
    from tests.lab.openstack.template import template  # here, because the SDK takes long to load

    template(("node1", "node2"))


CINDER = [
    pytest.mark.cinder,
    pytest.mark.skipif(bool(software.missing()), reason=software.missing() or "-"),
    pytest.mark.lane("cinder"),
    pytest.mark.prepare(by=prepare),
    # The first such test starts the lab.
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="session")
def openstack_lab() -> Iterator[OpenStackLab]:
    """An OpenStack with the hosts node1 and node2. A test calls `empty` and deletes the servers it made."""
    from tests.lab.openstack.lab import OpenStackLab  # here, because the SDK takes long to load

    before = snapshot()
    _ip("add")
    try:
        with OpenStackLab(address=_ADDRESS) as lab:
            yield lab
    finally:
        _ip("delete")
    assert settled_difference(before) == []


def _ip(action: str) -> None:
    command = [find_program("ip"), "address", action, f"{_ADDRESS}/32", "dev", "lo"]
    subprocess.run(command, check=True, capture_output=True)
