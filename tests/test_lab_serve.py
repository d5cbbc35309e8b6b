"""`python -m tests.lab.serve` until it serves; tests/faults has the kills themselves."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.lab import serve
from volplug.errors import StateUnusable
from volplug.steps import WorldStep, unannounced


def test_the_nth_step_of_its_kind_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "kill", lambda *how: killed.append(how))
    monkeypatch.setattr(os, "_exit", lambda *how: killed.append(how))
    made, other = list(WorldStep)[:2]
    kill = serve._kill_at(f"{made}:2")
    for step in (made, other, other):
        kill(step)
    assert killed == []
    for _ in range(2):
        kill(made)
    assert killed == [(os.getpid(), signal.SIGKILL), (137,)]


@pytest.mark.parametrize("fails", [False, True])
def test_steps_are_recorded_and_a_failure_to_serve_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: bool
) -> None:
    step = next(iter(WorldStep))

    def run(settings: Any, on_step: serve.Record) -> None:  # noqa: ANN401  # as serving_settings makes them
        on_step(step)
        if fails:
            raise StateUnusable("no state", "Make one")

    monkeypatch.setattr(serve, "run", run)
    steps = tmp_path / "steps"
    ended = serve.main(["--steps-to", str(steps), "--state-dir", str(tmp_path / "state")])
    assert steps.read_text() == f"{step}\n"
    assert (ended, capsys.readouterr().err) == ((1, "volplug: no state. Make one.\n") if fails else (0, ""))


def test_with_once_it_serves_without_a_kill_from_its_second_start_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(serve, "run", lambda settings, on_step: told.append(on_step))
    for _ in range(2):
        assert serve.main([f"--kill-at={next(iter(WorldStep))}", f"--once={tmp_path / 'started'}"]) == 0
    first, second = told
    assert isinstance(first, serve.KillAt)
    assert second is unannounced
