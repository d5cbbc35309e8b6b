"""An operator who types the commands of the documents on a machine of the lab."""

import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests import pages
from tests.lab.programs import checked

_AWS = """#!/bin/sh
AWS_ENDPOINT_URL="{endpoint}" PYTHONPATH={root} exec {python} -m tests.lab.aws "$@"
"""

Run = Callable[[Sequence[str]], subprocess.CompletedProcess[str]]


class Operator:
    """Runs documented commands, with the lab's names in place of the documents'.

    Args:
        run: Runs a program on the machine.
        names: What stands in the documents (paths, ids) to what it is called in the lab.
        programs: A directory for programs of the operator.
        endpoint: The URL of EC2; without one the command `aws` only checks what it is given.
    """

    def __init__(self, run: Run, names: Mapping[str, str], programs: Path, endpoint: str = "") -> None:
        self._run = run
        self._names = dict(names)
        self._programs = programs
        aws = programs / "aws"
        aws.write_text(_AWS.format(endpoint=endpoint, root=pages.ROOT, python=sys.executable))
        aws.chmod(0o755)

    def knows(self, names: Mapping[str, str]) -> None:
        """Replace further words."""
        self._names |= names

    def does(self, page: str, section: str, *which: int) -> str:
        """Run the scripts of a section in one shell, all or some by their numbers, and return the output."""
        scripts = pages.commands(page, section)
        return self.types("".join(scripts[number] for number in which or range(len(scripts))))

    def types(self, script: str) -> str:
        """Run a script, which has to succeed, and return its output."""
        return checked(self.tries(script)).stdout

    def tries(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script that may fail."""
        longest_first = sorted(self._names, key=len, reverse=True)
        if longest_first:
            words = re.compile("|".join(map(re.escape, longest_first)))
            script = words.sub(lambda match: self._names[match[0]], script)
        return self._run(["sh", "-euc", f'export PATH="{self._programs}:$PATH"\n{script}'])
