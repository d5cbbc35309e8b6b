import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_account_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let neither variables nor files of whoever runs the tests be seen by the SDK."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "EBS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
