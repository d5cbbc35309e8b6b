"""Builds the ZFS driver of a configured backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from volplug.drivers.base import BackendConfig
from volplug.drivers.zfs.attachments import Attachments
from volplug.drivers.zfs.driver import ZfsDriver, ZfsHost
from volplug.drivers.zfs.settings import load_settings
from volplug.host.process import Finished, ProgramStreams, run
from volplug.host.threads import Pool

_COMMANDS: Final = 32  # at once


def build(config: BackendConfig) -> ZfsDriver:
    """Build the driver of one configured backend.

    Raises:
        ConfigurationError: If a setting is wrong.
    """
    directory = config.state_dir / "backends"
    programs = Pool(f"{config.name}-zfs", _COMMANDS)

    async def run_program(
        argv: Sequence[str], *, output_bytes: int, stdin: int | None = None, stdout: int | None = None
    ) -> Finished:
        return await run(programs, argv, streams=ProgramStreams(output_bytes, stdin, stdout))

    host = ZfsHost(
        config.node_id,
        Attachments(directory / f"{config.name}.attached"),
        directory / f"{config.name}.staging",
        run_program,
        config.on_step,
    )
    return ZfsDriver(config.name, load_settings(config), host)
