"""Running programs: their paths, environment, exit codes and output."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.lab.waiting import wait_until


class CommandError(RuntimeError):
    """A program in the lab failed where it had to succeed; the message shows its output."""

    def __init__(self, result: subprocess.CompletedProcess[str]) -> None:
        command = " ".join(str(word) for word in result.args)
        super().__init__(
            f"{command}\nended with {result.returncode}\n{result.stdout}{result.stderr}".rstrip()
        )
        self.result = result


def checked(result: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The result itself if the program succeeded; CommandError if not."""
    if result.returncode != 0:
        raise CommandError(result)
    return result


def find_program(name: str) -> str:
    """The absolute path of a program, searched in PATH and in the directories of root."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise RuntimeError(f"{name} is not installed; `make setup` as root installs it")
    return found


def settled(process: subprocess.Popen[bytes], timeout_s: float) -> int:
    """Wait for a process to end and return its code; a timeout names the process."""
    wait_until(lambda: process.poll() is not None, timeout_s, f"process {process.pid} ends: {process.args!r}")
    return int(process.returncode)


def tail(log: Path, lines: int = 40, without: str | None = None) -> str:
    """The last lines of a log file, for error messages; lines with ``without`` are left out."""
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return "(no log)"
    chosen = [line for line in text.splitlines() if without is None or without not in line]
    return "\n".join(chosen[-lines:]) or "(nothing)"


def clean_environment(**additional: str) -> dict[str, str]:
    """Our environment without variables that point Docker or volplug to the machine's own daemons."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "VOLPLUG_"))}
    kept["PATH"] = f"{kept.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
    return kept | additional
