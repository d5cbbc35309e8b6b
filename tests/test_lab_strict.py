"""In a strict run a skip is a failure; an expected failure is not a skip."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SKIPPING = "import pytest\ndef test_runs(): pass\ndef test_skipped(): pytest.skip('no engine')\n"
SKIPPED_MODULE = "import pytest\npytest.skip('no engine', allow_module_level=True)\n"
EXPECTED_FAILURE = "import pytest\n@pytest.mark.xfail\ndef test_fails(): raise AssertionError\n"


@pytest.mark.parametrize(
    ("strict", "text", "code"),
    [
        ("1", SKIPPING, 1),
        ("0", SKIPPING, 0),
        ("", SKIPPING, 0),
        ("1", SKIPPED_MODULE + "def test_never(): pass\n", 1),
        ("1", EXPECTED_FAILURE, 0),
        ("1", "def test_runs(): pass\n", 0),
    ],
)
def test_skips_fail_a_strict_run_only(tmp_path: Path, strict: str, text: str, code: int) -> None:
    (tmp_path / "test_it.py").write_text(text)
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = os.environ | {
        "VOLPLUG_TEST_STRICT": strict,
        "PYTHONPATH": str(REPOSITORY),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.lab.strict", "-p", "no:cacheprovider"]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == code, result.stdout
