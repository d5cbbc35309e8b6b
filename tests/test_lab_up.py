"""`python -m tests.lab up` as an operator uses it."""

import signal
import subprocess
import sys
from collections.abc import Iterator

from tests.lab.leftovers import settled_difference, snapshot
from tests.lab.requirements import MULTIHOST

pytestmark = MULTIHOST

_TIMEOUT_S = 60.0
_VOLUME = ("--volume-driver=volplug", "--volume=db:/data")


def test_hosts_for_experiments_are_explained_follow_commands_and_are_removed_at_the_end() -> None:
    before = snapshot()
    command = [sys.executable, "-m", "tests.lab", "up", "--hosts=2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "")
            said = _until(lines, "Ctrl-C")
            on_a, on_b = (
                next(line.split()[0] for line in said if f"/on-{host} " in line) for host in ("a", "b")
            )
            _use([on_a, "docker"], "echo kept >/data/file && sync")
            process.stdin.write("stop a\n")
            process.stdin.flush()
            _until(lines, "stop a: done")
            assert _use([on_b, "docker"], "cat /data/file") == "kept\n"
            refused = subprocess.run([on_a, "true"], check=False, capture_output=True, text=True)
            assert refused.stderr == "host a is off\n"
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(_TIMEOUT_S) == 0
    assert settled_difference(before) == []


def _until(lines: Iterator[str], what: str) -> list[str]:
    said = [next(lines)]
    while what not in said[-1]:
        said.append(next(lines))
    return said


def _use(docker: list[str], script: str) -> str:
    command = [*docker, "run", "--rm", *_VOLUME, "busybox:local", "sh", "-c", script]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
