"""The Docker Engines that the engine tests run on."""

import re
import subprocess
from dataclasses import dataclass

from tests.lab.programs import find_program
from tests.lab.systems import System, system


@dataclass(frozen=True)
class EngineVersion:
    """A version of Docker Engine, and the Debian release that has it."""

    number: str
    suite: str

    def system(self) -> System | None:
        """The system that it runs in: None for this machine itself, if its engine has this version."""
        return None if _own_version().startswith(f"{self.number}.") else system(self.suite)


def _own_version() -> str:
    shown = subprocess.run([find_program("dockerd"), "--version"], check=True, capture_output=True, text=True)
    found = re.match(r"Docker version (\S+?),?\s", shown.stdout)
    return found[1] if found else ""


DOCKER_20 = EngineVersion("20.10", "bookworm")
DOCKER_26 = EngineVersion("26.1", "trixie")
