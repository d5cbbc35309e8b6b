"""Runs in a guest: destroys a dataset as the driver does, and prints "destroyed" or the error.

Arguments are the dataset, and commands that run after the driver's last look at it.
"""

import asyncio
import subprocess
import sys
from collections.abc import Sequence

from volplug.drivers.zfs.capabilities import probe
from volplug.drivers.zfs.commands import Datasets
from volplug.drivers.zfs.tools import ZfsTools
from volplug.errors import CommandFailed, VolplugError
from volplug.host.process import Finished

_then: list[str] = []


async def _run(
    argv: Sequence[str], *, output_bytes: int, stdin: int | None = None, stdout: int | None = None
) -> Finished:
    assert (stdin, stdout) == (None, None)
    ended = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert len(ended.stdout) <= output_bytes
    if ended.returncode:
        raise CommandFailed(tuple(argv), ended.returncode, ended.stderr)
    if argv[1] == "get":
        while _then:
            subprocess.run(_then.pop(0).split(), check=True)
    return Finished(tuple(argv), 0, ended.stdout, ended.stderr)


async def main(dataset: str, commands: Sequence[str]) -> str:
    """Destroy it."""
    parent, _, name = dataset.rpartition("/")
    tools = ZfsTools(_run, 240)
    datasets = Datasets(tools, parent, await probe(tools))
    found = await datasets.find(name)
    assert found is not None
    _then.extend(commands)  # after the next look
    try:
        await datasets.destroy(found)
    except VolplugError as error:
        return f"{type(error).__name__}: {error.cause}"
    return "destroyed"


print(asyncio.run(main(sys.argv[1], sys.argv[2:])))  # noqa: T201 - that is its answer
