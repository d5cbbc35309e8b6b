"""The command line: flags mean the same before and after the command, and explain themselves."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from volplug.__main__ import main, serving_settings, split_command
from volplug.config import TABLES, Settings, default_text

FOR_PEOPLE = ("rich.", "typer.", "click.")
OF_CLUSTER = ("volplug.cluster", "volplug.config.cluster", "cryptography")
OF_CONTROL_API = ("volplug.api.routes", "volplug.api.schemas", "volplug.handlers.control.routes")


def test_serving_loads_nothing_that_only_interactive_use_needs(tmp_path: Path) -> None:
    assert importlib.util.find_spec("rich") is not None  # installed here, so it could be loaded
    (tmp_path / "file").touch()
    argv = ["-X", "importtime", "-m", "volplug", "serve", "--state-dir", str(tmp_path / "file" / "state")]
    ended = subprocess.run([sys.executable, *argv], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 1
    loaded = re.findall(r"\|\s+([\w.]+)$", ended.stderr, re.MULTILINE)
    assert {"aiohttp.web", "structlog.dev"} <= set(loaded)
    assert [name for name in loaded if name.startswith((*FOR_PEOPLE, *OF_CONTROL_API, *OF_CLUSTER))] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--node-id", "serve", "--linger-s=3"],
        ["--node-id", "serve", "--linger-s=3", "serve"],
        ["--linger-s", "3", "serve", "--node-id", "serve"],
    ],
)
def test_flags_mean_the_same_before_and_after_the_command(arguments: list[str]) -> None:
    command, flags = split_command(arguments)
    settings = serving_settings(flags)
    assert (command, settings.node_id, settings.linger_s) == ("serve", "serve", 3)


@pytest.mark.parametrize(
    "arguments", [["serve", "--help"], ["-h", "check-config"], ["doctor", "-h"], ["make-token", "-h"]]
)
def test_help_has_the_meaning_and_the_default_of_every_flag(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, about in Settings.model_fields.items():
        if name not in TABLES:
            flag, variable = f"--{name.replace('_', '-')}", f"VOLPLUG_{name.upper()}"
            assert f"{flag} VALUE {about.description} (default: {default_text(name)}; {variable})" in text


def test_a_flag_without_its_value_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", "--linger-s"]) == 2
    told = "argument --linger-s: expected one argument. See volplug serve --help."
    assert capsys.readouterr().err == f"volplug: {told}\n"


def test_without_their_packages_commands_for_people_say_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    assert main(["volume", "ls"]) == main([]) == 2
    told = "only serve, check-config, doctor, make-token are installed here."
    assert capsys.readouterr().err.startswith(f"volplug: {told}")
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "check-config          tell all mistakes" in capsys.readouterr().out
