"""The command line loads only what the command needs."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

FOR_PEOPLE = ("rich.", "typer.", "click.")


def test_serving_loads_nothing_that_only_interactive_use_needs(tmp_path: Path) -> None:
    assert importlib.util.find_spec("rich") is not None  # installed here, so it could be loaded
    (tmp_path / "file").touch()
    argv = ["-X", "importtime", "-m", "volplug", "serve", "--state-dir", str(tmp_path / "file" / "state")]
    ended = subprocess.run([sys.executable, *argv], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 1
    loaded = re.findall(r"\|\s+([\w.]+)$", ended.stderr, re.MULTILINE)
    assert {"aiohttp.web", "structlog.dev"} <= set(loaded)
    assert [name for name in loaded if name.startswith(FOR_PEOPLE)] == []
