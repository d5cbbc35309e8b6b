"""How many commands of ZFS a call takes: the same with a thousand volumes as with one."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from pathlib import Path

import pytest

from tests.drivers.zfs.volumes import driver_of, spec_of
from tests.lab.requirements import ZFS
from tests.lab.zfs import run_program
from volplug.host.process import Finished

pytestmark = ZFS


class Counted:
    """Runs programs, and counts them."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    async def __call__(
        self, argv: Sequence[str], *, output_bytes: int, stdin: int | None = None, stdout: int | None = None
    ) -> Finished:
        self.commands.append(" ".join(argv[:2]))
        return await run_program(argv, output_bytes=output_bytes, stdin=stdin, stdout=stdout)

    async def of(self, call: Awaitable[object]) -> list[str]:
        """The commands of a call."""
        self.commands.clear()
        await call
        return list(self.commands)


async def _taken(parent: str, directory: Path) -> dict[str, list[str]]:
    """The commands that each call of a new driver takes: nothing is known to it but the ZFS of this host."""
    counted = Counted()
    driver = driver_of(parent, directory, run=counted)
    await driver.health()
    volume = await driver.create(spec_of("first"))
    taken = {
        "create": await counted.of(driver.create(spec_of("second"))),
        "list": await counted.of(driver.list()),
        "get": await counted.of(driver.get("first")),
        "get what is not there": await counted.of(driver.get("none")),
        "attach": await counted.of(driver.attach(volume)),
        "detach": await counted.of(driver.detach(volume)),
        "delete": await counted.of(driver.delete(volume)),
    }
    second = await driver.get("second")
    assert second is not None
    await driver.delete(second)
    return taken


@pytest.mark.parametrize(
    "number", [30, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
async def test_a_call_takes_no_more_commands_with_many_volumes(
    parent: str, tmp_path: Path, number: int
) -> None:
    alone = await _taken(parent, tmp_path)
    driver = driver_of(parent, tmp_path)
    for each in range(number):
        await driver.create(spec_of(f"v{each}"))
    assert len(await driver.list()) == number
    assert await _taken(parent, tmp_path) == alone
    assert alone["list"] == alone["get"] == ["zfs get"]
