"""The command line on two hosts with EBS: it tells who has a volume, and takes it from a dead host."""

import sys
from pathlib import Path

import pytest

from tests.follow.backend import on
from tests.follow.scene import HOSTS, Scene
from tests.lab.operator import Operator
from tests.lab.requirements import MULTIHOST
from tests.pages import ROOT

pytestmark = [*MULTIHOST, HOSTS, on("ebs"), pytest.mark.cli]

_VOLPLUG = """#!/bin/sh
PYTHONPATH={root} VOLPLUG_HOST=unix://{socket} exec {python} -m volplug "$@"
"""


def test_a_volume_is_taken_from_a_dead_host_by_commands(scene: Scene, tmp_path: Path) -> None:
    program = tmp_path / "volplug"
    socket = scene.b.volplug.state_dir / "control.sock"
    program.write_text(_VOLPLUG.format(root=ROOT, python=sys.executable, socket=socket))
    program.chmod(0o755)
    operator = Operator(scene.b.engine.run, {" db": f" {scene.volume}"}, tmp_path)
    operator.types("volplug volume create --size 1GiB db")
    scene.write(scene.a).await_progress()
    holder = scene.cloud.node_id(scene.a)
    assert operator.types("volplug volume ls -o '{{.Name}} {{.State}} {{.Holder}}'").split() == [
        scene.volume,
        "in-use",
        holder,
    ]
    refused = operator.tries("volplug volume takeover db")
    assert (refused.returncode, holder in refused.stderr) == (4, True)
    scene.stop(scene.a)
    shown = operator.does("docs/cli.md", "A volume that another host has").splitlines()
    assert shown[0] == holder
    assert shown[2].split()[:3] == [scene.volume, holder, "dead"]
    assert "take over" in shown[2]
    assert shown[3:] == [scene.volume, scene.volume]
    assert not scene.cloud.holders(scene.volume)
    scene.verify(scene.b)
