import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from volplug.testing.ec2 import Ec2Cloud, LoopHypervisor


@pytest.fixture(autouse=True)
def _no_account_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let neither variables nor files of whoever runs the tests be seen by the SDK."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "EBS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))


@pytest.fixture(scope="module")
def loop_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ec2Cloud]:
    """A cloud whose volumes are loop devices, one for all tests of a module."""
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")
    with Ec2Cloud(LoopHypervisor(str(tmp_path_factory.mktemp("ec2")))) as cloud:
        yield cloud
