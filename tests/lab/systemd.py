"""A private systemd, in namespaces that see the files of this machine and change none."""

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import cgroups, lane
from tests.lab.programs import tail
from tests.lab.waiting import wait_until

_LANE = Path(__file__).with_name("lane.sh")
_REPOSITORY = Path(__file__).parents[2]
_STARTED_S = 60.0
# Arguments: a directory, and another of this machine that has to be seen inside.
_BOOT = """
mount -t tmpfs tmpfs "$1"
mkdir "$1/changed" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/changed,workdir=$1/work" overlay "$1/root"
cd "$1/root"
mkdir -p "./$2" .outside
for each in /dev /sys "$2"; do mount --rbind "$each" "./$each"; done
if [ ! -e /sys/fs/cgroup/cgroup.procs ]; then
    # systemd makes directories here, and then makes it read-only; this must not affect the machine.
    mount -t tmpfs tmpfs run
    for each in $(find /sys/fs/cgroup -mindepth 1 -maxdepth 1 -type d); do
        mkdir "run/${each##*/}"
        mount --bind "$each" "run/${each##*/}"
    done
    mount --move run sys/fs/cgroup
fi
mount -t proc proc proc
mount -t tmpfs tmpfs run
pivot_root . .outside
umount -l .outside
cd /
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target
"""


class Systemd:
    """The running systemd, and how to reach it.

    Attributes:
        root: Its root directory as seen from here.
    """

    def __init__(self, pid: int) -> None:
        self._enter = ["nsenter", f"--target={pid}", "--mount", "--pid", "--net", "--uts", "--cgroup"]
        self.root = Path(f"/proc/{pid}/root")

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a program inside and return its output, errors included."""
        command = [*self._enter, *argv]
        done = subprocess.run(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        assert not check or done.returncode == 0, done.stdout
        return done.stdout


@contextmanager
def booted() -> Iterator[Systemd]:
    """Boot it, and end it with all its processes."""
    directory = lane.new_directory()
    inside = ["unshare", "--pid", "--mount", "--ipc", "--fork", "--kill-child", "sh", "-euc", _BOOT, "boot"]
    command = ["sh", str(_LANE), str(directory / "lane"), *inside, str(directory), str(_REPOSITORY)]
    log = directory.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        first = _wait_for_first(process.pid, log)
        systemd = Systemd(first)
        wait_until(lambda: _is_up(systemd), _STARTED_S, "systemd is up")
        yield systemd
    finally:
        process.kill()
        process.wait()
        cgroups.remove_of_lanes(directory)
        (directory / "lane").rmdir()
        directory.rmdir()
        log.unlink()


def _wait_for_first(pid: int, log: Path) -> int:
    """Wait for systemd among the descendants of a process, and return its pid as seen from here."""
    found: list[int] = []

    def is_there() -> bool:
        with contextlib.suppress(OSError):  # a listed process has ended
            found.extend(
                each
                for each in _descendants(pid)
                if Path(f"/proc/{each}/comm").read_text().strip() == "systemd"
            )
        return bool(found)

    wait_until(is_there, _STARTED_S, f"systemd runs: {tail(log)}")
    return found[0]


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [each for child in map(int, children) for each in (child, *_descendants(child))]


def _is_up(systemd: Systemd) -> bool:
    return systemd.run("systemctl", "is-system-running", check=False).strip() in {"running", "degraded"}
