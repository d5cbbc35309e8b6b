"""The demo fails where it must, and cleans up after every failure."""

import os
import sys
from pathlib import Path

import pytest

from tests.lab import demo
from tests.lab.demo_steps import STEPS, Stage, Step, StepError, remove, survive_kill, write
from tests.lab.engine import Engine
from tests.lab.leftovers import settled_difference, snapshot
from tests.lab.requirements import ENGINE

pytestmark = ENGINE

REPOSITORY = Path(__file__).parents[1]


def kill_and_fail(stage: Stage) -> None:
    stage.volplug.kill()
    raise StepError("the check does not hold")


@pytest.mark.parametrize("last", [write, survive_kill, remove], ids=lambda step: step.__name__)
def test_a_failing_step_ends_the_demo_and_leaves_nothing_over(
    last: object, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot()
    done = [step.play for step in STEPS].index(last) + 1  # type: ignore[arg-type]
    assert demo.main([*STEPS[:done], Step("It fails", kill_and_fail), *STEPS[done:]]) == 1
    shown = capsys.readouterr().out
    assert f"{done + 1}. It fails" in shown
    assert "FAILED: the check does not hold" in shown
    assert "ok: nothing: mounts, loop devices" in shown
    assert f"{done + 2}. " not in shown
    assert settled_difference(before) == []


def test_without_an_engine_on_the_machine_the_host_demo_fails_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("ENGINE", "host")
    monkeypatch.setattr("tests.lab.hostengine.SOCKET", tmp_path / "docker.sock")
    assert demo.main() == 2
    assert "FAILED: ENGINE=host, but no Docker Engine runs on this machine" in capsys.readouterr().out


def test_the_host_demo_works_and_leaves_the_engine_as_it_was() -> None:
    """The machine is a lab: inside its namespaces, its private engine is the machine's own."""
    with Engine() as engine:
        engine.import_busybox("kept:local")
        engine.docker("run", "-d", "--name=kept", "kept:local", "sleep", "1000")
        log = engine.directory / "demo.log"
        environment = {"ENGINE": "host", "PYTHONPATH": str(REPOSITORY)}
        code = engine.spawn([sys.executable, "-m", "tests.lab.demo"], environment, log=log).wait(100)
        assert (code, log.read_text().count("FAILED")) == (0, 0), log.read_text()
        assert engine.docker("ps", "--all", "--format={{.Names}}").stdout == "kept\n"
        assert engine.docker("images", "--format={{.Repository}}").stdout == "kept\n"
        assert os.listdir(engine.path("/run/docker/plugins")) == []
