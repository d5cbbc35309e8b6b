"""The managed plugin in engines with other configurations, and within the limits that engines set."""

from pathlib import Path

import pytest

from tests.engine.pairs import MANAGED
from tests.engine.use import create, refusal, run, wait_until_released
from tests.lab.engine import Engine
from tests.lab.managed import ManagedVolplug

pytestmark = MANAGED

# Found before the real one; waits for a file of the host before it formats, as it would for a slow disk.
_SLOW_MKFS = """\
#!/bin/sh
echo "$$" >>/var/lib/formats
while [ ! -e /var/lib/continue ]; do sleep 0.05; done
exec mke2fs -t ext4 "$@"
"""


@pytest.mark.slow  # tests/faults shows that it is formatted once, whenever Docker gives up
def test_a_mount_that_takes_longer_than_the_default_limit_is_joined_by_the_retry(engine: Engine) -> None:
    """`docker plugin enable` without --timeout makes Docker give up each call after 30 s."""
    programs = _slow_mkfs(engine)
    plugin = ManagedVolplug(engine, binds={programs: "/usr/local/sbin"}).install().start()
    create(engine, "db")
    error = refusal(engine, "run", "--rm", "-v", "db:/data", "busybox:local", "true")
    assert "Client.Timeout exceeded" in error or "context deadline exceeded" in error
    (plugin.host_dir / "continue").touch()
    assert run(engine, "-v", "db:/data", script="echo kept >/data/file && cat /data/file") == "kept\n"
    assert len((plugin.host_dir / "formats").read_text().split()) == 1
    wait_until_released(engine, plugin)
    engine.docker("volume", "rm", "db")


def _slow_mkfs(engine: Engine) -> Path:
    """Make a directory with a mkfs.ext4 that waits for ``continue`` in the host directory of the plugin."""
    programs = engine.directory / "programs"
    programs.mkdir()
    program = programs / "mkfs.ext4"
    program.write_text(_SLOW_MKFS)
    program.chmod(0o755)
    return programs
